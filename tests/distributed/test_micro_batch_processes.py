"""Two processes that take micro-batches train as one process with the whole global batch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.distributed import rank, world_size
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

PICTURES = 12  # of a global batch
Results = dict[str, dict[str, Tensor]]  # name of a training -> state

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


class Encoder(nn.Sequential):
    """Treats every picture by itself, unless BatchNorm is asked for."""

    feature_dim = 48

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, stride=2), norm, nn.ReLU(), nn.Conv2d(8, 12, 2), nn.Flatten())


class Small(SimCLR):
    """Has that encoder."""

    def __init__(self, micro_batch_size: int | None, batch_norm: bool) -> None:
        super().__init__(temperature=0.5, optimizer="sgd", learning_rate=0.1)

    def build_encoder(self) -> nn.Module:
        return Encoder(nn.BatchNorm2d(8) if self.hparams["batch_norm"] else nn.GroupNorm(2, 8))

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))


def train(micro_batch_size: int | None, *, batch_norm: bool = False, **options: Any) -> dict[str, Tensor]:
    """Weights and buffers after four batches, of which every process has its own part."""
    torch.manual_seed(0)
    model = Small(micro_batch_size, batch_norm)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",
        max_epochs=1,
        use_distributed_sampler=False,  # each process has its own pictures already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(4):
        own = torch.randn(2, PICTURES, 3, 8, 8, generator=generator).tensor_split(world_size(), dim=1)[rank()]
        batches.append(ViewBatch.of(*own))
    loader: DataLoader[ViewBatch] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, loader)
    return dict(model.state_dict())


def trainings() -> Results:
    """One process takes the whole batch, several take micro-batches of three pictures."""
    size = None if world_size() == 1 else 4
    return {
        "plain": train(size),
        "clipped": train(size, gradient_clip_val=0.05),
        "accumulated": train(size, accumulate_grad_batches=2),
        "BatchNorm": train(4, batch_norm=True),
    }


@pytest.fixture(scope="module")
def results() -> list[Results]:
    """Of one process, then of each of two."""
    return run_in_processes(trainings, 1) + run_in_processes(trainings, 2)


@pytest.mark.parametrize("name", ["plain", "clipped", "accumulated"])
def test_weights_are_those_of_one_process_and_one_batch(results: list[Results], name: str) -> None:
    truth, *found = (result[name] for result in results)
    for weights in found:
        assert weights.keys() == truth.keys()
        for key, value in truth.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-12, atol=1e-14, msg=f"{key}")


def test_trainings_differ(results: list[Results]) -> None:
    weights = [training["encoder.0.weight"] for training in results[0].values()]
    for number, weight in enumerate(weights):
        assert all((weight - other).abs().max() > 1e-5 for other in weights[:number])


def test_batch_norm_counts_every_micro_batch_once(results: list[Results]) -> None:
    one, *two = (result["BatchNorm"]["encoder.1.num_batches_tracked"] for result in results)
    assert one == 4 * 3  # four batches of twelve pictures
    assert [int(count) for count in two] == [4 * 2] * 2  # of six pictures
    first, second = (result["BatchNorm"]["encoder.0.weight"] for result in results[1:])
    assert torch.equal(first, second)
