"""Curves, ids and settings in W&B (offline), TensorBoard, MLflow and CSV, also of a run that was interrupted."""

from __future__ import annotations

import csv
import itertools
import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from tests.integration.offline_runs import Curves, curves_of, of_type, rows
from tests.integration.wandb_server import wandb_server

from simclr_lightning import RetrievalTable, SimCLR
from simclr_lightning.errors import MissingPackageError

Simclr = Callable[..., None]
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TINY = ["--config", "quickstart", "--model.width", "0.125", "--trainer.accelerator", "cpu", "--data.num_workers", "0"]
SHORT = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.max_epochs", "3"]
LOGGED = ["--trainer.log_every_n_steps", "1", "--trainer.check_val_every_n_epoch", "1"]
FIT = ["fit", *TINY, *SHORT, *LOGGED]
WANDB = ["--trainer.logger+=WandbLogger", "--trainer.logger.project=views", "--trainer.logger.log_model=true"]
TENSORBOARD = ["--trainer.logger+=TensorBoardLogger", "--trainer.logger.save_dir=tb", "--trainer.logger.name=digits"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps, counted from 1 on, at which a training fails."""
    steps, step, calls = list[int](), SimCLR.training_step, itertools.count(1)

    def failing(self: SimCLR, *arguments: Any) -> Any:
        if next(calls) in steps:
            raise RuntimeError("out of memory")
        return step(self, *arguments)

    monkeypatch.setattr(SimCLR, "training_step", failing)
    return steps


def file_curves(path: Path) -> Curves:
    with path.open() as file:
        told = ({key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file))
        return curves_of(told, "step")


def assert_whole(curves: Curves) -> None:
    """Six steps, none twice, in their order."""
    assert [step for step, _ in curves["train/loss"]] == [0, 1, 2, 3, 4, 5]
    assert [step for step, _ in curves["val/loss"]] == [1, 3, 5]
    for name, points in curves.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name


def test_curves_go_on_in_every_tracker(simclr: Simclr, fail_at: list[int]) -> None:
    fail_at.append(6)
    run = Path("runs/quickstart/version_0")
    extra = TENSORBOARD if find_spec("tensorboard") else []
    with pytest.raises(RuntimeError, match="out of memory"):
        simclr(*FIT, *extra, *WANDB)
    begun = json.loads((run / "trackers.json").read_text())
    assert [own["logger"] for own in begun] == ["CSVLogger", *["TensorBoardLogger"] * bool(extra), "WandbLogger"]
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["trackers"] == begun
    assert [step for step, _ in file_curves(run / "metrics.csv")["train/loss"]] == [0, 1, 2, 3, 4]  # 4 is taken again
    simclr(*FIT, *extra, *WANDB, "--ckpt_path", "last")
    assert json.loads((run / "trackers.json").read_text()) == begun

    curves = file_curves(run / "metrics.csv")
    assert_whole(curves)
    files = sorted(Path().glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{begun[-1]['version']}"}
    assert curves_of(itertools.chain(*map(rows, files)), "trainer/global_step") == curves
    for file in files:
        told = list(of_type(file, "run"))[-1]
        assert (told.display_name, told.run_group, told.project) == ("version_0", "quickstart", "views")
    metrics = {metric.name: metric for metric in of_type(files[0], "metric")}
    assert [metrics[name].step_metric for name in ("train/loss", "val/loss")] == ["trainer/global_step", "epoch"]
    assert [metrics["train/loss"].summary.min, metrics["train/loss"].summary.last] == [True, True]
    assert [metrics["probe/val_top1"].summary.max, metrics["probe/val_top1"].step_metric] == [True, "epoch"]
    aliases = [sorted(artifact.aliases) for artifact in of_type(files[1], "artifact") if artifact.type == "model"]
    assert aliases == [["best", "epoch-2", "latest"], ["epoch-2", "latest"]]
    (table,) = files[1].parent.glob("files/media/table/retrieval_*.table.json")
    told = json.loads(table.read_text())
    assert told["columns"][:5] == ["query", "class of query", "neighbour 1", "class 1", "similarity 1"]
    assert len(told["data"]) == 16
    assert all(row[4] >= row[7] for row in told["data"])

    pytest.importorskip("tensorboard", reason="all but TensorBoard's curves was looked at")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("tb/digits/version_0", size_guidance={"scalars": 0}).Reload()
    theirs = {name: [(own.step, own.value) for own in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert theirs.keys() - {"epoch", "hp_metric"} == curves.keys()
    for name, points in curves.items():
        assert [step for step, _ in theirs[name]] == [step for step, _ in points]
        assert [value for _, value in theirs[name]] == pytest.approx([value for _, value in points], rel=1e-6)


def test_a_run_of_wandb_alone_goes_on_under_its_id_on_a_server(
    simclr: Simclr, fail_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at.append(6)
    command = [*FIT, "--trainer.logger=WandbLogger", "--trainer.logger.project=views"]
    monkeypatch.setattr(RetrievalTable, "on_train_end", Callback.on_train_end)  # tables are artifacts: not served
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        with pytest.raises(RuntimeError, match="out of memory"):
            simclr(*command)
        ((name, told),) = server.runs.items()
        run = Path("runs/views", name)
        assert (told["displayName"], told["groupName"], told["project"]) == (name, "quickstart", "views")
        assert "temperature" in told["config"]
        lost = [number for number, row in enumerate(server.history(name)) if row.get("trainer/global_step") == 4]
        assert lost  # the machine went down before the last step came through
        del told["files"]["wandb-history.jsonl"][lost[0] :]
        told["files"]["wandb-summary.json"] = [json.dumps({**server.summary(name), "trainer/global_step": 3})]
        simclr(*command, "--ckpt_path", "last")
        assert list(server.runs) == [name] == [path.name for path in run.parent.iterdir()]
        curves = file_curves(run / "metrics.csv")
        assert_whole(curves)
        assert curves_of(server.history(name), "trainer/global_step") == curves
        losses = [value for _, value in curves["train/loss"]]
        assert server.summary(name)["train/loss"] == {"min": min(losses), "last": losses[-1]}
        best = max(value for _, value in curves["probe/val_top1"])
        assert server.summary(name)["probe/val_top1"]["max"] == best


def test_mlflow_has_the_same_curves(simclr: Simclr, fail_at: list[int]) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    fail_at.append(6)
    command = [*FIT, "--trainer.logger+=MLFlowLogger", "--trainer.logger.save_dir=."]
    with pytest.raises(RuntimeError, match="out of memory"):
        simclr(*command)
    simclr(*command, "--trainer.max_epochs", "3", "--ckpt_path", "last", "--trainer.gradient_clip_val", "100")
    client = mlflow.tracking.MlflowClient("sqlite:///mlflow.db")
    (run,) = client.search_runs([own.experiment_id for own in client.search_experiments()])
    assert run.data.params["model/init_args/width"] == "0.125"
    curves = file_curves(Path("runs/quickstart/version_0/metrics.csv"))
    assert_whole(curves)
    assert run.data.metrics.keys() - {"epoch"} == curves.keys()
    for name, points in curves.items():
        assert [(own.step, own.value) for own in client.get_metric_history(run.info.run_id, name)] == points


@pytest.mark.parametrize("logger", ["WandbLogger", "TensorBoardLogger", "MLFlowLogger"])
def test_a_missing_package_is_named(simclr: Simclr, logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("wandb", "tensorboard", "tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    # A command is a process elsewhere: here the next test would get the options that WandbLogger has without wandb.
    monkeypatch.setattr("jsonargparse._typehints._cached_class_parsers", {}, raising=False)
    with pytest.raises(MissingPackageError, match=f"{logger} needs the package .*: pip install ") as caught:
        simclr(*FIT, "--trainer.logger", logger)
    assert len(str(caught.value).splitlines()) <= 3
    assert not Path("runs").exists()


@pytest.mark.parametrize("file", sorted((EXPERIMENTS / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_trial_of_a_sweep(file: Path, simclr: Simclr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The agent of W&B forms the command, and says which run it is."""
    from wandb import wandb_agent

    commands: list[list[str]] = []

    class Recorded:
        last_sigterm_time = None

        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Recorded)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which the agent sets: undone at the end
        monkeypatch.setenv(name, "")
    sweep = yaml.safe_load(file.read_text())
    agent: Any = wandb_agent.Agent(api=None, queue=None, sweep_id="sweep1")
    agent._sweep_command = sweep["command"]
    drawn = {
        name: told["values"][-1] if "values" in told else told["max"] for name, told in sweep["parameters"].items()
    }
    agent._command_run(
        {"run_id": "trial1", "program": None, "args": {name: {"value": own} for name, own in drawn.items()}}
    )
    ((env, program, *words),) = commands
    assert (env, program) == ("/usr/bin/env", "simclr")
    simclr(*words, *TINY[2:], "--trainer.max_steps", "1", "--trainer.limit_val_batches", "1")
    (run,) = tmp_path.glob("runs/wandb/offline-run-*-trial1/*.wandb")
    config = yaml.safe_load(next(tmp_path.glob("runs/*/trial1/config.yaml")).read_text())
    for name, value in drawn.items():
        found: Any = config
        for part in name.split("."):
            found = found[part] if part in found else found["init_args"][part]
        assert found == (yaml.safe_load(value) if isinstance(value, str) else value), name
    assert list(of_type(run, "run"))[-1].sweep_id == "sweep1"
