from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from simclr_lightning.data import FeatureBatch, LabelledDataModule, SimCLRDataModule, serving
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, centre_view, clean, crop_views

WriteTree = Callable[..., Path]
SMALL = ViewRecipe("cifar10", size=12, eval_size=16)
LABEL = {"a": 0, "b": 1}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:num_workers is")


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.training_batches: list[tuple[int, Any]] = []
        self.validation_batches: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.training_batches.append((self.current_epoch, batch))
        return self.weight * 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_batches.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.0)


def fit(data: LabelledDataModule, **options: Any) -> Recorder:
    module = Recorder()
    Trainer(**{**QUIET, "num_sanity_val_steps": 0, "max_epochs": 2, **options}).fit(module, data)
    return module


def ready(**arguments: Any) -> LabelledDataModule:
    data = LabelledDataModule(**arguments)
    data.setup("fit")
    return data


def pixels(data: LabelledDataModule) -> Tensor:
    pictures: Any = data.splits.train.pictures
    images: Tensor = pictures.images
    return images


@pytest.fixture
def photos(write_tree: WriteTree) -> Path:
    names = [
        f"{split}/{pet}/{i}.png" for split, number in (("train", 6), ("val", 3)) for pet in "ab" for i in range(number)
    ]
    return write_tree("photos", names)


def folder(root: Path, **arguments: Any) -> LabelledDataModule:
    defaults = {"views": SMALL, "batch_size": 4, "num_workers": 0}
    return LabelledDataModule("folder", root, **{**defaults, **arguments})


@pytest.mark.parametrize("augmentation", ["crop_flip", "simclr"])
def test_training_batches_hold_one_augmented_picture_each(augmentation: Any) -> None:
    recipe = ViewRecipe("digits", jitter=0.8, jitter_strength=0.5, flip=0.5)
    data = LabelledDataModule(batch_size=700, views=recipe, augmentation=augmentation)
    if augmentation == "crop_flip":
        recipe = replace(recipe, jitter=0.0, rotation=0.0, noise=0.0)
    batches = fit(data).training_batches
    assert len(batches) == 4
    for epoch, batch in batches:
        assert isinstance(batch, ViewBatch)
        assert batch.views == ()
        raw = ImageBatch(pixels(data)[batch.indices], None, batch.targets, batch.indices, epoch)
        assert batch.images is not None
        assert torch.equal(batch.images, ViewEngine(recipe)(raw)[0][0])
        assert torch.equal(batch.targets, data.splits.train.pictures.targets[batch.indices])


def test_without_augmentation_training_pictures_are_the_clean_ones_in_a_new_order() -> None:
    data = LabelledDataModule(batch_size=700, augmentation="none")
    batches = fit(data).training_batches
    for _, batch in batches:
        assert torch.equal(batch.images, clean(pixels(data)[batch.indices], data.recipe))
        assert batch.views == ()
    orders = [tuple(batch.indices.tolist()) for _, batch in batches]
    assert len(set(orders)) == 4


def test_loaders_crop_a_file_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = []

    def spy(*arguments: Any, **options: Any) -> Any:
        crops.append(crop_views(*arguments, **options))
        return crops[-1]

    monkeypatch.setattr(serving, "crop_views", spy)
    data = folder(photos)
    batches = fit(data, max_epochs=1).training_batches
    assert [crop.pixels.shape for (crop,) in crops] == [(1, 4, 3, 12, 12)] * 3  # and none for validation
    for (_, batch), (crop,) in zip(batches, crops, strict=True):
        assert torch.equal(batch.images, crop.pixels[0] / 255)  # crops and flips alone
        names = [data.splits.train.pictures.name(int(index)) for index in batch.indices]
        assert batch.targets.tolist() == [LABEL[Path(name).parent.name] for name in names]


def test_validation_test_and_prediction_have_clean_pictures(photos: Path) -> None:
    data = folder(photos)
    batches = fit(data, max_epochs=1).validation_batches
    val = data.splits.val
    assert val is not None
    assert torch.equal(batches[0].images[2], centre_view(val.pictures.read(2), SMALL) / 255)
    assert batches[0].images.shape == (4, 3, 16, 16)
    assert torch.cat([batch.targets for batch in batches]).tolist() == [0, 0, 0, 1, 1, 1]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batch = next(iter(loader))
        assert (batch.epoch, batch.clean) == (None, True)
    batch = next(iter(data.train_dataloader()))
    assert (batch.epoch, batch.clean) == (0, False)


