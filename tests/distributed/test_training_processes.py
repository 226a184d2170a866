"""``Trainer(strategy="ddp")`` trains on several processes with different pictures as on one with all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from simclr_lightning.distributed import rank, world_size
from simclr_lightning.losses import ContrastiveLoss, NTXentLoss, nt_xent
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

PICTURES = 12  # of a global batch
WORLD_SIZES = (2, 3, 4)
PRECISIONS = {"32-true": torch.float32, "64-true": torch.float64}
TOLERANCE = {"32-true": 1e-6, "64-true": 1e-12}
Results = dict[int, list[dict[Any, Any]]]  # number of processes -> what each rank returned


def sizes(step: int, processes: int) -> list[int]:
    """Pictures of each process: equally many in the first step, two or more in the second."""
    few = 2 * (processes - 1)
    return [PICTURES // processes] * processes if step % 2 == 0 else [PICTURES - few, *[2] * (processes - 1)]


class Encoder(nn.Module):
    """A network that treats every picture by itself, without BatchNorm.

    As in a ResNet there is no bias before the norm, which would take it away again: its gradient is a difference of
    nearly equal numbers, so that its digits are the processor's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 48
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 12, 2), nn.Flatten()
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


class Apart(ContrastiveLoss):
    """What several processes that do not gather compute, on one: the mean of the losses of their parts."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self.processes = processes
        self.calls = 0

    def forward(self, projections: Tensor) -> Tensor:
        parts = torch.split(projections, sizes(self.calls, self.processes), dim=1)
        self.calls += 1  # two steps, then the validation, whose pictures are those of the first step
        return torch.stack([nt_xent(*part, temperature=0.5) for part in parts]).mean()


class Recorder(SimCLR):
    """Records losses and gradients."""

    def build_encoder(self) -> nn.Module:
        return Encoder()

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(48, 128), nn.ReLU(), nn.Linear(128, 64, bias=False))

    def on_fit_start(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.losses.append(self.trainer.callback_metrics["train/loss"].clone())
        self.gradients.append(
            {name: value.grad.clone() for name, value in self.named_parameters() if value.grad is not None}
        )


def batches(noise: float) -> list[ViewBatch]:
    """Two batches of this process: its part of the pictures of all processes, as views with this much noise."""
    generator = torch.Generator().manual_seed(2)
    result = []
    for step in range(2):
        clean, one, other = torch.randn(3, PICTURES, 3, 8, 8, generator=generator)
        pictures = torch.stack([clean, clean + noise * one, clean + noise * other])
        clean, first, second = torch.split(pictures, sizes(step, world_size()), dim=1)[rank()]
        result.append(ViewBatch.of(first, second)._replace(images=clean))
    return result


def train(loss: ContrastiveLoss, precision: str) -> dict[str, Any]:
    """Two steps of SGD and a validation; the last batch is spread unevenly over the processes."""
    torch.manual_seed(0)
    model = Recorder(loss=loss, optimizer="sgd", learning_rate=0.01, weight_decay=0.0)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # each process has its own pictures already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    training: DataLoader[ViewBatch] = DataLoader(batches(0.5), batch_size=None)  # type: ignore[arg-type]
    hard = batches(3.0)[:1]  # few partners are found, so that what is logged depends on whose they are
    validation: DataLoader[ViewBatch] = DataLoader(hard, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, training, validation)
    return {
        "losses": model.losses,
        "gradients": model.gradients,
        "weights": dict(model.state_dict()),
        "metrics": trainer.callback_metrics,
        "strategy": type(trainer.strategy).__name__,
    }


def trainings() -> dict[Any, Any]:
    """Trainings in both precisions, with and without gathering."""
    assert LightningEnvironment().creates_processes_externally == (world_size() > 1)
    results: dict[Any, Any] = {}
    for precision in PRECISIONS:
        results[precision, "gather"] = train(NTXentLoss(temperature=0.5), precision)
        if world_size() > 1:
            results[precision, "alone"] = train(NTXentLoss(temperature=0.5, gather=False), precision)
        else:
            for processes in WORLD_SIZES:
                results[precision, "alone", processes] = train(Apart(processes), precision)
    return results


@pytest.fixture(scope="module")
def results() -> Results:
    return {processes: run_in_processes(trainings, processes) for processes in (1, *WORLD_SIZES)}


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Length of the difference, relative to the length of what was expected."""
    assert value.shape == expected.shape
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("gather", ["gather", "alone"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_trainer_with_ddp_trains_as_one_process_does(
    results: Results, precision: str, gather: str, processes: int
) -> None:
    key = (precision, "gather") if gather == "gather" else (precision, "alone", processes)
    expected = results[1][0][key]
    tolerance = TOLERANCE[precision]
    for process in results[processes]:
        found = process[precision, gather]
        assert found["strategy"] == "DDPStrategy"
        assert len(found["losses"]) == len(expected["losses"]) == 2
        for value, truth in zip(found["losses"], expected["losses"], strict=True):
            assert abs(value / truth - 1) < tolerance
        for value, truth in zip(found["gradients"], expected["gradients"], strict=True):
            assert value.keys() == truth.keys() == expected["weights"].keys()
            for name in truth:
                assert relative_error(value[name], truth[name]) < tolerance, name
        for name, truth in expected["weights"].items():
            assert relative_error(found["weights"][name], truth) < tolerance, name


@pytest.mark.parametrize("processes", WORLD_SIZES)
def test_logged_validation_is_that_of_the_global_batch(results: Results, processes: int) -> None:
    expected = results[1][0]["64-true", "gather"]["metrics"]
    for process in results[processes]:
        found = process["64-true", "gather"]["metrics"]
        assert found.keys() == expected.keys()
        for name in ("val/loss", "val/contrast_top1", "val/contrast_top5", "val/contrast_entropy"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=0)
