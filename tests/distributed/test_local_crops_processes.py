"""Local crops: micro-batches, several processes, or both train as one process with the whole batch, by every loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import SimCLRDataModule
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.losses import ContrastiveLoss, DecoupledNTXent, HardNegativeNTXent, NTXentLoss, SupConNTXent
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch, ViewRecipe

LOSSES: dict[str, Callable[[], ContrastiveLoss]] = {
    "nt_xent": lambda: NTXentLoss(0.5),
    "decoupled": lambda: DecoupledNTXent(0.5),
    "weighted": lambda: DecoupledNTXent(0.5, mises_fisher_sigma=0.5),
    "hard": lambda: HardNegativeNTXent(0.5, beta=1.0, tau_plus=0.02),
    "debiased": lambda: HardNegativeNTXent(0.5, beta=0.0, tau_plus=0.02),
    "supcon": lambda: SupConNTXent(0.5),
}
PICTURES = 11  # of a global batch: six and five of two processes
GROUPS = torch.tensor([0, 1, 2, 3, 0, 4, 5, 1, 6, 7, 0])  # of both processes
TARGETS = torch.tensor([0, 1, -1, 0, 2, 1, -1, 0, -1, 2, 1])
SIZES = {"nothing": None, "micro-batches": 4}  # of a process's six pictures: three and three
MODULE = "data module"
Results = dict[tuple[str, str, str], dict[str, Tensor]]  # loss, what it is given, micro-batches -> weights

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


class Encoder(nn.Sequential):
    """Takes pictures of any size, each by itself."""

    feature_dim = 16

    def __init__(self, channels: int) -> None:
        first, second = nn.Conv2d(channels, 8, 3), nn.Conv2d(8, 16, 2)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(first, nn.GroupNorm(2, 8), nn.ReLU(), second, nn.ReLU(), pooled)


class Small(SimCLR):
    """Has that encoder, and a head without BatchNorm."""

    def build_encoder(self) -> nn.Module:
        return Encoder(self.hparams["in_channels"])

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 6, bias=False))


def given() -> list[tuple[str, str]]:
    """Losses, and what they are given: groups of pictures, classes of some, or the pictures alone."""
    return [(kind, what) for kind in LOSSES for what in ("", "targets" if kind == "supcon" else "groups", MODULE)]


def batches(what: str) -> list[ViewBatch]:
    """This process's part of three batches: two large views and three local crops."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(3):
        large, small = (torch.randn(n, PICTURES, 3, s, s, generator=generator) for n, s in ((2, 8), (3, 5)))
        own = [part.tensor_split(world_size(), dim=1)[rank()] for part in (large, small)]
        batch = ViewBatch.of(*own[0], *own[1])
        groups, targets = (values.tensor_split(world_size())[rank()] for values in (GROUPS, TARGETS))
        made.append(
            batch._replace(
                groups=groups if what == "groups" else None, targets=targets if what == "targets" else batch.targets
            )
        )
    return made


def train(kind: str, what: str, micro_batch_size: int | None) -> dict[str, Tensor]:
    """Weights after three steps."""
    torch.manual_seed(0)
    channels = 1 if what == MODULE else 3
    model = Small(
        loss=LOSSES[kind](),
        optimizer="sgd",
        learning_rate=0.1,
        micro_batch_size=micro_batch_size,
        in_channels=channels,
    )
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",
        max_steps=3,
        limit_val_batches=0,
        use_distributed_sampler=False,  # each process has its own pictures already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if what == MODULE:
        recipes = [ViewRecipe("digits", count=2), ViewRecipe("digits", size=8, count=3, crop_area=(0.1, 0.4))]
        trainer.fit(model, SimCLRDataModule("digits", batch_size=12, views=recipes, num_workers=0, seed=3))
    else:
        loader: DataLoader[ViewBatch] = DataLoader(batches(what), batch_size=None)  # type: ignore[arg-type]
        trainer.fit(model, loader)
    return dict(model.state_dict())


def trainings() -> Results:
    """Of all losses."""
    return {(*case, name): train(*case, size) for case in given() for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def results() -> list[Results]:
    """Of one process, then of each of two."""
    return [*run_in_processes(trainings, 1), *run_in_processes(trainings, 2)]


@pytest.mark.parametrize("micro_batches", SIZES)
@pytest.mark.parametrize(("kind", "what"), given())
def test_weights_are_those_of_one_process_and_one_batch(
    results: list[Results], kind: str, what: str, micro_batches: str
) -> None:
    truth = results[0][kind, what, "nothing"]
    for found in results:
        weights = found[kind, what, micro_batches]
        assert weights.keys() == truth.keys()
        for name, value in truth.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-10, atol=1e-13, msg=name)


def test_trainings_differ(results: list[Results]) -> None:
    """Or equality would say nothing: of what a loss is given, and of the losses; unlabelled, SupCon is no exception."""
    for what in ("", MODULE):
        weights = [results[0][kind, what, "nothing"]["encoder.0.weight"] for kind in LOSSES]
        for place, weight in enumerate(weights):
            assert all((weight - other).abs().max() > 1e-7 for other in weights[:place])
    for kind, what in given():
        if what in ("groups", "targets"):
            plain = results[0][kind, "", "nothing"]["encoder.0.weight"]
            assert (results[0][kind, what, "nothing"]["encoder.0.weight"] - plain).abs().max() > 1e-7