def test_only_the_labels_that_may_be_used_are_served_and_as_many_of_every_class() -> None:
    data = LabelledDataModule(batch_size=20, label_fraction=0.1, augmentation="none")
    batches = fit(data).training_batches
    served = {int(index) for _, batch in batches for index in batch.indices}
    same = SimCLRDataModule(label_fraction=0.1)
    same.setup()
    assert same.splits.labelled is not None
    assert served <= set(same.splits.labelled.positions.tolist())
    assert data.num_pictures == 143
    counts = Counter(data.splits.train.pictures.targets.tolist())
    assert {counts[label] for label in range(10)} == {14, 15}
    assert all(bool((batch.targets >= 0).all()) for _, batch in batches)


def test_fewer_labels_than_the_batch_size_make_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    data = ready(batch_size=256, label_fraction=0.01)
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        loader = data.train_dataloader()
    assert loader.batch_size == len(next(iter(loader)).targets) == 14
    assert "14 labelled training pictures, fewer than batch_size (256): 14 of them" in caplog.text


def test_unlabelled_pictures_are_not_trained_on(write_tree: WriteTree) -> None:
    root = write_tree("unlabelled", ["1.png", "2.png"])
    with pytest.raises(ValueError, match=r"None of the training pictures has a label.*--data\.probe"):
        folder(root).setup("fit")
    probe = write_tree("labelled", ["cat/1.png", "cat/2.png", "dog/1.png"])
    data = folder(root, probe=probe)
    data.setup("fit")
    assert data.num_pictures == 3
    assert sorted(next(iter(data.train_dataloader())).targets.tolist()) == [0, 0, 1]


@pytest.mark.parametrize("cache", [False, True])
def test_label_list_names_the_pictures_to_train_on(write_tree: WriteTree, tmp_path: Path, cache: bool) -> None:
    root = write_tree("photos", [f"train/{pet}/{pet}{i}.png" for pet in "ab" for i in range(4)], side=10)
    (tmp_path / "list.txt").write_text("a1.png\ntrain/b/b3.png\nb0.png\n")
    data = folder(root, label_list=tmp_path / "list.txt", cache=cache)
    data.setup("fit")
    assert next(iter(data.train_dataloader())).indices.sort().values.tolist() == [1, 4, 7]
    assert data.splits.train.pictures.targets.tolist() == [-1, 0, -1, -1, 1, -1, -1, 1]
    assert data.hparams["label_list"] == str(tmp_path / "list.txt")


