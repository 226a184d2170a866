from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import Tensor

from simclr_lightning.data import VALIDATION_EPOCH, BadPictureError, SimCLRDataModule
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, centre_view, clean

WriteTree = Callable[..., Path]
SMALL = ViewRecipe("cifar10", size=12)
GREY, GREY_SMALL = ViewRecipe("grayscale", size=12), ViewRecipe("grayscale", size=8, count=3)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


# On machines with many cores Lightning advises workers, on those with few we advise against them; it doubts that there
# should be nothing to validate on. Neither can be told to it, and a library leaves the filters of warnings alone.
# LightningCLI uses what jsonargparse has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:num_workers is",
    "ignore:Total length of `list` across ranks is zero",
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",
)


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.training_batches: dict[tuple[int, int], ViewBatch] = {}
        self.validation_batches: list[ViewBatch] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        assert torch.is_grad_enabled()
        key = (int(self.trainer.fit_loop.epoch_progress.current.processed), batch_idx)  # type: ignore[attr-defined]
        assert key not in self.training_batches
        self.training_batches[key] = batch
        return self.weight * batch.views[0].mean().to(self.weight)

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.validation_batches.append(batch)

    def test_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.validation_batches.append(batch)

    def predict_step(self, batch: ViewBatch, batch_idx: int) -> ViewBatch:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.0)


def fit(data: SimCLRDataModule, *, ckpt_path: Path | None = None, **options: Any) -> Recorder:
    module = Recorder()
    Trainer(**{**QUIET, "max_epochs": 2, **options}).fit(module, data, ckpt_path=ckpt_path)
    return module


def saving(folder: Path, **every: Any) -> dict[str, Any]:
    checkpoints = ModelCheckpoint(folder, "{step}", save_top_k=-1, save_on_train_epoch_end=True, **every)
    return {"callbacks": [checkpoints], "enable_checkpointing": True}


def ready(**arguments: Any) -> SimCLRDataModule:
    data = SimCLRDataModule(**arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def equal(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def assert_same(first: dict[tuple[int, int], ViewBatch], second: dict[tuple[int, int], ViewBatch]) -> None:
    assert first.keys() == second.keys()
    for key, batch in first.items():
        assert torch.equal(batch.indices, second[key].indices), key
        assert equal(batch.views, second[key].views), key


@pytest.fixture
def photos(write_tree: WriteTree) -> Path:
    names = [
        f"{split}/{pet}/{i}.png" for split, number in (("train", 6), ("val", 3)) for pet in "ab" for i in range(number)
    ]
    return write_tree("photos", names)


def folder(root: Path, **arguments: Any) -> SimCLRDataModule:
    defaults = {"views": SMALL, "batch_size": 4, "num_workers": 0}
    return SimCLRDataModule("folder", root, **{**defaults, **arguments})


def test_defaults_are_the_embedded_digits() -> None:
    data = ready()
    assert (data.num_pictures, data.num_classes, data.in_channels, data.batch_size) == (1437, 10, 1, 256)
    assert data.class_names == [*"0123456789"]
    assert data.recipe == ViewRecipe("digits")
    assert len(data.train_dataloader()) == 1437 // 256
    assert data.probe_dataloader() is None


def test_nothing_is_known_before_setup_but_the_recipe_and_the_channels() -> None:
    data = SimCLRDataModule("cifar10")
    assert data.recipe == ViewRecipe("cifar10")
    assert data.in_channels == 3
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\)"):
        _ = data.num_pictures


@pytest.mark.parametrize(
    ("views", "expected"),
    [(None, ViewRecipe("cifar10")), ("stl10", ViewRecipe("stl10")), (SMALL, SMALL), (ViewRecipe("article"),) * 2],
)
def test_views(views: Any, expected: ViewRecipe) -> None:
    assert SimCLRDataModule("cifar10", views=views).recipe == expected


def test_views_of_several_sizes(photos: Path) -> None:
    recipes = [SMALL, ViewRecipe("cifar10", size=8, count=3)]
    for data in (folder(photos, views=recipes), SimCLRDataModule(batch_size=4, views=[GREY, GREY_SMALL])):
        module = fit(data, max_epochs=1, limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0)
        batch, judged = module.training_batches[0, 0], module.validation_batches[0]
        channels = data.in_channels
        for shown_batch in (batch, judged):
            shapes = [tuple(views.shape) for views in shown_batch.views]
            assert shapes == [(2, 4, channels, 12, 12), (3, 4, channels, 8, 8)]
        assert judged.images is not None
        assert judged.images.shape[-1] == 12
        assert data.recipe == data.recipes[0]


def test_views_of_a_list_that_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"list of view recipes is empty.*--data\.views"):
        SimCLRDataModule(views=[])
    data = ready(views=[GREY, ViewRecipe("cifar10")])
    with pytest.raises(InputError, match=r"1 channel.*saturation, hue, grey to 0"):
        data.train_dataloader()


