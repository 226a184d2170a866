"""Parts of the package in the training loops of another project: SimCLR as one term, an own sampling and loss."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import LARSWarmup, SimCLR
from simclr_lightning.distributed import world_size
from simclr_lightning.errors import InputError

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def theirs(name: str) -> Any:
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(f"their_project.{name}")


def squares(number: int) -> list[tuple[list[Tensor], Tensor, Tensor]]:
    """Views, pictures and masks of bright squares on noise."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for place in range(number):
        masks = torch.zeros(16, 16, dtype=torch.long)
        masks[place % 8 : place % 8 + 6, 3:9] = 1
        noisy = (masks + 0.3 * torch.randn(3, 16, 16, generator=generator))[:, None]
        found.append((list(noisy[:2]), noisy[2], masks))
    return found


def test_simclr_is_one_term_of_a_segmentation(tmp_path: Path) -> None:
    seed_everything(0)
    model = theirs("segmentation").Segmentation()
    loader: Any = DataLoader(cast("Any", squares(64)), batch_size=16)
    logged: list[dict[str, float]] = []
    for epochs in (1, 12):
        trainer = Trainer(**QUIET, max_epochs=epochs, log_every_n_steps=1)
        trainer.fit(model, loader)
        logged.append({name: float(value) for name, value in trainer.logged_metrics.items()})
        assert logged[-1].keys() == {"contrast", "segmentation"}
    assert logged[1]["segmentation"] < 0.5 * logged[0]["segmentation"]
    assert logged[1]["contrast"] < logged[0]["contrast"]
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    again = type(model).load_from_checkpoint(tmp_path / "theirs.ckpt", weights_only=True)
    pictures = torch.stack([picture for _, picture, _ in squares(4)])
    assert torch.equal(again.eval()(pictures), model.eval()(pictures))


class PerPicture(nn.Module):
    """A network without BatchNorm, and no head with it, so that processes and one process compute the same."""

    feature_dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(288, 32))

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.layers(pictures)
        return features


def train_balanced() -> dict[str, Any]:
    seed_everything(0)
    balanced = theirs("balanced")
    data = balanced.Balanced("digits", batch_size=128)
    model = SimCLR(PerPicture(), projection_layers=0, loss=balanced.AlignedAndUniform(), optimizer="sgd")
    trainer = Trainer(
        **QUIET,
        max_epochs=1,
        limit_train_batches=4,
        limit_val_batches=0,
        devices=world_size(),
        strategy="ddp" if world_size() > 1 else "auto",
        callbacks=[LARSWarmup(warmup_epochs=0, scaling="none")],
        use_distributed_sampler=False,
    )
    trainer.fit(model, datamodule=data)
    return {"loss": trainer.callback_metrics["train/loss"], **model.state_dict()}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_an_own_sampling_and_loss_are_those_of_one_process_on_two() -> None:
    (alone,) = run_in_processes(train_balanced, 1)
    for found in run_in_processes(train_balanced, 2):
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_an_encoder_that_is_a_module_is_given_again(tmp_path: Path) -> None:
    model = SimCLR(PerPicture(), projection_dim=16)
    trainer = Trainer(**QUIET, max_steps=0)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = SimCLR.load_from_checkpoint(tmp_path / "last.ckpt", encoder=PerPicture())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    for load in (SimCLR.load_from_checkpoint, SimCLR.load_encoder):
        with pytest.raises(InputError, match=r"was a module of Python, .*PerPicture, .* give it again"):
            load(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"a PerPicture, and width=0\.5"):
        SimCLR(PerPicture(), width=0.5)
    with pytest.raises(TypeError, match="on the module that is given"):
        SimCLR(nn.Flatten())
