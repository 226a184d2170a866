"""A run that goes on within an epoch with another batch size sees every picture once, and then whole epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule, ViewRecipe
from simclr_lightning.callbacks import OtherNumbers
from simclr_lightning.data import InMemoryPictures, PictureSets
from simclr_lightning.errors import InputError

PICTURES, BATCH, STEPS = 100, 12, 3  # an epoch is 8 steps


def pictures() -> PictureSets:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (PICTURES, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return PictureSets(InMemoryPictures(images, torch.full((PICTURES,), -1)))


class Seen(Callback):
    """Positions of the pictures of this process, by epoch, and the rate of every step."""

    def __init__(self) -> None:
        self.epochs: dict[int, list[int]] = {}
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        self.epochs.setdefault(trainer.current_epoch, []).extend(arguments[2].indices.tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def fit(folder: Path, batch_size: int = BATCH, *, others: bool = True, resume: bool = True, **settings: Any) -> Seen:
    """Two epochs, with a checkpoint after three steps; from there on if asked."""
    torch.manual_seed(0)
    seen, model = Seen(), settings.pop("model", None)
    settings = {"precision": "32-true", "devices": 1, "max_epochs": 2, **settings}
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            *([OtherNumbers()] if others else []),
            LARSWarmup(warmup_epochs=0.5, scaling="none"),
            ModelCheckpoint(folder, "{step}", every_n_train_steps=STEPS, save_top_k=-1),
            seen,
        ],
        **settings,
    )
    data = SimCLRDataModule(pictures, batch_size=batch_size, views=ViewRecipe("cifar10", size=8))
    path = folder / f"step={STEPS}.ckpt" if resume else None
    trainer.fit(model or SimCLR("resnet8", width=0.125, image_size=8), data, ckpt_path=path, weights_only=True)
    return seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder, resume=False)


@pytest.mark.filterwarnings("ignore:The checkpoint is of batches of 12:UserWarning")
@pytest.mark.parametrize("batch_size", [2, 6, 8, 12, 24, 25, 36, 64, 65])
def test_no_picture_comes_twice_and_none_is_left_out(batch_size: int, whole: tuple[Path, Seen]) -> None:
    folder, uninterrupted = whole
    before = uninterrupted.epochs[0][: STEPS * BATCH]
    seen = fit(folder, batch_size)
    first, second = before + seen.epochs.get(0, []), seen.epochs[1]
    for epoch, left in ((first, PICTURES - len(before)), (second, PICTURES)):
        assert len(set(epoch)) == len(epoch)
        assert len(epoch) == PICTURES - left % batch_size
    assert len(uninterrupted.epochs[0]) - len(before) == 5 * BATCH
    same = len(seen.epochs.get(0, []))
    assert seen.epochs.get(0, [])[: 5 * BATCH] == uninterrupted.epochs[0][len(before) :][:same]


def test_the_schedule_goes_on_where_it_was(whole: tuple[Path, Seen]) -> None:
    folder, uninterrupted = whole
    with pytest.warns(UserWarning, match=r"The checkpoint is of batches of 12 pictures, and those of 6 go on"):
        seen = fit(folder, 6)
    assert seen.rates[:2] != uninterrupted.rates[STEPS : STEPS + 2]
    assert seen.rates[::2][:13] == pytest.approx(uninterrupted.rates[STEPS:], rel=0.05)
    assert 0 < seen.rates[-1] < 0.1 * max(seen.rates)


def test_where_nobody_tells_the_trainer_it_is_refused(whole: tuple[Path, Seen]) -> None:
    told = r"middle of an epoch with batches of 12 pictures, and now there are 6: .*\(--data\.batch_size 12\)"
    with pytest.raises(InputError, match=told):
        fit(whole[0], 6, others=False)


@pytest.mark.filterwarnings("ignore:The checkpoint is of batches of 12:UserWarning")
def test_a_step_is_not_cut_in_two(whole: tuple[Path, Seen]) -> None:
    with pytest.raises(InputError, match="4 batches of the present size lie behind, of which 3 make a step"):
        fit(whole[0], 11, accumulate_grad_batches=3)
