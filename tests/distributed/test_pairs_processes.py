"""A training with pictures that belong together is the same on one process, on two and on three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.distributed import world_size
from simclr_lightning.losses import ContrastiveLoss, DecoupledNTXent, HardNegativeNTXent, NTXentLoss, SupConNTXent
from simclr_lightning.views import ViewBatch, ViewRecipe

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:Total length of `list` across ranks is zero"
)

LOSSES: dict[str, ContrastiveLoss] = {
    "nt_xent": NTXentLoss(0.2),
    "decoupled": DecoupledNTXent(0.2),
    "hard": HardNegativeNTXent(0.5, beta=1.0, tau_plus=0.02),
    "supcon": SupConNTXent(0.2),
}
RECIPES = {
    "two": [ViewRecipe("cifar10", size=12)],
    "four": [ViewRecipe("cifar10", size=12, count=4)],
    "local": [ViewRecipe("cifar10", size=12), ViewRecipe("cifar10", size=8, count=2)],
}
CASES = [
    ("nt_xent", "two", False),
    ("nt_xent", "four", True),
    ("nt_xent", "local", False),
    ("decoupled", "local", True),
    ("hard", "four", False),
    ("supcon", "two", True),
]
"""Loss, views, and whether pictures are in memory."""


class Encoder(nn.Module):
    """A network that treats every picture by itself, without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 8
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images).mean((2, 3))
        return features


class Recorder(SimCLR):
    """Records losses and groups."""

    def build_encoder(self) -> nn.Module:
        return Encoder()

    def build_head(self) -> nn.Module:
        return nn.Linear(8, 6)

    def on_fit_start(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        assert batch.groups is not None
        self.seen.append({"loss": outputs["loss"].detach(), "groups": batch.groups, "view": batch.views[0][1]})
        return outputs


def train(root: Path, loss: str, recipes: str, cache: bool, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    data = SimCLRDataModule(
        "folder", root, batch_size=12, views=RECIPES[recipes], pairs=root / "pairs.csv", cache=cache, num_workers=0
    )
    model = Recorder(loss=LOSSES[loss], optimizer="sgd", learning_rate=0.01, weight_decay=0.0, **options)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",
        max_epochs=2,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return {"seen": model.seen, "weights": dict(model.state_dict())}


def trainings(root: Path) -> list[dict[str, Any]]:
    whole = [train(root, *case) for case in CASES]
    return [*whole, train(root, *CASES[2], micro_batch_size=2)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[list[dict[str, Any]]]]:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["file,group"]
    for number in range(30):
        folder = root / ("cat" if number % 3 else "dog")
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines += [f"{number}.png,{number % 8}"] * (number < 24)
    (root / "pairs.csv").write_text("\n".join(lines))
    return {processes: run_in_processes(trainings, processes, root) for processes in (1, 2, 3)}


@pytest.mark.parametrize("case", range(len(CASES) + 1))
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_train_as_one(
    results: dict[int, list[list[dict[str, Any]]]], processes: int, case: int
) -> None:
    (alone,), together = ([own[case] for own in results[number]] for number in (1, processes))
    assert len(alone["seen"]) == 4
    for step, expected in enumerate(alone["seen"]):
        for name in ("groups", "view"):
            assert torch.equal(torch.cat([own["seen"][step][name] for own in together]), expected[name])
        for own in together:
            torch.testing.assert_close(own["seen"][step]["loss"], expected["loss"], rtol=1e-12, atol=0)
    for own in together:
        for name, value in alone["weights"].items():
            torch.testing.assert_close(own["weights"][name], value, rtol=1e-10, atol=1e-12)


def test_micro_batches_change_nothing(results: dict[int, list[list[dict[str, Any]]]]) -> None:
    whole, parts = results[1][0][2], results[1][0][-1]
    for one, other in zip(whole["seen"], parts["seen"], strict=True):
        torch.testing.assert_close(one["loss"], other["loss"], rtol=1e-12, atol=0)
    for name, value in whole["weights"].items():
        torch.testing.assert_close(parts["weights"][name], value, rtol=1e-10, atol=1e-12)


def test_groups_matter(results: dict[int, list[list[dict[str, Any]]]]) -> None:
    groups = torch.cat([step["groups"] for step in results[1][0][0]["seen"]])
    assert len(torch.unique(groups)) == 14  # eight of three pictures, six of one
