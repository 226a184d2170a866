"""SimCLR with ``compile_encoder``: the same training and the same checkpoints, through torch.compile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.losses import NTXentLoss
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

# Of torch's own making
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]


class Encoder(nn.Sequential):
    """Small enough to be compiled within seconds."""

    feature_dim = 9

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1), nn.Flatten())


class Small(SimCLR):
    """Has that encoder."""

    def __init__(
        self, micro_batch_size: int | None = None, compile_encoder: bool = False, channels_last: bool = False
    ) -> None:
        super().__init__(optimizer="sgd", learning_rate=0.05, loss=NTXentLoss(0.5))

    def build_encoder(self) -> nn.Module:
        return Encoder()


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Start anew."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def trained(folder: Path, precision: Any = "32-true", **arguments: Any) -> tuple[SimCLR, float]:
    """A model after three steps and a validation, whose loss comes with it; saved as ``folder/model.ckpt``."""
    torch.manual_seed(0)
    model = Small(**arguments)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        precision=precision,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [ViewBatch.of(*torch.rand(2, 8, 3, 8, 8)) for _ in range(3)]
    loader: DataLoader[ViewBatch] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, loader, loader)
    trainer.save_checkpoint(folder / "model.ckpt")
    return model, float(trainer.callback_metrics["val/loss"])


def assert_same(found: SimCLR, truth: SimCLR, tolerance: float) -> None:
    assert found.state_dict().keys() == truth.state_dict().keys()
    for name, value in truth.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("micro_batch_size", [None, 4, 3])
def test_training_is_that_of_the_eager_encoder(
    micro_batch_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and split into forward and backward as always, but without machine code."""
    compiled = []

    def compile_quickly(self: nn.Module) -> None:
        compiled.append(type(self))
        self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_quickly)
    eager, loss = trained(tmp_path, "64-true", micro_batch_size=micro_batch_size)
    assert compiled == []
    found, found_loss = trained(tmp_path, "64-true", micro_batch_size=micro_batch_size, compile_encoder=True)
    assert compiled == [Encoder]
    assert_same(found, eager, 1e-12)
    assert found_loss == pytest.approx(loss, rel=1e-12)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_encoder_with_micro_batches_trains_and_is_saved_under_the_same_names(tmp_path: Path) -> None:
    eager, loss = trained(tmp_path, micro_batch_size=4)
    found, found_loss = trained(tmp_path, micro_batch_size=4, compile_encoder=True)
    assert_same(found, eager, 1e-4)
    assert found_loss == pytest.approx(loss, rel=1e-4)
    loaded = Small.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.hparams["compile_encoder"] is True
    assert_same(loaded, found, 0.0)
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        features: Tensor = loaded.eval()(images)  # nothing is compiled outside of fit
    assert features.shape == (2, 9)
