from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule
from simclr_lightning.data import VALIDATION_EPOCH, IterableStream, LabelledDataModule, Stream
from simclr_lightning.data.stream import StreamDataset, StreamLoader
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, crop_views

WriteTree = Callable[..., Path]
RECIPE = ViewRecipe("cifar10", size=8)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:num_workers is",
    "ignore:Total length of `list` across ranks is zero",
)


class Shades:
    """Pictures of one shade each, in another order in every epoch."""

    recipe = RECIPE
    train, val = 26, 6

    def batches(self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int) -> Iterator[ImageBatch]:
        number = getattr(self, split, 0)
        order = torch.randperm(number, generator=torch.Generator().manual_seed(epoch % 1000))
        share = batch_size // world_size
        for first in range(0, number, batch_size):
            indices = order[first + rank * share :][:share]
            images = indices[:, None, None, None].expand(-1, 3, 10, 10).to(torch.uint8)
            yield ImageBatch(images, None, indices % 2, indices)


class Seeking(Shades):
    """Makes only what is asked for."""

    def __init__(self) -> None:
        self.made = 0

    def batches(
        self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int, start: int = 0, step: int = 1
    ) -> Iterator[ImageBatch]:
        shares = {"rank": rank, "world_size": world_size, "batch_size": batch_size, "epoch": epoch}
        for number, batch in enumerate(super().batches(split, **shares)):
            if number >= start and (number - start) % step == 0:
                self.made += 1
                yield batch


def shown(batches: Any) -> list[tuple[int | None, list[int]]]:
    return [(batch.epoch, batch.indices.tolist()) for batch in batches]


def loader(stream: Stream, split: str = "train", **options: Any) -> StreamLoader:
    return StreamLoader(StreamDataset(stream, split, rank=0, world_size=1, batch_size=4), **options)


def test_streams_are_recognised() -> None:
    assert isinstance(Shades(), Stream)
    assert isinstance(IterableStream({"train": [torch.zeros(1, 2, 2, dtype=torch.uint8)]}), Stream)
    assert not isinstance([], Stream)


@pytest.mark.parametrize("stream", [Shades, Seeking])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_workers_keep_the_order_in_every_epoch(stream: type[Shades], num_workers: int) -> None:
    loaded = loader(stream(), num_workers=num_workers, persistent_workers=num_workers > 0)
    for epoch in (0, 1, 5):
        loaded.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        whole = Shades().batches("train", rank=0, world_size=1, batch_size=4, epoch=epoch)
        expected = [(epoch, batch.indices.tolist()) for batch in whole if len(batch.targets) == 4]
        assert len(expected) == 6  # the last two pictures do not fill a batch
        assert shown(loaded) == expected


def test_processes_share_the_batches_of_one() -> None:
    whole = list(StreamDataset(Shades(), "train", rank=0, world_size=1, batch_size=8))
    shares = [list(StreamDataset(Shades(), "train", rank=rank, world_size=2, batch_size=8)) for rank in (0, 1)]
    assert len(whole) == 3
    for batch, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(batch.indices, torch.cat([first.indices, second.indices]))
        together = ViewEngine(RECIPE)(batch)[0]
        assert torch.equal(together, torch.cat([ViewEngine(RECIPE)(part)[0] for part in (first, second)], 1))


def test_validation_has_an_epoch_of_its_own_and_clean_pictures() -> None:
    batches = list(loader(Shades(), "val"))
    assert {(batch.epoch, batch.clean) for batch in batches} == {(VALIDATION_EPOCH, True)}
    assert [len(batch.targets) for batch in batches] == [4, 2]


def test_what_is_left_out_is_not_made_where_the_stream_can_do_without() -> None:
    stream = Seeking()
    resumed = loader(stream)
    resumed.start_at({"epoch": 2, "batches": 4})
    assert [epoch for epoch, _ in shown(resumed)] == [2, 2]
    assert stream.made == 3  # with the last one, which is too small


@pytest.mark.parametrize("num_workers", [0, 2])
def test_position_counts_what_was_trained_on(num_workers: int) -> None:
    complete = shown(loader(Shades()))
    first = loader(Shades(), num_workers=num_workers)
    served = iter(first)
    for _ in range(3):  # of which Lightning has trained on two
        next(served)
    assert first.position() == {"epoch": 0, "batches": 2}
    resumed = loader(Shades(), num_workers=num_workers)
    resumed.start_at(first.position())
    assert shown(resumed) == complete[2:]
    assert resumed.position() == {"epoch": 1, "batches": 0}


