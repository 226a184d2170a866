"""Pictures of the embedding: when, of what, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image

from simclr_lightning import EmbeddingPictures, LARSWarmup, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import embedding_pictures
from simclr_lightning.callbacks.picture_sample import PictureSample, picture_sample, thumbnails
from simclr_lightning.errors import InputError
from simclr_lightning.features import clean_features
from simclr_lightning.views import ViewRecipe

SMALL: dict[str, Any] = {"encoder": "resnet8", "width": 0.125, "stem": "pooled", "in_channels": 1}
KEYS = ["embedding-map", "embedding-neighbours", "embedding-similarities"]


def fit(
    callback: EmbeddingPictures, data: LightningDataModule, folder: Path, ckpt_path: Path | None = None, **settings: Any
) -> tuple[SimCLR, Trainer]:
    torch.manual_seed(0)
    model = SimCLR(**{**SMALL, "in_channels": getattr(data, "in_channels", 1)})
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 2,
            "limit_val_batches": 0,
            "logger": False,
            "log_every_n_steps": 1,
            "default_root_dir": folder,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [LARSWarmup(warmup_epochs=0), callback],
            **settings,
        }
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return model, trainer


def saved(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "pictures")) for path in folder.rglob("*.png"))


def unlabelled(data: SimCLRDataModule) -> SimCLRDataModule:
    data.setup("fit")
    data._splits = data.splits._replace(labelled=None, val=None, num_classes=None)
    targets: Any = data.splits.train.pictures.targets
    targets.fill_(-1)
    return data


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[PictureSample]:
    """What is drawn from, with pictures of one pixel in place of those that are drawn."""
    found: list[PictureSample] = []

    def noted(*arguments: Any, **settings: Any) -> PictureSample:
        found.append(picture_sample(*arguments, **settings))
        return found[-1]

    monkeypatch.setattr(embedding_pictures, "picture_sample", noted)
    for name in ("draw_map", "draw_neighbours", "draw_similarities"):
        monkeypatch.setattr(embedding_pictures, name, lambda *arguments, **settings: Image.new("RGB", (1, 1)))
    return found


class LikeWandb(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[tuple[str, Any]] = []

    def log_image(self, key: str, images: list[Any], step: int) -> None:
        self.pictures.append((key, step))


def test_they_are_kept_and_logged(tmp_path: Path) -> None:
    logger = LikeWandb()
    callback = EmbeddingPictures(pictures=40, queries=2, neighbours=3, thumbnails=True)
    fit(callback, SimCLRDataModule("digits", batch_size=32), tmp_path, logger=logger)
    assert logger.pictures == [(key.replace("-", "/"), 2) for key in KEYS]
    files = sorted(tmp_path.rglob("*.png"))
    assert [path.parent.name for path in files] == KEYS
    assert {path.name for path in files} == {"epoch=0-step=2.png"}
    for path in files:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert min(image.size) > 200
    assert not list(tmp_path.rglob("*.part"))


def test_features_are_those_of_evaluation(tmp_path: Path, samples: list[PictureSample]) -> None:
    data = SimCLRDataModule("digits", batch_size=32)
    model, _ = fit(EmbeddingPictures(pictures=70), data, tmp_path)
    plain = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    every = clean_features(plain, model, data, "train")
    assert every.indices is not None
    (sample,) = samples
    assert len(set(sample.indices.tolist())) == len(sample.targets) == 70
    places = [int((every.indices == index).nonzero()) for index in sample.indices]
    torch.testing.assert_close(sample.features, every.features[places])
    assert sample.targets.equal(every.targets[places])
    assert sample.projections.shape == (2, 70, 128)
    assert not sample.projections[0].equal(sample.projections[1]), "two views"
    assert sample.thumbnails.shape[:2] == (70, 3)


def test_they_are_due_every_few_epochs_and_at_the_end_and_not_again_when_resumed(
    tmp_path: Path, samples: list[PictureSample]
) -> None:
    def again(epochs: int, ckpt_path: Path | None = None) -> Trainer:
        data = SimCLRDataModule("digits", batch_size=32)
        callback = EmbeddingPictures(every_n_epochs=2, pictures=20)
        return fit(callback, data, tmp_path, ckpt_path, max_epochs=epochs)[1]

    trainer = again(3)
    expected = [f"{key}/epoch={epoch}-step={2 * epoch + 2}.png" for key in KEYS for epoch in (1, 2)]
    assert saved(tmp_path) == expected
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again(4, tmp_path / "last.ckpt")
    new = [f"{key}/epoch=3-step=8.png" for key in KEYS]
    assert saved(tmp_path) == sorted(expected + new)
    assert all(sample.indices.equal(samples[0].indices) for sample in samples), "one sample"


def test_training_is_left_alone(tmp_path: Path, samples: list[PictureSample]) -> None:
    weights = []
    for callback in (EmbeddingPictures(every_n_epochs=1, pictures=50), EmbeddingPictures(every_n_epochs=9)):
        model, _ = fit(callback, SimCLRDataModule("digits", batch_size=32), tmp_path, max_epochs=2)
        weights.append(model.state_dict())
    assert len(samples) == 3
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_without_labels(tmp_path: Path) -> None:
    callback = EmbeddingPictures(pictures=30, queries=3, similarities=False)
    fit(callback, unlabelled(SimCLRDataModule("digits", batch_size=32)), tmp_path)
    assert saved(tmp_path) == [f"{key}/epoch=0-step=2.png" for key in KEYS[:2]]


def five_channels() -> Any:
    return torch.utils.data.TensorDataset(torch.rand(24, 5, 20, 20), torch.arange(24) % 2)


def test_five_channels_few_pictures_half_precision(tmp_path: Path) -> None:
    data = SimCLRDataModule(
        five_channels, batch_size=8, views=ViewRecipe("multispectral", size=12, eval_size=16), val_fraction=0.2
    )
    callback = EmbeddingPictures(pictures=10**6, thumbnails=True, neighbours=50)
    fit(callback, data, tmp_path, precision="bf16-mixed")
    assert len(saved(tmp_path)) == 3


def test_thumbnails_show_what_was_there() -> None:
    images = torch.rand(3, 3, 8, 8)
    recipe = ViewRecipe("cifar10", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
    assert thumbnails((images - mean) / std, recipe).sub((images * 255).round()).abs().max() <= 1
    grey = thumbnails(images[:, :1].double(), None)
    assert grey[:, 0].equal(grey[:, 2])
    assert thumbnails(torch.rand(1, 3, 200, 100), None).shape == (1, 3, 64, 32)


def test_what_is_not_finite_is_not_drawn(tmp_path: Path) -> None:
    class Lost(SimCLR):
        def project(self, features: Any) -> Any:
            return super().project(features) * (1 if self.training else torch.nan)

    trainer = Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=1, limit_val_batches=0, logger=False,
        default_root_dir=tmp_path, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[LARSWarmup(warmup_epochs=0), EmbeddingPictures(pictures=20)],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="finite features"):
        trainer.fit(Lost(**SMALL), SimCLRDataModule("digits", batch_size=32))
    assert not saved(tmp_path)


def test_fast_dev_run_draws_nothing(tmp_path: Path) -> None:
    fit(EmbeddingPictures(), SimCLRDataModule("digits", batch_size=32), tmp_path, fast_dev_run=True)
    assert not list(tmp_path.rglob("*.png"))


def test_complaints() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    with pytest.raises(InputError, match="sample_dataloader"):
        EmbeddingPictures().on_fit_start(trainer, SimCLR(**SMALL))
    trainer.datamodule = SimCLRDataModule("digits")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="set similarities to false"):
        EmbeddingPictures().on_fit_start(trainer, LightningModule())
    wrong: list[dict[str, Any]] = [{"every_n_epochs": 0}, {"pictures": 1}, {"queries": -1}, {"neighbours": 0}]
    for settings in wrong:
        with pytest.raises(InputError, match=next(iter(settings))):
            EmbeddingPictures(**settings)
    with pytest.raises(InputError, match="no map by"):
        EmbeddingPictures(method="lda")  # type: ignore[arg-type]