def test_unknown_preset_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"imagnet.*imagenet"):
        SimCLRDataModule(views="imagnet")


def test_recipe_with_the_default_preset_where_another_fits_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"views of cifar10 are based on imagenet.*--data\.views\.preset cifar10"):
        SimCLRDataModule("cifar10", views=ViewRecipe(size=32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -8}, "batch_size is -8"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"val_fraction": -0.1}, "val_fraction is -0.1"),
        ({"label_fraction": 0.0}, "label_fraction is 0.0"),
        ({"label_fraction": 1.1}, "label_fraction is 1.1"),
        ({"on_bad_picture": "ignore"}, "on_bad_picture is 'ignore'"),
        ({"seed": -1}, "seed is -1"),
        ({"dataset": "cifar11"}, "Unknown data set 'cifar11'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimCLRDataModule(**arguments)


@pytest.mark.parametrize(
    ("batch_size", "message"), [(1, "batches of 1"), (1438, "but there are 1437 training pictures.*batch_size 1437")]
)
def test_batch_size_that_does_not_fit(batch_size: int, message: str) -> None:
    data = ready(batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        data.train_dataloader()


def test_one_picture_only(write_tree: WriteTree) -> None:
    data = folder(write_tree("photos", ["a.png"]))
    data.setup("fit")
    with pytest.raises(ValueError, match=r"There are 1 training picture\(s\).*two at least"):
        data.train_dataloader()


def test_recipe_that_does_not_fit_the_channels() -> None:
    data = ready(views=ViewRecipe("cifar10"))
    with pytest.raises(ValueError, match=r"1 channel.*saturation, hue, grey to 0"):
        data.train_dataloader()


def test_training_batches_are_views_of_the_pictures_on_the_device() -> None:
    data = SimCLRDataModule(batch_size=512)
    module = fit(data)
    assert set(module.training_batches) == {(epoch, step) for epoch in (0, 1) for step in (0, 1)}
    pictures: Any = data.splits.train.pictures
    for (epoch, _), batch in module.training_batches.items():
        assert [views.shape for views in batch.views] == [(2, 512, 1, 16, 16)]
        assert batch.images is None
        images = pictures.images[batch.indices]
        expected = ViewEngine(data.recipe)(ImageBatch(images, None, batch.targets, batch.indices, epoch))
        assert equal(batch.views, expected)
        assert torch.equal(batch.targets, pictures.targets[batch.indices])


def test_order_differs_between_epochs_and_seeds() -> None:
    orders = []
    for seed in (0, 1):
        batches = fit(SimCLRDataModule(batch_size=700, seed=seed)).training_batches
        orders += [torch.cat([batches[epoch, step].indices for step in (0, 1)]).tolist() for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(len(set(order)) == 1400 for order in orders)


def test_validation_gives_clean_pictures_labels_and_the_same_views_each_time() -> None:
    data = SimCLRDataModule(batch_size=256)
    module = fit(data, limit_train_batches=1, num_sanity_val_steps=0)
    (first, second), again = module.validation_batches[:2], module.validation_batches[2:]
    assert len(first.targets) + len(second.targets) == 360
    assert equal(first.views, again[0].views)
    assert torch.equal(first.targets, again[0].targets)
    assert first.images is not None
    val = data.splits.val
    assert val is not None
    pictures: Any = val.pictures
    assert torch.equal(first.images, clean(pictures.images[:256], data.recipe))
    (views,) = first.views
    assert views.shape == (2, 256, 1, 16, 16)
    assert not torch.equal(views[0], views[1])
    training = ViewEngine(data.recipe)(ImageBatch(pictures.images[:256], None, first.targets, first.indices, epoch=0))
    assert not equal(first.views, training)


def test_files_give_the_same_kinds_of_batches(photos: Path) -> None:
    data = folder(photos)
    module = fit(data, max_epochs=1, num_sanity_val_steps=0)
    assert len(module.training_batches) == 3
    assert {len(batch.targets) for batch in module.training_batches.values()} == {4}
    batch = module.validation_batches[0]
    assert [views.shape for views in batch.views] == [(2, 4, 3, 12, 12)]
    assert batch.images is not None
    val = data.splits.val
    assert val is not None
    assert torch.equal(batch.images[2], centre_view(val.pictures.read(2), SMALL) / 255)
    assert torch.cat([batch.targets for batch in module.validation_batches]).tolist() == [0, 0, 0, 1, 1, 1]


def test_workers_do_not_change_the_views(photos: Path) -> None:
    helped = fit(folder(photos, num_workers=2), limit_val_batches=0)
    assert_same(fit(folder(photos), limit_val_batches=0).training_batches, helped.training_batches)


EPOCHS, STEPS = {"max_epochs": 3}, {"max_steps": 9, "max_epochs": -1}


@pytest.mark.parametrize(
    ("workers", "horizon", "every", "done"),
    [
        (0, EPOCHS, {"every_n_train_steps": 5}, 5),
        (1, EPOCHS, {"every_n_train_steps": 5}, 5),
        (1, EPOCHS, {"every_n_epochs": 1}, 6),
        (1, STEPS, {"every_n_train_steps": 5}, 5),
    ],
)
def test_resumed_run_sees_what_an_uninterrupted_one_sees(
    photos: Path, tmp_path: Path, workers: int, horizon: dict[str, Any], every: dict[str, Any], done: int
) -> None:
    def run(ckpt_path: Path | None = None) -> Recorder:
        data = folder(photos, num_workers=workers)  # three steps an epoch
        return fit(data, ckpt_path=ckpt_path, limit_val_batches=0, **saving(tmp_path, **every), **horizon)

    whole, resumed = run(), run(tmp_path / f"step={done}.ckpt")
    expected = {key: batch for number, (key, batch) in enumerate(whole.training_batches.items()) if number >= done}
    assert len(expected) == 9 - done
    assert_same(expected, resumed.training_batches)


def test_resumed_between_epochs_in_memory_with_max_steps(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> list[ViewBatch]:
        data = SimCLRDataModule(batch_size=700)  # two steps an epoch
        options = {**saving(tmp_path, every_n_epochs=1), "max_steps": 3, "max_epochs": -1}
        return list(fit(data, ckpt_path=ckpt_path, limit_val_batches=0, **options).training_batches.values())

    whole, resumed = run(), run(tmp_path / "step=2.ckpt")
    assert equal(whole[2].views, resumed[0].views)


def test_resumed_within_an_epoch_in_memory(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> Recorder:
        data = SimCLRDataModule(batch_size=300)  # four steps an epoch
        every = saving(tmp_path, every_n_train_steps=6)
        return fit(data, ckpt_path=ckpt_path, limit_val_batches=0, max_epochs=3, **every)

    whole, resumed = run(), run(tmp_path / "step=6.ckpt")
    expected = {key: batch for number, (key, batch) in enumerate(whole.training_batches.items()) if number >= 6}
    assert len(expected) == 6
    assert_same(expected, resumed.training_batches)


class Process:
    """Stands in for the trainer of one of several processes."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.global_rank = rank
        self.world_size = world_size
        self.num_devices = world_size
        self.strategy = Trainer(**QUIET).strategy
        self.precision_plugin = self.strategy.precision_plugin


def of_process(rank: int, world_size: int, **arguments: Any) -> SimCLRDataModule:
    data = ready(**arguments)
    data.trainer = Process(rank, world_size)  # type: ignore[assignment]
    return data


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batch_that_one_process_would_see(world_size: int) -> None:
    alone = of_process(0, 1, batch_size=64)
    several = [of_process(rank, world_size, batch_size=64) for rank in range(world_size)]
    loaders = [data.train_dataloader() for data in several]
    assert {len(loader) for loader in loaders} == {len(alone.train_dataloader())}
    for whole, *parts in zip(alone.train_dataloader(), *loaders, strict=True):
        assert {len(part.targets) for part in parts} == {64 // world_size}
        assert sorted(torch.cat([part.indices for part in parts]).tolist()) == sorted(whole.indices.tolist())
        views = {
            index: view
            for data, part in zip(several, parts, strict=True)
            for index, view in zip(part.indices.tolist(), shown(data, part).views[0].unbind(1), strict=True)
        }
        (expected,) = shown(alone, whole).views
        assert all(torch.equal(views[index], expected[:, n]) for n, index in enumerate(whole.indices.tolist()))


def shown(data: SimCLRDataModule, batch: ImageBatch) -> ViewBatch:
    result = data.on_after_batch_transfer(batch, 0)
    assert isinstance(result, ViewBatch)
    return result


def test_evaluation_in_several_processes_labels_every_picture_once() -> None:
    found: list[int] = []
    lengths = set()
    for rank in range(3):
        batches = list(of_process(rank, 3, batch_size=99).clean_dataloader("test"))
        lengths.add(tuple(len(batch.targets) for batch in batches))
        found += [i for batch in batches for i in batch.indices[batch.targets >= 0].tolist()]
    assert sorted(found) == list(range(360))
    assert lengths == {(33, 33, 33, 21)}


@pytest.mark.parametrize(("batch_size", "choice"), [(100, "99 or 102"), (2, "3 or 6")])
def test_batch_that_cannot_be_shared(batch_size: int, choice: str) -> None:
    data = of_process(0, 3, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}.* by 3 of them: choose {choice}"):
        data.train_dataloader()


def test_clean_loaders_give_labels_and_no_views(photos: Path) -> None:
    data = folder(photos)
    data.setup("fit")
    for split, number in (("train", 12), ("val", 6), ("test", 6)):
        batches = [shown(data, batch) for batch in data.clean_dataloader(split)]  # type: ignore[arg-type]
        assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(number))
        assert torch.cat([batch.targets for batch in batches]).tolist() == [0] * (number // 2) + [1] * (number // 2)
        assert batches[0].views == ()
        assert batches[0].images is not None
        assert batches[0].images.shape == (4, 3, 12, 12)


def test_clean_batches_can_be_sent_by_callbacks_during_training() -> None:
    seen = []

    class Probing(Recorder):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            for clean_batch in data.clean_dataloader("test"):
                seen.append(self.trainer.strategy.batch_to_device(clean_batch, dataloader_idx=0))
                break

    Trainer(**QUIET, max_epochs=1, limit_train_batches=1).fit(Probing(), SimCLRDataModule(batch_size=16))
    assert seen[0].views == ()
    assert seen[0].images.shape == (16, 1, 16, 16)


def test_probe_of_unlabelled_pictures(photos: Path, write_tree: WriteTree) -> None:
    data = folder(write_tree("unlabelled", ["1.png", "2.png", "3.png", "4.png"]), probe=photos)
    data.setup("fit")
    assert (data.num_pictures, data.num_classes, data.class_names) == (4, 2, ["a", "b"])
    probe = data.probe_dataloader()
    assert probe is not None
    orders = []
    for epoch in (0, 1):
        probe.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches = list(probe)
        assert {(batch.epoch, batch.clean) for batch in batches} == {(None, True)}
        orders.append(torch.cat([batch.indices for batch in batches]).tolist())
        assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == [0] * 6 + [1] * 6
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    module = fit(data, max_epochs=1, num_sanity_val_steps=0)
    assert set(module.training_batches[0, 0].targets.tolist()) == {-1}
    assert torch.cat([batch.targets for batch in module.validation_batches]).tolist() == [0, 0, 0, 1, 1, 1]


def test_probe_where_few_labels_may_be_used() -> None:
    data = ready(label_fraction=0.01)
    probe = data.probe_dataloader()
    assert probe is not None
    assert sum(len(batch.targets) for batch in probe) == 14
    assert sum(len(batch.targets) for batch in data.clean_dataloader("train")) == 14
    assert data.num_pictures == 1437
    shown_labels = sum(int((batch.targets >= 0).sum()) for batch in data.predict_dataloader())
    assert shown_labels == 14


def test_no_labels_at_all(write_tree: WriteTree) -> None:
    data = folder(write_tree("photos", [f"{i}.png" for i in range(5)]))
    module = fit(data, max_epochs=1)
    assert module.validation_batches == []
    assert data.val_dataloader() == []
    assert (data.num_classes, data.class_names, data.probe_dataloader()) == (None, None, None)
    assert sum(len(batch.targets) for batch in data.clean_dataloader("train")) == 5
    for split in ("val", "test"):
        with pytest.raises(ValueError, match=f"There are no {split} pictures"):
            data.clean_dataloader(split)
    with pytest.raises(ValueError, match="There are no test pictures"):
        Trainer(**QUIET).test(Recorder(), folder(write_tree("photos", ["1.png"])), verbose=False)


def test_test_and_predict_through_a_trainer(photos: Path) -> None:
    module = Recorder()
    trainer = Trainer(**QUIET)
    trainer.test(module, folder(photos), verbose=False)
    assert torch.cat([batch.targets for batch in module.validation_batches]).tolist() == [0, 0, 0, 1, 1, 1]
    predicted: Any = trainer.predict(module, folder(photos, batch_size=5))
    assert torch.cat([batch.indices for batch in predicted]).tolist() == list(range(12))
    assert {batch.views for batch in predicted} == {()}


def test_cached_folder_is_cropped_on_the_device(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"{i}.png" for i in range(8)], side=16)
    data = folder(root, cache=True, num_workers=None)
    module = fit(data, max_epochs=1)
    loader = data.train_dataloader()
    assert loader.num_workers == 0
    batch = next(iter(loader))
    assert (batch.epoch, batch.clean, batch.crops) == (0, False, None)
    assert batch.images.shape == (4, 3, 16, 16)
    assert module.training_batches[0, 0].views[0].shape == (2, 4, 3, 12, 12)


def test_bad_picture_in_the_middle_of_an_epoch(photos: Path) -> None:
    bad = photos / "train/b/3.png"
    bad.write_bytes(bad.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"train/b/3\.png"):
        fit(folder(photos), max_epochs=1)
    with pytest.warns(UserWarning, match=r"train/b/3\.png"):
        module = fit(folder(photos, on_bad_picture="skip"), max_epochs=2)
    assert {len(batch.targets) for batch in module.training_batches.values()} == {4}
    assert all(9 not in batch.indices for batch in module.training_batches.values())


def test_bad_picture_in_a_worker(photos: Path) -> None:
    (photos / "train/a/0.png").write_bytes(b"")
    with pytest.raises(BadPictureError, match=r"train/a/0\.png.*--data\.on_bad_picture skip") as caught:
        fit(folder(photos, num_workers=1), max_epochs=1)
    assert "Traceback" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_pictures_are_judged_under_no_label(photos: Path, num_workers: int) -> None:
    (photos / "val/a/2.png").write_bytes(b"")
    data = folder(photos, num_workers=num_workers, on_bad_picture="skip")
    with pytest.warns(UserWarning, match="1 of these 6 pictures cannot be read, and do not count"):
        module = fit(data, max_epochs=1, num_sanity_val_steps=0)
    assert torch.cat([batch.targets for batch in module.validation_batches]).tolist() == [0, 0, -1, 1, 1, 1]
    clean_batches = list(data.clean_dataloader("test"))
    assert torch.cat([batch.targets for batch in clean_batches]).tolist() == [0, 0, -1, 1, 1, 1]


def test_views_follow_the_precision_of_the_trainer() -> None:
    module = fit(SimCLRDataModule(batch_size=64), precision="64-true", max_epochs=1, limit_train_batches=1)
    batch = module.training_batches[0, 0]
    assert batch.views[0].dtype == torch.float64
    assert batch.targets.dtype == torch.int64
    assert module.validation_batches[0].images is not None
    assert module.validation_batches[0].images.dtype == torch.float64


def test_trainer_can_overfit_one_batch(photos: Path) -> None:
    with pytest.warns(UserWarning, match="overfit"):
        module = fit(folder(photos), overfit_batches=1, limit_val_batches=0)
    assert torch.equal(module.training_batches[0, 0].indices, module.training_batches[1, 0].indices)


def test_another_engine_may_draw_the_views() -> None:
    data = ready(batch_size=8)
    data.engine = lambda batch: (torch.full((1, len(batch.targets), 1, 4, 4), 7.0),)
    (views,) = shown(data, next(iter(data.train_dataloader()))).views
    assert views.shape == (1, 8, 1, 4, 4)


def test_batches_of_other_loaders_pass_through() -> None:
    batch = ViewBatch.of(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    assert ready().on_after_batch_transfer(batch, 0) is batch


def test_without_a_trainer_the_sampler_knows_the_epoch() -> None:
    data = ready(batch_size=16)
    loader = data.train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batch = next(iter(loader))
        assert batch.epoch == epoch
        assert equal(shown(data, batch).views, ViewEngine(data.recipe)(batch))


def test_validation_views_are_of_an_epoch_of_their_own() -> None:
    data = ready(batch_size=8)
    val: Any = data.val_dataloader()
    batch = next(iter(val))
    assert (batch.epoch, batch.clean) == (VALIDATION_EPOCH, True)
    assert equal(shown(data, batch).views, ViewEngine(data.recipe)(batch))


def six_pictures(train: bool = True) -> list[Any]:
    return [(torch.full((2, 5, 5), value, dtype=torch.uint8), value % 2) for value in range(6 if train else 2)]


def test_checkpoint_holds_primitives_and_restores_the_data_module(tmp_path: Path) -> None:
    recipe = ViewRecipe("digits", size=6, jitter=0.0)
    data = SimCLRDataModule(six_pictures, batch_size=3, views=recipe, seed=4)
    trainer = Trainer(**QUIET, max_epochs=1)
    trainer.fit(Recorder(), data)
    assert (data.in_channels, data.num_classes) == (2, 2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    assert held["dataset"] == f"{__name__}.six_pictures"
    assert held["root"] == "data"
    loaded = SimCLRDataModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, dataset=six_pictures)
    assert loaded.recipe == recipe
    assert dict(loaded.hparams) == dict(data.hparams)


def test_a_checkpoint_does_not_say_what_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs_by_name.py").write_text("def make():\n    return [1]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("theirs_by_name.make", "theirs_by_name:make"):
        content = {**dict(SimCLRDataModule("digits").hparams), "dataset": name}
        torch.save({"datamodule_hyper_parameters": content}, tmp_path / "a.ckpt")
        with pytest.raises(InputError, match=r"nothing is imported .*: import theirs_by_name first, or pass dataset="):
            SimCLRDataModule.load_from_checkpoint(tmp_path / "a.ckpt")
        assert "theirs_by_name" not in sys.modules
        assert SimCLRDataModule.load_from_checkpoint(tmp_path / "a.ckpt", dataset="digits").batch_size == 256


def test_checkpoint_restores_a_list_of_recipes(tmp_path: Path) -> None:
    data = SimCLRDataModule(batch_size=32, views=[GREY, GREY_SMALL])
    trainer = Trainer(**QUIET, max_epochs=1, limit_train_batches=1)
    trainer.fit(Recorder(), data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = SimCLRDataModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.recipes == (GREY, GREY_SMALL)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_precision_rounds_the_views_and_nothing_that_was_drawn_for_them(photos: Path, precision: Any) -> None:
    recipe = ViewRecipe("cifar10", size=12, blur=1.0, rotation=30.0)
    options: Any = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0}
    rounded = fit(folder(photos, views=recipe), precision=precision, **options).training_batches[0, 0]
    exact = fit(folder(photos, views=recipe), **options).training_batches[0, 0]
    assert torch.equal(rounded.views[0], exact.views[0].to(rounded.views[0]))


class Mine(SimCLRDataModule):
    """A subclass with an argument of its own.

    Args:
        extra: its own argument.
    """

    def __init__(self, extra: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.extra = extra


class Fixed(SimCLRDataModule):
    """A subclass that decides everything but one argument.

    Args:
        batch_size: pictures of one step.
    """

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__("digits", batch_size=batch_size, label_fraction=0.5)


@pytest.mark.parametrize("kind", [Mine, Fixed])
def test_subclasses_can_be_loaded(kind: type[SimCLRDataModule], tmp_path: Path) -> None:
    trainer = Trainer(**QUIET, max_epochs=1, limit_train_batches=1)
    trainer.fit(Recorder(), kind(batch_size=32))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = kind.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert (loaded.batch_size, loaded.recipe) == (32, ViewRecipe("digits"))


def command(*arguments: str, subclass: bool = False) -> Any:
    return LightningCLI(
        Recorder,
        SimCLRDataModule,
        run=False,
        args=list(arguments),
        subclass_mode_data=subclass,
        auto_configure_optimizers=False,
        save_config_callback=None,
        trainer_defaults=QUIET,
        seed_everything_default=False,
    )


@pytest.fixture
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["simclr"])


@pytest.mark.usefixtures("no_arguments")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ViewRecipe("digits")),
        (["--data.views", "article"], ViewRecipe("article")),
        (["--data.views.preset", "digits", "--data.views.size", "28"], ViewRecipe("digits", size=28)),
        (["--data.dataset", "folder", "--data.views.size", "28"], ViewRecipe("imagenet", size=28)),
        (
            ["--data.views", "{preset: cifar10, crop_area: [0.2, 1], flip: 0}"],
            ViewRecipe("cifar10", crop_area=(0.2, 1.0), flip=0.0),
        ),
        (["--data.views", "[{preset: digits, size: 20}, {preset: digits, size: 8}]"], ViewRecipe("digits", size=20)),
    ],
)
def test_command_line(arguments: list[str], expected: ViewRecipe) -> None:
    assert command(*arguments).datamodule.recipe == expected


@pytest.mark.usefixtures("no_arguments")
@pytest.mark.parametrize("name", ["simclr_lightning.data.SimCLRDataModule", f"{__name__}.Fixed"])
def test_command_line_with_classes_trains_and_its_checkpoint_loads(name: str, tmp_path: Path) -> None:
    arguments = [
        "--data",
        name,
        "--data.batch_size",
        "64",
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_train_batches",
        "1",
    ]
    cli = command(*arguments, subclass=True)
    cli.trainer.fit(cli.model, cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = type(cli.datamodule).load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert (loaded.batch_size, loaded.recipe) == (64, ViewRecipe("digits"))


@pytest.mark.usefixtures("no_arguments")
def test_command_line_rejects_a_field_that_no_recipe_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--data.views.sise", "28")
    assert "sise" in capsys.readouterr().err


@pytest.mark.parametrize("views", [{"preset": "digits", "cuont": 4}, ["digits", 3], 7])
def test_what_is_no_recipe_is_named(views: Any) -> None:
    with pytest.raises(InputError, match=r"is no recipe of views: .* \(--data\.views imagenet\)"):
        SimCLRDataModule("digits", views=views)


def test_presets_may_be_listed() -> None:
    presets: Any = ["digits", "cifar10"]
    assert [recipe.size for recipe in SimCLRDataModule("digits", views=presets).recipes] == [16, 32]


def test_one_view_is_told_before_training() -> None:
    data = SimCLRDataModule("digits", views=ViewRecipe("digits", count=1))
    data.setup("fit")
    with pytest.raises(InputError, match=r"two at least are contrasted \(--data\.views\.count 2\)"):
        data.train_dataloader()