class Wrong(Shades):
    """Gives something else."""

    def batches(self, split: str, **asked: Any) -> Iterator[Any]:
        yield torch.zeros(4, 3, 8, 8)


class Complaining(Shades):
    """Finds that something is missing."""

    def batches(self, split: str, **asked: Any) -> Iterator[Any]:
        raise InputError("There is no shard 7: name another folder.")
        yield


def test_batches_of_another_type() -> None:
    with pytest.raises(TypeError, match="Wrong gave a Tensor, expected an ImageBatch"):
        next(iter(loader(Wrong())))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_input_error_of_a_stream_arrives_as_it_is(num_workers: int) -> None:
    with pytest.raises(InputError) as caught:
        next(iter(loader(Complaining(), num_workers=num_workers)))
    assert str(caught.value) == "There is no shard 7: name another folder."


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.training_batches: list[ViewBatch] = []
        self.validation_batches: list[ViewBatch] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        self.training_batches.append(batch)
        return self.weight * 1

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.validation_batches.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.0)


def data_of(dataset: Any = Shades, **options: Any) -> SimCLRDataModule:
    return SimCLRDataModule(dataset, **{"batch_size": 4, "num_workers": 0, **options})


def fit(data: SimCLRDataModule, *, ckpt_path: Path | None = None, **options: Any) -> list[ViewBatch]:
    module = Recorder()
    Trainer(**{**QUIET, "limit_val_batches": 0, **options}).fit(module, data, ckpt_path=ckpt_path)
    return module.training_batches


def same(first: list[ViewBatch], second: list[ViewBatch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.indices, b.indices) and all(map(torch.equal, a.views, b.views))
        for a, b in zip(first, second, strict=True)
    )