def test_listed_pictures_that_are_all_set_aside_are_an_error(write_tree: WriteTree, tmp_path: Path) -> None:
    root = write_tree("photos", [f"train/{pet}/{pet}{i}.png" for pet in "ab" for i in range(4)], side=10)
    aside = folder(root, val_fraction=0.5)
    aside.setup("fit")
    assert aside.splits.val is not None
    names = [aside.splits.val.pictures.name(position) for position in aside.splits.val.positions.tolist()]
    (tmp_path / "list.txt").write_text("\n".join(Path(name).name for name in names))
    with pytest.raises(ValueError, match=r"set aside for validation \(--data\.val_fraction\)"):
        folder(root, val_fraction=0.5, label_list=tmp_path / "list.txt").setup("fit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"augmentation": "crop"}, "augmentation is 'crop': choose crop_flip, none, simclr"),
        ({"label_list": "list.txt", "label_fraction": 0.1}, "leave label_fraction and probe out"),
        ({"label_list": "list.txt", "probe": "photos"}, "leave label_fraction and probe out"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledDataModule(**arguments)


def test_colour_matters_only_where_it_is_used() -> None:
    ready(views=ViewRecipe("cifar10")).train_dataloader()  # crop and flip of grey pictures
    with pytest.raises(ValueError, match=r"1 channel.*saturation, hue, grey to 0"):
        ready(views=ViewRecipe("cifar10"), augmentation="simclr").train_dataloader()


def rows(data: LabelledDataModule, split: Any, width: int = 3) -> FeatureBatch:
    batches = list(data.clean_dataloader(split))
    targets, indices = (torch.cat(values) for values in zip(*((b.targets, b.indices) for b in batches), strict=True))
    return FeatureBatch(indices[:, None].expand(-1, width).float(), targets, indices)


def test_served_features_come_in_the_order_of_the_pictures() -> None:
    pictures = fit(LabelledDataModule(batch_size=100, augmentation="none", label_fraction=0.5))
    data = ready(batch_size=100, augmentation="none", label_fraction=0.5)
    data.serve_features(rows(data, "train"), rows(data, "val"))
    served = fit(data)
    assert len(served.training_batches) == 14
    for (_, batch), (_, expected) in zip(served.training_batches, pictures.training_batches, strict=True):
        assert isinstance(batch, FeatureBatch)
        assert torch.equal(batch.indices, expected.indices)
        assert torch.equal(batch.targets, expected.targets)
        assert torch.equal(batch.features[:, 2], expected.indices.float())
    assert sum(len(batch.targets) for batch in served.validation_batches) == 2 * 360
    assert all(isinstance(batch, FeatureBatch) for batch in served.validation_batches)
    data.serve_pictures()
    assert isinstance(next(iter(data.train_dataloader())), ImageBatch)


def test_features_that_cannot_be_right_are_refused() -> None:
    data = ready(label_fraction=0.1)
    with pytest.raises(ValueError, match=r"augmentation is crop_flip: the pictures change"):
        data.serve_features(rows(data, "train"))
    data = ready(label_fraction=0.1, augmentation="none")
    with pytest.raises(ValueError, match="There are 143 train pictures, but features of 360"):
        data.serve_features(rows(data, "val"))
    assert isinstance(next(iter(data.train_dataloader())), ImageBatch)


def test_a_checkpoint_holds_primitives_only(tmp_path: Path) -> None:
    data = LabelledDataModule(batch_size=700, augmentation="none")
    trainer = Trainer(**{**QUIET, "max_steps": 1, "limit_val_batches": 0})
    trainer.fit(Recorder(), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    again = LabelledDataModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert saved["augmentation"] == again.augmentation == "none"
    assert again.recipe == data.recipe


def test_pictures_of_another_data_module_are_served(photos: Path) -> None:
    source = SimCLRDataModule("folder", photos, views=SMALL, num_workers=0, on_bad_picture="skip", label_fraction=0.5)
    source.setup("fit")
    labelled = source.splits.labelled
    assert labelled is not None
    own = LabelledDataModule.of(
        source, torch.tensor([0, 3, 5]), batch_size=2, seed=7, test=source.splits.val, augmentation="simclr"
    )
    assert (own.recipe, own.on_bad_picture, own.num_workers, own.seed, own.batch_size) == (SMALL, "skip", 0, 7, 2)
    assert (own.num_pictures, own.num_classes, own.class_names, own.metric) == (3, 2, ["a", "b"], "top1")
    served = fit(own, max_epochs=4).training_batches
    assert {int(index) for _, batch in served for index in batch.indices} == set(labelled.positions[[0, 3, 5]].tolist())
    assert torch.cat([batch.targets for batch in own.test_dataloader()]).tolist() == [0, 0, 0, 1, 1, 1]
    assert own.splits.train.pictures is source.splits.train.pictures
    same = LabelledDataModule("folder", photos, views=SMALL, num_workers=0, batch_size=2, seed=7, augmentation="simclr")
    raw = next(iter(own.train_dataloader()))
    expected = ViewEngine(replace(SMALL, count=1), seed=7)(raw)[0][0]
    assert torch.equal(served[0][1].images, expected)
    assert same.recipe == own.recipe


def test_pictures_without_labels_cannot_be_served(write_tree: WriteTree) -> None:
    source = SimCLRDataModule("folder", write_tree("photos", ["1.png", "2.png"]))
    source.setup("fit")
    with pytest.raises(InputError, match="None of the training pictures has a label"):
        LabelledDataModule.of(source, torch.arange(1), batch_size=1, seed=0, test=None)


@pytest.mark.filterwarnings("ignore:Cannot read the picture", "ignore:1 of these 12 pictures cannot be read")
def test_features_of_an_unreadable_picture_are_not_learned_from(photos: Path) -> None:
    (photos / "train/b/0.png").write_bytes(b"")
    options: Any = {"augmentation": "none", "on_bad_picture": "skip", "batch_size": 12}
    pictures = fit(folder(photos, **options), max_epochs=1).training_batches
    data = folder(photos, **options)
    data.setup("fit")
    features = rows(data, "train")
    assert (features.targets < 0).sum() == 1
    data.serve_features(features)
    served = fit(data, max_epochs=1).training_batches
    for (_, batch), (_, expected) in zip(served, pictures, strict=True):
        assert torch.equal(batch.targets, expected.targets)
        assert torch.equal(batch.indices, expected.indices)
