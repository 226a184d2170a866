"""Weights & Biases, offline: the run holds configuration, metrics and pictures."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"


def records(run: Path) -> Iterator[Any]:
    """Records of an offline run: protocol buffers in LevelDB's log format (blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    data, position, message = run.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        message += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole message, or the last part of one
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(message)
            message = b""
            yield record


def configuration(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for record in records(run):
        if record.WhichOneof("record_type") in ("run", "config"):
            updates = record.run.config if record.HasField("run") else record.config
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates.update}
    return config


def logged(run: Path) -> set[str]:
    return {
        item.key or item.nested_key[0]
        for record in records(run)
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }


def test_run_holds_configuration_metrics_and_views(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simclr_lightning", "fit", "--config", str(QUICKSTART), "--model.width", "0.125"]
    command += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
    command += ["--trainer.log_every_n_steps", "1", "--trainer.check_val_every_n_epoch", "1"]
    command += [
        "--trainer.logger",
        "WandbLogger",
        "--trainer.logger.project",
        "views",
        "--trainer.logger.save_dir",
        "wb",
    ]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**inherited, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second run stands beside the first
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=300)

    first, second = sorted(tmp_path.glob("wb/wandb/offline-run-*/*.wandb"))
    assert first.stem != second.stem
    for run in (first, second):
        folder = tmp_path / "wb" / "views" / run.stem.removeprefix("run-")
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        assert (folder / "checkpoints" / "last.ckpt").exists()
        assert "train/loss" in (folder / "metrics.csv").read_text().splitlines()[0]
        config = configuration(run)
        assert config["model"] == saved["model"]
        assert config["data"] == saved["data"]
        assert config["trainer"]["max_epochs"] == 1
        assert {"train/loss", "probe/val_top1", "trainer/global_step"} <= logged(run)
        assert any(key.startswith("views") for key in logged(run))


def test_an_evaluation_hands_its_figures_and_its_picture_over(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simclr_lightning", "evaluate", "--config", str(QUICKSTART)]
    command += ["--model.width", "0.125", "--trainer.accelerator", "cpu", "--data.label_fraction", "0.2"]
    command += ["--protocols", "knn"]
    command += ["--trainer.logger", "WandbLogger", "--trainer.logger.project", "judged"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**inherited, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=300)
    (run,) = tmp_path.glob("**/offline-run-*/*.wandb")
    assert {"evaluate/raw pixels/knn", "evaluate/random encoder/knn", "features"} <= logged(run)
    (figures,) = tmp_path.glob("**/judged/*/evaluation.json")
    assert figures.parent.name == run.stem.removeprefix("run-")  # the folder of this run
