"""Weights & Biases, offline: the run holds configuration, metrics and pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tests.integration.offline_runs import configuration, logged

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"


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
