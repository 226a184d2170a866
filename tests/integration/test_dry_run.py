"""`simclr fit --dry_run` takes a few real steps, tells what they took, and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from tests.distributed.harness import run_in_processes

from simclr_lightning import SimCLR, SimCLRDataModule, ViewGrid
from simclr_lightning.callbacks.dry_run import DryRun, dry_settings
from simclr_lightning.callbacks.run_folder import folder_of_first_process
from simclr_lightning.distributed import world_size
from simclr_lightning.errors import InputError

Simclr = Callable[..., None]
QUICKSTART = ["fit", "--config", "quickstart", "--model.width", "0.125", "--trainer.accelerator", "cpu"]


def test_it_tells_time_memory_and_files_and_writes_nothing(
    simclr: Simclr, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    views = ["--model.micro_batch_size", "50", "--data.views.count", "4"]
    own = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=elsewhere"]
    simclr(*QUICKSTART, *views, *own, "--dry_run")
    shown = capsys.readouterr().out
    assert re.search(r"run folder +runs/quickstart/version_0", shown)
    assert re.search(r"steps +440, of which 44 are warm-up", shown)  # those of the run, not of the few
    assert re.search(r"memory +about \d+ MiB for a step", shown)
    first, time, memory, files = shown[shown.index("Dry run") :].splitlines()
    assert first == "Dry run: 8 step(s) measured, nothing is written."
    assert re.fullmatch(r"A step takes about \S+ s, an epoch of 11 step\(s\) about .*, and what is left .*", time)
    assert re.fullmatch(r"Memory of a process.*: .* at most, \d+ MiB more than before the first step.", memory)
    told = "The run would write into runs/quickstart/version_0: config.yaml, what callbacks draw, metrics by CSVLogger"
    assert files.startswith(told)
    assert re.search(r"checkpoints of about \d+ MiB each\.$", files)
    assert not list(tmp_path.iterdir())


def test_a_run_is_tried_where_it_would_go_on(
    simclr: Simclr, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0"]
    simclr(*QUICKSTART, *few, "--trainer.max_epochs", "1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    simclr(*QUICKSTART, *few, "--trainer.max_epochs", "3", "--ckpt_path", "last", "--dry_run", "true")
    shown = capsys.readouterr().out
    assert re.search(r"run folder +runs/quickstart/version_0", shown)
    assert "Dry run: 1 step(s) measured" in shown
    assert "an epoch of 1 step(s)" in shown
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_but_fit_is_tried(simclr: Simclr) -> None:
    with pytest.raises(InputError, match="dry_run is a few steps of a training, and `simclr evaluate` trains none"):
        simclr("evaluate", "--dry_run")


def test_what_writes_is_left_out() -> None:
    given = [ModelCheckpoint(), LearningRateMonitor(), ViewGrid()]
    typed = {"callbacks": given, "logger": True, "default_root_dir": None, "enable_checkpointing": None}
    changed = dry_settings({**typed, "max_epochs": 2})
    (only,) = changed.pop("callbacks")
    assert isinstance(only, DryRun)
    assert not Path(changed["default_root_dir"]).exists()  # until somebody writes
    assert changed["logger"] is changed["enable_checkpointing"] is False
    assert changed["max_epochs"] == 2


@pytest.mark.parametrize("typed", [True, None])
def test_it_names_the_folder_of_the_logger_that_lightning_takes_by_itself(typed: bool | None, tmp_path: Path) -> None:
    settings = {"callbacks": None, "logger": typed, "default_root_dir": str(tmp_path), "enable_checkpointing": False}
    (dry,) = dry_settings(settings)["callbacks"]
    trainer = Trainer(accelerator="cpu", logger=True, enable_checkpointing=False, default_root_dir=tmp_path)
    assert dry.folder == folder_of_first_process(trainer) == tmp_path / "lightning_logs/version_0"
    assert dry.loggers == [type(own).__name__ for own in trainer.loggers]
    assert list(tmp_path.iterdir()) == []


def tried() -> int:
    """Steps of this process."""
    settings = {"callbacks": None, "logger": None, "default_root_dir": None, "enable_checkpointing": None}
    options: dict[str, Any] = {
        "strategy": "ddp",
        "devices": world_size(),
        "accelerator": "cpu",
        "enable_model_summary": False,
    }
    trainer = Trainer(**dry_settings(settings), **options, limit_val_batches=0, max_epochs=1)
    torch.manual_seed(0)
    trainer.fit(SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1), SimCLRDataModule("digits", batch_size=64))
    return trainer.global_step


def test_two_processes_end_together() -> None:
    first, second = run_in_processes(tried, 2)
    assert first == second == 9
