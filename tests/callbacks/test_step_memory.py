"""The summary tells a step's memory before there is a step, and what to type where there is not enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from simclr_lightning import FineTune, LabelledDataModule, LARSWarmup, LinearEvaluation, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import RunSummary
from simclr_lightning.callbacks.dry_run import PeakMemory
from simclr_lightning.callbacks.step_memory import StepMemory, step_memory, too_much
from simclr_lightning.views import ViewRecipe

MIB = 2**20


class Estimated(Callback):
    """What a step is expected to take, and what it takes."""

    found: StepMemory | None = None
    measured = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found = step_memory(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.peak = PeakMemory(torch.device("cpu"))

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.measured = self.peak.grown() or 0


def estimated(model: LightningModule, data: Any, **settings: Any) -> Estimated:
    callback = Estimated()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        **settings,
    )
    trainer.fit(model, data)
    return callback


def small(**settings: Any) -> SimCLR:
    return SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1, **settings)


def digits(batch_size: int = 64, **settings: Any) -> SimCLRDataModule:
    return SimCLRDataModule("digits", batch_size=batch_size, **settings)


def activations(model: LightningModule, data: Any, **settings: Any) -> int:
    found = estimated(model, data, **settings).found
    assert found is not None
    return found.activations


def test_it_grows_with_views_and_shrinks_with_micro_batches() -> None:
    whole = activations(small(), digits())
    assert activations(small(), digits(128)) == pytest.approx(2 * whole, rel=0.02)
    assert activations(small(micro_batch_size=16), digits()) == pytest.approx(whole / 4, rel=0.05)
    assert activations(small(), digits(views=ViewRecipe("digits", count=4))) == pytest.approx(2 * whole, rel=0.02)
    crops = [ViewRecipe("digits"), ViewRecipe("digits", size=8, count=4)]
    assert activations(small(), digits(views=crops)) == pytest.approx(1.5 * whole, rel=0.05)
    assert activations(small(), digits(), precision="64-true") == pytest.approx(2 * whole, rel=0.1)
    assert activations(small(), digits(), precision="bf16-mixed") == pytest.approx(whole / 2, rel=0.15)


def test_a_frozen_encoder_keeps_nothing_and_one_view_is_half() -> None:
    whole = activations(small(), digits())
    data: dict[str, Any] = {"batch_size": 64, "augmentation": "none"}
    tuned = activations(FineTune.of(small()), LabelledDataModule("digits", **data))
    assert tuned == pytest.approx(whole / 2, rel=0.1)
    assert activations(LinearEvaluation.of(small()), LabelledDataModule("digits", **data)) == 0


class Wide(nn.Module):
    """Many activations and few parameters."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 96, 3), nn.ReLU(), nn.Conv2d(96, 4, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.layers(images).mean((2, 3))
        return pooled


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is told by Linux")
def test_a_step_takes_about_as_much_as_it_says() -> None:
    model = SimCLR(Wide(), optimizer="sgd")
    found = estimated(model, digits(views=ViewRecipe("digits", size=48)))
    assert found.found is not None
    assert found.found.total > 250 * MIB  # else other things count
    assert 0.7 < found.found.total / found.measured < 1.3


def test_others_are_not_known() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert step_memory(trainer, LightningModule()) is None
    assert step_memory(trainer, small()) is None  # no data module tells a batch


def test_too_much_says_what_to_type() -> None:
    memory = StepMemory(1000 * MIB, 100 * MIB, 20 * MIB, 5 * MIB, 256)
    assert too_much(memory, None, micro_batches=True) is None
    assert too_much(memory, memory.total, micro_batches=True) is None
    told = too_much(memory, 500 * MIB, micro_batches=True)
    assert told is not None
    assert (
        "about 1.1 GiB, and 500 MiB are free: type --model.micro_batch_size 64, or a smaller --data.batch_size" in told
    )
    without = too_much(memory, 500 * MIB, micro_batches=False)
    assert without is not None
    assert "micro_batch" not in without
    nothing_helps = too_much(memory, 100 * MIB, micro_batches=True)
    assert nothing_helps is not None
    assert "micro_batch" not in nothing_helps


class Order(Callback):
    """Moments in which pictures are read."""

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        print("sanity check")

    def on_train_batch_start(self, *arguments: Any) -> None:
        print("batch")


@pytest.mark.parametrize("resumed", [False, True])
def test_the_summary_comes_before_pictures_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    def fit(steps: int, path: Path | None) -> Trainer:
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            limit_val_batches=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[LARSWarmup(warmup_epochs=0), RunSummary(), Order()],
        )
        trainer.fit(small(), digits(), ckpt_path=path)
        return trainer

    path = None
    if resumed:
        path = tmp_path / "one.ckpt"
        fit(1, None).save_checkpoint(path)
        capsys.readouterr()
    monkeypatch.setattr("simclr_lightning.callbacks.run_summary.free_memory", lambda trainer: MIB)
    with pytest.warns(UserWarning, match=r"A step needs about \d+ MiB, and 1 MiB are free: type a smaller"):
        fit(2, path)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("This run") for line in lines) == 1
    assert sum(line.startswith("  memory ") for line in lines) == 1
    told = [line for line in lines if line in ("sanity check", "batch")]
    assert told == (["batch"] if resumed else ["sanity check", "batch", "batch"])
    assert lines.index("This run".ljust(len(lines[0]))) < lines.index(told[0])
