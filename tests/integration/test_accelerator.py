"""Nothing but the command line knows which devices there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry

import simclr_lightning
from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule, ViewGrid


class PretendAccelerator(Accelerator):
    """An accelerator of its own name and device syntax, which computes on the CPU."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def teardown(self) -> None:
        pass

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> int:
        return int(str(devices).removeprefix("pretend:"))

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [torch.device("cpu")] * devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "pretend"


@pytest.fixture
def pretend() -> Iterator[str]:
    AcceleratorRegistry.register("pretend", PretendAccelerator, description="stands in for any device")
    yield "pretend"
    del AcceleratorRegistry["pretend"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_pretraining_runs_on_an_accelerator_nobody_heard_of(pretend: str, precision: str, tmp_path: Path) -> None:
    model = SimCLR(encoder="resnet10", width=0.125, stem="pooled", in_channels=1)
    data = SimCLRDataModule(dataset="digits", batch_size=64)
    trainer = lightning.Trainer(
        accelerator=pretend,
        devices="pretend:1",
        precision=precision,  # type: ignore[arg-type]
        max_steps=3,
        limit_val_batches=1,
        log_every_n_steps=1,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[LARSWarmup(warmup_steps=1), OnlineLinearProbe(), ViewGrid()],
    )
    trainer.fit(model, data)
    assert isinstance(trainer.accelerator, PretendAccelerator)
    assert trainer.global_step == 3
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


def test_source_names_no_device_kind() -> None:
    package = Path(simclr_lightning.__file__).parent
    kinds = re.compile(r"\b(cuda|mps|xpu|hpu|tpu|npu|rocm)\b", re.IGNORECASE)
    named = {path.name for path in package.rglob("*.py") if kinds.search(path.read_text())}
    assert named <= {
        "cli.py",
        "precision.py",
        "sync_batchnorm.py",
        "trainer_checks.py",
    }  # SyncBatchNorm; names of settings
