"""bfloat16 stays finite, of which benchmarks/numerics.py has the long form, and `deterministic` gives equal bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.losses import NTXentLoss


class Losses(Callback):
    """Of every step; and whether a gradient was not finite."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.finite = True

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = [own.grad for own in pl_module.parameters() if own.grad is not None]
        self.finite &= all(bool(torch.isfinite(own).all()) for own in gradients)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def fit(temperature: float, steps: int, *, micro_batch_size: int | None = None, **settings: Any) -> tuple[Any, Losses]:
    seed_everything(0, verbose=False)
    network: dict[str, Any] = {"encoder": "resnet8", "width": 0.125, "stem": "pooled", "in_channels": 1}
    network |= {"loss": NTXentLoss(temperature=temperature), "micro_batch_size": micro_batch_size}
    model, losses = SimCLR(**network, learning_rate=0.5), Losses()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LARSWarmup(warmup_steps=2), OnlineLinearProbe(), losses],
        **settings,
    )
    trainer.fit(model, SimCLRDataModule("digits", batch_size=128))
    return model, losses


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_bfloat16_stays_finite(temperature: float) -> None:
    model, found = fit(temperature, 24, precision="bf16-mixed")
    assert found.finite
    assert len(found.losses) == 24
    assert all(map(math.isfinite, found.losses))
    assert all(bool(torch.isfinite(own).all()) for own in model.state_dict().values())
    assert sum(found.losses[-4:]) < sum(found.losses[:4])  # it learns


@pytest.fixture
def settings() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16-mixed", "micro_batch_size": 50, "accumulate_grad_batches": 2}]
)
def test_deterministic_runs_are_equal_to_the_bit(options: dict[str, Any]) -> None:
    (first, losses), (second, again) = (fit(0.2, 5, deterministic=True, **options) for _ in range(2))
    assert torch.are_deterministic_algorithms_enabled()
    assert losses.losses == again.losses
    own, other = first.state_dict(), second.state_dict()
    assert own.keys() == other.keys()
    equal: dict[str, bool] = {name: torch.equal(value, other[name]) for name, value in own.items()}
    assert all(equal.values()), equal
