"""Between logged steps the host never waits for the device, whatever is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from tests.simulated.device import NAME
from tests.simulated.pretraining import QUIET, SMALL, pretrain, waits
from tests.simulated.training import Step, on_simulated_device

from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import RunSummary

pytestmark = QUIET

MOST_KERNELS = 298  # of a step: views, resnet10, loss, LARS, probe, logging

MODELS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "micro-batches": {"micro_batch_size": 8},
    "sgd": {"optimizer": "sgd"},
    "adamw": {"optimizer": "adamw"},
    "no channels_last": {"channels_last": False},
    "linear head": {"projection_layers": 1},
}

SETTINGS: dict[str, dict[str, Any]] = {
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "accumulation": {"accumulate_grad_batches": 2, "max_steps": 6},
    "clipping": {"gradient_clip_val": 1.0},
    "validation": {"val_check_interval": 6, "limit_val_batches": 2, "max_steps": 17},
    "no logger": {"logger": False},
    "nothing logged": {"log_every_n_steps": 0},
}


@pytest.mark.parametrize("setting", MODELS)
def test_no_wait_between_logged_steps(setting: str, tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, model=SimCLR(**{**SMALL, **MODELS[setting]}))
    assert waits(steps) == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_wait_in_any_kind_of_training(setting: str, tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, **SETTINGS[setting])
    assert waits(steps) == []


def test_a_step_costs_a_bounded_number_of_kernels(tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path)
    assert max(step.kernels for step in steps.between) <= MOST_KERNELS, [step.kernels for step in steps.between]


def test_float16_waits_for_its_scaler_alone(tmp_path: Path) -> None:
    """Torch's GradScaler asks after every step whether it overflowed; bf16-mixed has none."""
    _, steps = pretrain(tmp_path, precision="16-mixed")
    assert {wait.where.partition(":")[0] for wait in waits(steps)} <= {"lightning/pytorch/plugins/precision/amp.py"}


def test_no_wait_with_labelled_pictures_beside_a_folder_of_any(tmp_path: Path) -> None:
    for name in ("unlabelled", "labelled/cat", "labelled/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 5, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = SimCLRDataModule(
        "folder", root=tmp_path / "unlabelled", probe=tmp_path / "labelled", batch_size=4, num_workers=1
    )
    _, steps = pretrain(tmp_path, model=SimCLR(**{**SMALL, "in_channels": 3}), data=data, max_epochs=2)
    assert waits(steps) == []


def test_it_computes_what_the_cpu_computes(tmp_path: Path) -> None:
    """The device is simulated, the numbers are not."""
    losses = []
    for accelerator in (NAME, "cpu"):
        torch.manual_seed(0)
        data = SimCLRDataModule("digits", batch_size=32)
        short: dict[str, Any] = {
            "max_steps": 3,
            "log_every_n_steps": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [LARSWarmup(warmup_steps=1), OnlineLinearProbe()],
        }
        trainer = on_simulated_device(**short) if accelerator == NAME else Trainer(accelerator="cpu", **short)
        trainer.fit(SimCLR(**SMALL), data)
        losses.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert losses[0].keys() == losses[1].keys()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("accelerator", "settings", "advise", "recommended"),
    [
        (NAME, {}, True, True),
        (NAME, {}, False, False),  # somebody chose float32
        (NAME, {"precision": "bf16-mixed"}, True, False),
        ("cpu", {}, True, False),
    ],
)
def test_bfloat16_is_recommended_where_the_device_has_it(
    accelerator: str,
    settings: dict[str, Any],
    advise: bool,
    recommended: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short: dict[str, Any] = {
        "max_steps": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
        "callbacks": [LARSWarmup(warmup_steps=0), RunSummary(advise)],
        **settings,
    }
    trainer = on_simulated_device(**short) if accelerator == NAME else Trainer(accelerator=accelerator, **short)
    trainer.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32))
    assert ("--trainer.precision bf16-mixed" in " ".join(capsys.readouterr().out.split())) == recommended


def test_a_wait_that_a_callback_brings_is_found(tmp_path: Path) -> None:
    """The test of the tests above: they would not pass if anything waited."""

    class Impatient(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            outputs["loss"].item()

    _, steps = pretrain(tmp_path, Impatient())
    assert {wait.what for wait in waits(steps)} == {"item"}
    assert all("test_training.py" in wait.where for wait in waits(steps))
    assert all(len(step.waits) == 1 for step in steps.between)
    assert isinstance(steps.steps[0], Step)
