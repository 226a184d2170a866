"""Features by the Trainer: clean, frozen, labelled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.evaluation import SimCLRTrainer
from simclr_lightning.features import Features, RawPixels, clean_features, encode

Make = Callable[..., Any]


class Batch(NamedTuple):
    images: Tensor
    targets: Tensor


class IndexedBatch(NamedTuple):
    images: Tensor
    targets: Tensor
    indices: Tensor


def images_of(datamodule: Any, split: str) -> torch.Tensor:
    return torch.cat([batch.images for batch in datamodule.clean_dataloader(split)]).float() / 100


def test_features_are_those_of_the_encoder_in_evaluation_mode(trainer: Make, columns: Make, pictures: Make) -> None:
    model, datamodule = columns(), pictures()
    model.train()
    features = clean_features(trainer(), model, datamodule, "test")
    with torch.no_grad():
        expected = model.eval().encoder(images_of(datamodule, "test"))
    assert torch.equal(features.features, expected)
    assert features.targets.tolist() == [number % 3 for number in range(30)]


def test_encoder_and_batchnorm_buffers_stay_bit_equal(trainer: Make, columns: Make, pictures: Make) -> None:
    model = columns().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    clean_features(trainer(), model, pictures(), "train")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_encoder_is_in_evaluation_mode_without_gradients(trainer: Make, columns: Make, pictures: Make) -> None:
    seen: list[tuple[bool, bool]] = []

    class Watching(type(columns())):  # type: ignore[misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append((self.encoder.training, torch.is_grad_enabled()))
            return super().predict_step(batch, batch_idx)

    clean_features(trainer(), Watching().train(), pictures(), "test")
    assert set(seen) == {(False, False)}


def test_precision_is_the_trainers_and_features_are_float32(trainer: Make, columns: Make, pictures: Make) -> None:
    model, datamodule = columns(), pictures()
    exact = clean_features(trainer(), model, datamodule, "test").features
    mixed = clean_features(trainer(precision="bf16-mixed"), model, datamodule, "test").features
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, exact)
    assert torch.allclose(mixed, exact, rtol=0.02, atol=0.02)


def test_raw_pixels_are_the_clean_pictures(trainer: Make, pictures: Make) -> None:
    datamodule = pictures()
    features = clean_features(trainer(), RawPixels(), datamodule, "train")
    assert torch.equal(features.features, images_of(datamodule, "train").flatten(1))


def test_large_pictures_have_no_raw_pixels(trainer: Make, pictures: Make) -> None:
    datamodule = pictures({"test": 3}, size=111)  # 111 * 111 is the first above 64 * 64 * 3
    assert clean_features(trainer(), RawPixels(), datamodule, "test").features.shape == (3, 0)


def test_unlabelled_pictures_are_left_out(trainer: Make, pictures: Make) -> None:
    class PartlyLabelled(type(pictures())):  # type: ignore[misc]
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            return batch._replace(targets=batch.targets.where(batch.indices % 2 == 0, -1))

    datamodule = PartlyLabelled({"train": 20})
    features = clean_features(trainer(), RawPixels(), datamodule, "train")
    assert features.targets.tolist() == [number % 3 for number in range(0, 20, 2)]
    assert torch.equal(features.features, images_of(datamodule, "train").flatten(1)[::2])


def test_pictures_without_labels_are_an_error(trainer: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match=r"None of the 60 train pictures has a label.*--data.probe"):
        clean_features(trainer(), RawPixels(), pictures(labelled=False), "train")


def test_an_empty_split_is_an_error(trainer: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match="no test pictures to evaluate on"):
        clean_features(trainer(), RawPixels(), pictures({"test": 0}), "test")


def test_a_model_that_predicts_something_else_is_an_error(trainer: Make, pictures: Make) -> None:
    class Bare(LightningModule):
        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return torch.zeros(len(batch.targets))

    with pytest.raises(TypeError, match=r"Bare\.predict_step must return a dictionary .* got a Tensor"):
        clean_features(trainer(), Bare(), pictures(), "test")


def test_every_batch_hook_of_the_data_module_is_used(trainer: Make, columns: Make, pictures: Make) -> None:
    called: list[str] = []

    class Hooked(type(pictures())):  # type: ignore[misc]
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            called.append("before")
            return super().on_before_batch_transfer(batch, dataloader_idx)

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            called.append("transfer")
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            called.append("after")
            return super().on_after_batch_transfer(batch, dataloader_idx)

    datamodule: LightningDataModule = Hooked({"test": 14})
    own: SimCLRTrainer = trainer()
    clean_features(own, columns(), datamodule, "test")
    assert called == ["before", "transfer", "after"] * 2
    assert datamodule.trainer is own


class Predicted(LightningDataModule):
    """The same clean pictures, as what a Trainer predicts on."""

    def __init__(self, datamodule: SimCLRDataModule) -> None:
        super().__init__()
        self.datamodule = datamodule

    def predict_dataloader(self) -> Any:
        return self.datamodule.clean_dataloader("val")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.datamodule.on_after_batch_transfer(batch, dataloader_idx)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_features_are_bit_equal_to_those_that_a_trainer_predicts(
    trainer: Make, pretrained: Callable[..., SimCLR], precision: Any
) -> None:
    datamodule = SimCLRDataModule(batch_size=100)
    datamodule.setup()
    model = pretrained(micro_batch_size=64)
    found = clean_features(trainer(precision=precision), copy.deepcopy(model), datamodule, "val")
    expected = trainer(precision=precision).predict(model, Predicted(datamodule))
    assert torch.equal(found.features, torch.cat([batch["features"] for batch in expected]).float())
    assert found.indices is not None
    assert torch.equal(found.indices, torch.cat([batch["indices"] for batch in expected]))


def test_an_encoder_needs_no_module_of_lightning(trainer: Make, columns: Make, pictures: Make) -> None:
    model, datamodule = columns(), pictures()
    features = clean_features(trainer(), model.encoder.train(), datamodule, "test")
    assert torch.equal(features.features, clean_features(trainer(), model, datamodule, "test").features)
    assert model.encoder.training


def test_every_part_of_the_module_keeps_its_mode(trainer: Make, columns: Make, pictures: Make) -> None:
    model = columns().train()
    model.encoder[1].eval()
    clean_features(trainer(), model, pictures(), "test")
    assert [part.training for part in model.encoder] == [True, False, True]


def test_a_trainer_that_has_fitted_another_module_will_do(
    trainer: Make, pretrained: Callable[..., SimCLR], columns: Make, pictures: Make
) -> None:
    own: Trainer = trainer(max_steps=1, limit_val_batches=0)
    own.fit(pretrained(), SimCLRDataModule(batch_size=64))
    model, datamodule = columns(), pictures()
    expected = clean_features(trainer(), model, datamodule, "test")
    assert torch.equal(clean_features(own, model, datamodule, "test").features, expected.features)


def test_a_module_that_is_completed_by_its_hooks_is_completed(trainer: Make, pictures: Make) -> None:
    class Late(LightningModule):
        encoder: nn.Module

        def configure_model(self) -> None:
            if not hasattr(self, "encoder"):
                self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))

        def setup(self, stage: str) -> None:
            assert self.trainer.max_epochs == 3
            self.stage = stage

        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            assert self.stage == "predict"
            return {"features": self.encoder(batch.images)}

    assert clean_features(trainer(max_epochs=3), Late(), pictures(), "test").features.shape == (30, 2)


def test_the_modules_batch_hooks_serve_where_the_data_module_has_none(trainer: Make, columns: Make) -> None:
    class Bare(LightningDataModule):
        def clean_dataloader(self, split: str) -> Any:
            return [Batch(torch.ones(2, 1, 4, 4), torch.arange(2))]

    class Doubling(type(columns())):  # type: ignore[misc]
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch._replace(images=2 * batch.images)

        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            return {"features": batch.images.flatten(1)}

    features = clean_features(trainer(), Doubling(), Bare(), "test")
    assert torch.equal(features.features, torch.full((2, 16), 2.0))
    assert features.indices is None


def test_unlabelled_pictures_may_be_kept(trainer: Make, pictures: Make) -> None:
    features = clean_features(trainer(), RawPixels(), pictures(labelled=False), "train", unlabelled=True)
    assert features.targets.tolist() == [-1] * 60
    assert features.indices is not None
    assert features.indices.tolist() == list(range(60))


class SeveralClasses:
    """A data set whose second picture cannot be read: the loader serves another in its place, without a label."""

    def __init__(self) -> None:
        multi_targets = torch.tensor([[1, 0], [1, 1], [-1, 0], [0, 0]])
        self.pictures = SimpleNamespace(targets=torch.tensor([0, 0, -1, -1]), multi_targets=multi_targets)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> IndexedBatch:
        if place:
            raise IndexError
        return IndexedBatch(torch.rand(4, 1, 4, 4), torch.tensor([0, -1, -1, -1]), torch.arange(4))


def test_pictures_of_several_classes_have_them_all_unless_they_were_skipped(trainer: Make) -> None:
    class Several(LightningDataModule):
        def clean_dataloader(self, split: str) -> Any:
            return DataLoader(SeveralClasses(), batch_size=None)  # type: ignore[arg-type]

    features = clean_features(trainer(), RawPixels(), Several(), "test")
    assert features.targets.tolist() == [[1, 0], [-1, 0], [0, 0]]
    assert features.indices is not None
    assert features.indices.tolist() == [0, 2, 3]


def test_taking_keeps_rows_together() -> None:
    features = Features(torch.arange(4.0)[:, None], torch.arange(4), torch.arange(4) + 10)
    taken = features.take(torch.tensor([3, 1]))
    assert taken.features[:, 0].tolist() == taken.targets.tolist() == [3, 1]
    assert taken.indices is not None
    assert taken.indices.tolist() == [13, 11]


def test_encoding_pictures_leaves_the_module_alone_also_after_an_error() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.BatchNorm1d(2)).train()
    with pytest.raises(RuntimeError):
        encode(encoder, torch.rand(2, 1, 5, 5))
    assert encoder.training
    assert torch.is_grad_enabled()
    mixed = encode(encoder, torch.rand(2, 1, 4, 4), precision=torch.autocast("cpu", torch.bfloat16))
    assert not mixed.requires_grad
    assert int(encoder.get_buffer("2.num_batches_tracked")) == 0