def test_views_of_a_stream_are_those_of_its_positions_and_epochs() -> None:
    batches = fit(data_of(seed=3), max_epochs=2)
    assert len(batches) == 12
    for number, batch in enumerate(batches):
        images = batch.indices[:, None, None, None].expand(-1, 3, 10, 10).to(torch.uint8)
        raw = ImageBatch(images, None, batch.targets, batch.indices, epoch=number // 6)
        assert torch.equal(batch.views[0], ViewEngine(RECIPE, seed=3)(raw)[0])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("horizon", [{"max_epochs": 3}, {"max_steps": 18, "max_epochs": -1}])
def test_resumed_run_goes_on_where_it_was(tmp_path: Path, num_workers: int, horizon: dict[str, int]) -> None:
    def run(ckpt_path: Path | None = None) -> list[ViewBatch]:
        every = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
        options = {"callbacks": [every], "enable_checkpointing": True, **horizon}
        return fit(data_of(num_workers=num_workers), ckpt_path=ckpt_path, **options)

    whole = run()
    assert len(whole) == 18  # six steps an epoch
    for done in (1, 5, 6, 7, 12, 17):
        assert same(run(tmp_path / f"step={done}.ckpt"), whole[done:]), done


def test_run_resumed_from_the_end_of_an_epoch(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> list[ViewBatch]:
        every = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=True)
        options = {"callbacks": [every], "enable_checkpointing": True, "max_epochs": 3}
        return fit(data_of(), ckpt_path=ckpt_path, **options)

    whole = run()
    assert same(run(tmp_path / "step=6.ckpt"), whole[6:])
    assert same(run(tmp_path / "step=12.ckpt"), whole[12:])


def test_testing_a_checkpoint_leaves_the_next_training_alone(tmp_path: Path) -> None:
    data = data_of()
    trainer = Trainer(**QUIET, max_steps=3, limit_val_batches=0)
    trainer.fit(Recorder(), data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    Trainer(**QUIET).validate(Recorder(), data, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert same(fit(data, max_steps=1), fit(data_of(), max_steps=1))


def test_validation_of_a_stream() -> None:
    module = Recorder()
    Trainer(**QUIET, max_steps=1, num_sanity_val_steps=0, val_check_interval=1).fit(module, data_of())
    assert [len(batch.targets) for batch in module.validation_batches] == [4, 2]
    first = module.validation_batches[0]
    assert first.images is not None
    assert first.images.shape == (4, 3, 8, 8)
    assert first.views[0].shape == (2, 4, 3, 8, 8)


class Unlabelled(Shades):
    """Nothing to validate on."""

    val = 0


def test_without_validation_pictures() -> None:
    data = data_of(Unlabelled)
    data.setup("fit")
    assert data.val_dataloader() == []
    assert (data.num_pictures, data.num_classes, data.class_names, data.in_channels) == (None, None, None, 3)
    assert data.probe_dataloader() is None
    with pytest.raises(InputError, match="There are no train pictures"):
        data.clean_dataloader("train")
    with pytest.raises(InputError, match="There are no test pictures"):
        data.test_dataloader()


def test_labelled_folder_beside_a_stream(write_tree: WriteTree) -> None:
    root = write_tree(
        "labelled", [f"{split}/{pet}/{i}.png" for split in ("train", "val") for pet in "ab" for i in (0, 1)]
    )
    data = data_of(probe=root)
    data.setup("fit")
    assert (data.num_pictures, data.num_classes, data.class_names) == (None, 2, ["a", "b"])
    probe = data.probe_dataloader()
    assert probe is not None
    assert sorted(torch.cat([batch.targets for batch in probe]).tolist()) == [0, 0, 1, 1]
    val: Any = data.val_dataloader()
    assert torch.cat([batch.targets for batch in val]).tolist() == [0, 0, 1, 1]
    assert len(data.clean_dataloader("train")) == 1


@pytest.mark.parametrize("option", [{"val_fraction": 0.1}, {"label_fraction": 0.1}, {"cache": True}])
def test_options_about_pictures_that_can_be_counted(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(InputError, match=rf"{name} is .*leave it out.*--data\.{name} .*--data\.probe"):
        data_of(**option).setup("fit")


def test_classifiers_need_pictures_that_can_be_counted() -> None:
    with pytest.raises(InputError, match=r"None of the training pictures has a label"):
        LabelledDataModule(Shades).setup("fit")


class Cropping(Unlabelled):
    """Pictures of different sizes, in views that it is told."""

    def with_views(self, recipes: Any, *, seed: int, on_bad_picture: str) -> Cropping:
        self.told = recipes, seed, on_bad_picture
        return self

    def batches(self, split: str, *, epoch: int, **shares: Any) -> Iterator[ImageBatch]:
        recipes, seed, _ = self.told
        for batch in super().batches(split, epoch=epoch, **shares):
            assert batch.images is not None
            pictures = [
                image[:, : 4 + int(index) % 5] for image, index in zip(batch.images, batch.indices, strict=True)
            ]
            crops = crop_views(pictures, recipes, batch.indices, seed=seed, epoch=epoch)
            yield batch._replace(images=None, crops=crops)


def test_stream_may_crop_the_views_that_are_typed() -> None:
    batches = fit(data_of(Cropping, views=[ViewRecipe("cifar10", size=6), RECIPE], seed=1), max_steps=2)
    assert [tuple(views.shape) for views in batches[0].views] == [(2, 4, 3, 6, 6), (2, 4, 3, 8, 8)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_simclr_trains_on_a_stream(num_workers: int) -> None:
    model = SimCLR("resnet8", width=0.125, image_size=8)
    before = model.encoder.state_dict()["conv1.weight"].clone()
    schedule = LARSWarmup(warmup_steps=1)
    trainer = Trainer(**QUIET, max_steps=8, max_epochs=-1, callbacks=schedule, num_sanity_val_steps=0)
    trainer.fit(model, data_of(num_workers=num_workers))
    assert trainer.global_step == 8
    assert not torch.equal(model.encoder.state_dict()["conv1.weight"], before)
    assert schedule.global_batch_size_ == 4


def test_schedule_needs_to_know_how_long_a_stream_is_trained_on() -> None:
    trainer = Trainer(**QUIET, max_epochs=1, callbacks=LARSWarmup(warmup_steps=1), limit_val_batches=0)
    with pytest.raises((InputError, MisconfigurationException), match="max_steps"):
        trainer.fit(SimCLR("resnet8", width=0.125, image_size=8), data_of())
