"""Does training in bfloat16 stay finite, at low temperatures too?

    python benchmarks/numerics.py

Thousands of steps of `fit` on the handwritten digits in `bf16-mixed`, at temperatures from 0.05 to 1, and in `32-true`
at the lowest. At every step it is counted whether the loss, a gradient or (at the end) a weight is not finite; the last
columns say whether bfloat16 learns as well: the mean loss of the last hundred steps, and the accuracy of an online
linear probe on held-out digits. The learning rate is constant. On a CPU; what a GPU rounds elsewhere is not seen here.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import report
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from runner import parse, parser
from torch.optim import Optimizer

from simclr_lightning import OnlineLinearProbe, SimCLR, SimCLRDataModule, ViewRecipe
from simclr_lightning.losses import NTXentLoss

TEMPERATURES = (0.05, 0.1, 0.5, 1.0)
CASES = [*((temperature, "bf16-mixed") for temperature in TEMPERATURES), (TEMPERATURES[0], "32-true")]


class Finite(Callback):
    """Losses, and how often something was not finite."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Norm of all gradients: NaN or infinite where one of them is."""
        gradients = [own.grad for own in pl_module.parameters() if own.grad is not None]
        self.gradients.append(float(torch.stack(torch._foreach_norm(gradients)).norm()))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        """The loss of the step."""
        self.losses.append(float(outputs["loss"]))


def train(temperature: float, precision: Any, steps: int, *, optimizer: Any = "adamw") -> dict[str, Any]:
    """Train a small network, and count."""
    seed_everything(0, verbose=False)
    loss = NTXentLoss(temperature=temperature)
    rate = 2e-3 if optimizer == "adamw" else 0.3
    network: dict[str, Any] = {"encoder": "resnet8", "width": 0.25, "stem": "pooled", "in_channels": 1}
    model = SimCLR(**network, loss=loss, optimizer=optimizer, learning_rate=rate)
    data = SimCLRDataModule("digits", batch_size=128, views=ViewRecipe("digits", jitter=0.8, jitter_strength=0.5))
    finite = Finite()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        max_steps=steps,
        max_epochs=-1,
        callbacks=[OnlineLinearProbe(), finite],
        check_val_every_n_epoch=max(1, steps // 11),  # at the end
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    if "probe/val_top1" not in trainer.callback_metrics:
        trainer.validate(model, data, verbose=False)
    weights = sum(not bool(torch.isfinite(own).all()) for own in model.state_dict().values())
    counted = {"losses": finite.losses, "gradients": finite.gradients}
    return {
        "temperature": temperature,
        "precision": precision,
        "steps": len(finite.losses),
        "not finite": {
            **{name: sum(not math.isfinite(own) for own in values) for name, values in counted.items()},
            "weights": weights,
        },
        "first loss": finite.losses[0],
        "last loss": statistics.mean(finite.losses[-100:]),
        "largest gradient": max(finite.gradients),
        "probe": float(trainer.callback_metrics["probe/val_top1"]),
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--steps", type=int, help="of each training (2000; with --short 60)")
    options = parse(made)
    torch.set_num_threads(options.threads)
    steps = options.steps or (60 if options.short else 2000)
    header = ["temperature", "precision", "steps", "losses, gradients, weights that are not finite"]
    header += ["first loss", "last loss", "largest gradient", "probe, top-1"]
    note = "ResNet-8 of a quarter of the width on digits, batches of 128, AdamW, a constant rate of 0.002, one seed."
    data: list[dict[str, Any]] = []
    for temperature, precision in CASES:
        data.append(train(temperature, precision, steps))
        rows = [_cells(own) for own in data]
        title = "Training in bfloat16 at four temperatures"
        report.write(options.out, "numerics", title, note, header, rows, data)  # each time: it takes long


def _cells(own: dict[str, Any]) -> list[str]:
    return [
        f"{own['temperature']:g}",
        own["precision"],
        f"{own['steps']:,}",
        ", ".join(str(number) for number in own["not finite"].values()),
        *(f"{own[name]:.3f}" for name in ("first loss", "last loss", "largest gradient")),
        f"{own['probe']:.1%}",
    ]


if __name__ == "__main__":
    main()
