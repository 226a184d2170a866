"""What the command line promises beyond LightningCLI."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.checkpoints.hostile import Hostile

from simclr_lightning import SimCLR
from simclr_lightning.errors import InputError, MissingFileError

Simclr = Callable[..., None]

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
TINY = ["--model.width", "0.125", "--data.batch_size", "128", "--trainer.accelerator", "cpu"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]


def only(pattern: str) -> Path:
    (path,) = Path().glob(pattern)
    return path


def test_bare_fit_pretrains_on_digits_with_every_default(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    simclr("fit", "--model.encoder", "resnet10", *TINY, *SHORT, "--trainer.log_every_n_steps", "1")
    run = Path("runs/simclr/version_0")
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert list(run.rglob("*.png")), "ViewGrid was a default"
    metrics = (run / "metrics.csv").read_text()
    assert "lr-LARS" in metrics.splitlines()[0]
    assert "train/contrast_top1" in metrics.splitlines()[0]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["class_path"] == "simclr_lightning.SimCLR"
    summary = capsys.readouterr().out
    for line in ("device", "precision", "pictures per step", "learning rate", "steps", "parameters", "negatives"):
        assert line in summary
    assert "254" in summary  # negatives of each view: 2 * (128 - 1)
    assert "5.541 at chance" in summary  # log(2 * 128 - 1)


def test_a_log_file_has_a_line_an_epoch_and_no_advertising(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, "--trainer.max_epochs", "2")
    shown = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in shown.splitlines() if line.startswith("epoch")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    for noise in ("FLOPs", "litlogger", "TPU"):
        assert noise not in shown + caplog.text
    columns = Path("runs/quickstart/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"health/projections_rank", "time/pictures_per_second", "time/data"} <= set(columns)


def test_metrics_are_in_the_folder_whatever_the_logger(simclr: Simclr, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("their_loggers.py").write_text(
        "from lightning.pytorch.loggers.logger import DummyLogger\n"
        "class Theirs(DummyLogger):\n"
        "    save_dir, name, version = 'theirs', 'project', 'run'\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    theirs = ["--trainer.logger", "their_loggers.Theirs", "--trainer.log_every_n_steps", "1"]
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, *theirs)
    metrics = Path("theirs/project/run/metrics.csv")
    before = metrics.read_text()
    assert "train/loss" in before.splitlines()[0]
    checkpoint = Path("theirs/project/run/checkpoints/last.ckpt")
    simclr(
        "validate",
        "--config",
        QUICKSTART,
        *TINY,
        *theirs,
        "--trainer.limit_val_batches",
        "1",
        "--ckpt_path",
        checkpoint,
    )
    assert metrics.read_text() == before
    simclr(
        "fit", "--config", QUICKSTART, *TINY, *SHORT, *theirs, "--ckpt_path", checkpoint, "--trainer.max_epochs", "2"
    )
    assert metrics.read_text().startswith(before), "it goes on"
    assert len(metrics.read_text()) > len(before)


def test_model_learns_channels_and_size_from_the_data(simclr: Simclr) -> None:
    simclr("fit", "--model.encoder", "resnet10", *TINY, *SHORT)
    checkpoint = torch.load(only("runs/simclr/*/checkpoints/last.ckpt"), weights_only=True)
    assert checkpoint["hyper_parameters"]["in_channels"] == 1
    assert checkpoint["state_dict"]["encoder.conv1.weight"].shape[1:] == (1, 3, 3)  # the small stem, for 16 pixels


def test_what_was_typed_wins_over_the_checkpoint(simclr: Simclr) -> None:
    simclr("fit", "--config", QUICKSTART, "--model.loss.temperature", "0.4", *TINY, *SHORT)
    checkpoint = only("runs/quickstart/*/checkpoints/last.ckpt")
    more = ["--trainer.max_epochs", "2", "--model.loss.temperature", "0.7"]
    simclr("fit", *TINY, *SHORT, *more, "--ckpt_path", checkpoint)
    resumed = yaml.safe_load(Path("runs/simclr/version_0/config.yaml").read_text())["model"]["init_args"]
    assert resumed["loss"]["init_args"]["temperature"] == 0.7  # typed
    assert resumed["encoder"] == yaml.safe_load(QUICKSTART.read_text())["model"]["init_args"]["encoder"]  # remembered


def test_a_checkpoint_does_not_say_what_is_imported(simclr: Simclr, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("their_models.py").write_text("from simclr_lightning import SimCLR\nclass Theirs(SimCLR):\n    pass\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    hyperparameters = {"_class_path": "their_models.Theirs", "encoder": "resnet8"}
    torch.save({"hyper_parameters": hyperparameters, "state_dict": {}}, "theirs.ckpt")
    with pytest.raises(InputError, match=r"type --model their_models\.Theirs"):
        simclr("fit", *TINY, "--ckpt_path", "theirs.ckpt")
    assert "their_models" not in sys.modules


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "evaluate"])
def test_code_at_an_address_is_not_run(simclr: Simclr, tmp_path: Path, address: str, subcommand: str) -> None:
    torch.save({"state_dict": {}, "callbacks": Hostile(tmp_path / "trace")}, tmp_path / "hostile.ckpt")
    with pytest.raises(InputError, match="refuses them"):
        simclr(subcommand, *TINY, *SHORT[:2], "--ckpt_path", f"{address}/hostile.ckpt")
    assert not Path("trace").exists()


def test_a_run_goes_on_from_an_address(simclr: Simclr, address: str) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT)
    last = f"{address}/{only('runs/quickstart/version_0/checkpoints/last.ckpt').as_posix()}"
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, "--trainer.max_epochs", "2", "--ckpt_path", last)
    resumed = torch.load(only("runs/quickstart/version_1/checkpoints/last.ckpt"), weights_only=True)
    assert resumed["global_step"] == 4


LOGGED = ["--trainer.log_every_n_steps", "1"]


def rows(run: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    """What was logged, without what was not, and without what it took; order within a step does not matter."""
    with (run / name).open() as file:
        told = [
            {key: value for key, value in row.items() if value and not key.startswith("time/")}
            for row in csv.DictReader(file)
        ]
    return sorted(told, key=lambda row: (int(row["step"]), sorted(row)))


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


def test_a_run_goes_on_in_its_folder_with_its_records(simclr: Simclr, fail_at: list[int]) -> None:
    command = ["fit", "--config", str(QUICKSTART), *TINY, *SHORT, *LOGGED, "--trainer.check_val_every_n_epoch", "1"]
    command += ["--trainer.max_epochs", "3"]
    simclr(*command, "--trainer.logger.version", "whole")
    whole, run = Path("runs/quickstart/whole"), Path("runs/quickstart/version_0")
    fail_at.append(6 + 6)
    with pytest.raises(RuntimeError, match="out of memory"):
        simclr(*command)
    assert {row["step"] for row in rows(run)} == set("012345")  # of which the checkpoint knows four
    # As if it had been killed in the middle of a row, and before the one of the epoch that the checkpoint ends.
    lines = (run / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("probe/train_top1")
    ends = [number for number, line in enumerate(lines) if line.split(",")[place]]
    assert len(ends) == 3  # the names, and two epochs
    del lines[ends[-1]]
    (run / "metrics.csv").write_text("\n".join([*lines, "1,2"]))
    simclr(*command, "--ckpt_path", "last")
    assert rows(run) == rows(whole)
    assert {path.name for path in run.iterdir()} - {"pictures"} == {
        *("checkpoints", "config.yaml", "config-2.yaml", "hparams.yaml", "metrics.csv"),
        *("started.json", "started-2.json"),
    }
    started = json.loads((run / "started-2.json").read_text())
    assert started["command"].endswith("--trainer.max_epochs 3 --ckpt_path last")
    assert started["changed"]["trainer"]["max_epochs"] == 3
    assert started["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {path.name for path in run.parent.iterdir()} == {"whole", "version_0"}
    names = ["epoch=2-step=6.ckpt", "last.ckpt"]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == names
    ours, theirs = (torch.load(own / "checkpoints/last.ckpt", weights_only=True) for own in (run, whole))
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())
    # Killed after its last checkpoint, before the last row, it has nothing left to train, and all its records.
    (run / "metrics.csv").write_text("".join((run / "metrics.csv").read_text().splitlines(keepends=True)[:-1]))
    simclr(*command, "--auto_resume", "true", "--trainer.logger.version", "version_0")
    assert rows(run) == rows(whole)


def test_the_same_command_begins_and_goes_on(simclr: Simclr, fail_at: list[int]) -> None:
    command = ["fit", "--config", str(QUICKSTART), *TINY, *SHORT, *LOGGED, "--auto_resume", "true"]
    command += ["--trainer.max_epochs", "3", "--trainer.logger.version", "one"]
    for step in (4, 4 + 2):
        fail_at.append(step)
        with pytest.raises(RuntimeError, match="out of memory"):
            simclr(*command)
    run = Path("runs/quickstart/one")
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-9])
    with pytest.warns(
        UserWarning, match=r"last\.ckpt in .* cannot be read: the run goes on from .* epoch=0-step=2\.ckpt"
    ):
        simclr(*command)
    # Lightning keeps the one that it went on from.
    names = ["epoch=0-step=2.ckpt", "epoch=2-step=6.ckpt", "last.ckpt", "last.ckpt.damaged"]
    assert sorted(path.name for path in last.parent.iterdir()) == names
    assert steps_of(last) == [6]
    assert [row["step"] for row in rows(run) if "train/loss" in row] == list("012345")


def test_what_a_run_goes_on_from_is_there(simclr: Simclr) -> None:
    fit = ["fit", "--config", str(QUICKSTART), *TINY, *SHORT]
    with pytest.raises(
        MissingFileError, match=r"There is no checkpoint in runs/quickstart/\*/checkpoints to go on from"
    ):
        simclr(*fit, "--ckpt_path", "last")
    with pytest.raises(InputError, match=r"which run goes on: name it \(--trainer\.logger\.version NAME\)"):
        simclr(*fit, "--auto_resume", "true")
    simclr(*fit)
    last = only("runs/quickstart/version_0/checkpoints/last.ckpt")
    damaged = bytearray(last.read_bytes())
    damaged[5000] ^= 1
    last.write_bytes(damaged)
    with pytest.raises(InputError) as refused:
        simclr(*fit, "--trainer.max_epochs", "2", "--ckpt_path", last)
    assert str(refused.value).splitlines() == [
        f"{last} is damaged: it is not what was written, by the checksum in it: copy it anew, or go on from another:",
        "--ckpt_path runs/quickstart/version_0/checkpoints/epoch=0-step=2.ckpt",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.temprature", "0.1"], "temprature"),
        (["--model.loss.temprature", "0.1"], "temprature"),
        (["--model.optimizer", "adam"], "adamw"),
        (["--model.loss.temperature", "0"], "temperature must be a positive number, got 0"),
        (["--model.encoder", "resnet19"], "resnet18"),
        (["--data.views.preset", "imagnet"], "imagenet"),
        (["--data.dataset", "cifar11"], "cifar10"),
        (["--data.dataset", "folder", "--data.root", "nowhere"], "nowhere"),
        (["--data.batch_size", "0"], "batch_size"),
    ],
)
def test_mistakes_are_named_before_training(simclr: Simclr, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        simclr("fit", *SHORT, "--trainer.accelerator", "cpu", *arguments)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_users_callbacks_replace_the_defaults_of_their_type(simclr: Simclr) -> None:
    checkpoint = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=mine"]
    simclr("fit", "--model.encoder", "resnet10", *TINY, *SHORT, *checkpoint)
    assert only("runs/simclr/version_0/checkpoints/*").name == "mine.ckpt"


def test_two_processes_through_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simclr_lightning", "fit", "--config", str(QUICKSTART), *TINY, *SHORT]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "254" in done.stdout  # the negatives of both processes: the batch is the global one
    assert (tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt").exists()


def test_a_training_that_is_told_to_stop_saves_and_says_so(tmp_path: Path) -> None:
    """As ``scancel --signal=USR1`` and ``kubectl delete`` do, to the first of two processes."""
    command = [sys.executable, "-m", "simclr_lightning", "fit", "--config", str(QUICKSTART), *TINY, *SHORT]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.max_epochs", "100000"]
    last = tmp_path / "runs/quickstart/version_0/checkpoints/last.ckpt"
    running = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 200
        while not last.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGUSR1)
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 128 + signal.SIGUSR1, told
    assert "--ckpt_path" in told
    assert "Traceback" not in told
    step = torch.load(last, weights_only=True)["global_step"]
    assert f"Stopped by SIGUSR1 after step {step}." in told
    assert not list(last.parent.glob(".*"))


def test_a_folder_is_not_used_by_a_second_run(simclr: Simclr) -> None:
    command = ["fit", "--config", QUICKSTART, *TINY, *SHORT, *LOGGED, "--trainer.logger.version", "mine"]
    simclr(*command, "--trainer.enable_checkpointing", "false")
    folder = Path("runs/quickstart/mine")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").touch()
    before = sorted(folder.rglob("*"))
    for more in ([], ["--trainer.devices", "2"]):  # before other processes are started
        with pytest.raises(InputError) as told:
            simclr(*command, *more)
        assert str(told.value) == (
            f"The folder {folder} is that of another run, with the checkpoint last.ckpt and metrics.csv, and "
            "nothing is mixed with it:\ngo on with it (--ckpt_path last), name another one "
            "(--trainer.logger.version NAME), or delete it."
        )
    assert sorted(folder.rglob("*")) == before
    (folder / "checkpoints" / "last.ckpt").unlink()
    # One command that begins a run and goes on with it begins again where no checkpoint was left.
    simclr(*command, "--auto_resume", "true", "--model.loss.temperature", "0.9")
    temperatures = [
        yaml.safe_load((folder / name).read_text())["model"]["init_args"]["loss"]["init_args"]["temperature"]
        for name in ("config.yaml", "config-2.yaml")
    ]
    assert temperatures[1] == 0.9
    assert temperatures[0] != 0.9
    assert (folder / "metrics-earlier.csv").exists()
    assert (folder / "metrics.csv").exists()


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict", "evaluate"])
def test_checkpoint_goes_through_every_subcommand(simclr: Simclr, subcommand: str) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT)
    run = Path("runs/quickstart/version_0")
    batches = {"validate": "val", "test": "test", "predict": "predict"}
    small = [f"--trainer.limit_{batches[subcommand]}_batches=2"] if subcommand in batches else ["--protocols=knn"]
    simclr(subcommand, "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt", *small)
    assert (run / "evaluation.json").exists() == (subcommand == "evaluate")


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict", "evaluate"])
def test_help_explains(simclr: Simclr, capsys: pytest.CaptureFixture[str], subcommand: str) -> None:
    with pytest.raises(SystemExit) as done:
        simclr(subcommand, "--help")
    assert done.value.code == 0
    assert "--data" in capsys.readouterr().out


def test_class_help_explains_every_argument(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simclr("fit", "--model.help", "simclr_lightning.SimCLR")
    text = capsys.readouterr().out
    assert "multiplies the channels of every stage" in text
    assert "my_project.MyLoss" in text
    with pytest.raises(SystemExit):
        simclr("fit", "--model.loss.help", "simclr_lightning.NTXentLoss")
    assert "negatives" in capsys.readouterr().out


def test_nobody_is_advised_of_workers_for_pictures_in_memory(simclr: Simclr) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        simclr("fit", "--model.encoder", "resnet10", *TINY, *SHORT)
    assert not [str(warning.message) for warning in seen if "does not have many workers" in str(warning.message)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Supervised", {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4}),
        ("LinearEvaluation", {"learning_rate": 0.1, "weight_decay": 0.0}),
        ("SimCLR", {"optimizer": "lars", "learning_rate": 0.3, "weight_decay": 1e-6}),
    ],
)
def test_defaults_are_those_of_the_class_that_is_chosen(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], model: str, expected: dict[str, object]
) -> None:
    with pytest.raises(SystemExit):
        simclr("fit", "--model", model, "--print_config")
    arguments = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert {name: arguments[name] for name in expected} == expected
    assert ("loss" in arguments) == (model == "SimCLR")


def test_a_loss_has_its_own_defaults(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = "class Cold(NTXentLoss):\n    def __init__(self, temperature: float = 0.03) -> None:\n"
    Path("cold.py").write_text(
        f"from simclr_lightning import NTXentLoss\n{loss}        super().__init__(temperature)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    with pytest.raises(SystemExit):
        simclr("fit", "--model.loss", "cold.Cold", "--print_config")
    arguments = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["loss"]
    assert arguments == {"class_path": "cold.Cold", "init_args": {"temperature": 0.03}}


@pytest.mark.parametrize("subcommand", ["fit", "test", "validate", "predict", "evaluate"])
def test_a_checkpoint_that_is_not_there_is_named(simclr: Simclr, subcommand: str) -> None:
    with pytest.raises(MissingFileError, match=r"There is no checkpoint nope\.ckpt"):
        simclr(subcommand, *TINY, "--ckpt_path", "nope.ckpt")


@pytest.mark.parametrize("subcommand", ["test", "validate"])
def test_judging_leaves_the_records_of_a_training(simclr: Simclr, subcommand: str) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, "--trainer.logger.version", "one")
    run = Path("runs/quickstart/one")
    before = (run / "metrics.csv").read_text()
    for _ in range(2):
        simclr(subcommand, "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    assert (run / "metrics.csv").read_text() == before
    judged = sorted(path.name for path in run.parent.iterdir() if (path / "metrics.csv").exists())
    assert judged == ["one", f"one-{subcommand}", f"one-{subcommand}-2"]


def test_the_summary_says_of_another_loss_what_it_says_itself(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "from simclr_lightning.losses import ContrastiveLoss",
        "class Spread(ContrastiveLoss):",
        "    def forward(self, projections):",
        "        return -projections.std()",
        "    def expected(self, pictures):",
        "        return float(pictures), 0.5",
    ]
    Path("spread.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for count, told in ((2, "Spread, 128.000 at chance, 0.500 at its floor"), (3, "Spread  ")):
        loss = ["--model.loss", "spread.Spread", "--data.views.count", str(count)]
        simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, *loss)
        summary = capsys.readouterr().out
        assert told in summary
        assert "negatives per view" not in summary


def test_an_encoder_is_judged_without_the_class_of_its_loss(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("heavy.py").write_text(
        "from simclr_lightning import NTXentLoss\nclass Heavy(NTXentLoss):\n"
        "    def __init__(self, temperature: float = 0.2):\n        super().__init__(temperature)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    simclr("fit", "--model.encoder", "resnet8", *TINY, *SHORT, "--model.loss", "heavy.Heavy")
    checkpoint = Path("runs/simclr/version_0/checkpoints/last.ckpt")
    del sys.modules["heavy"]
    simclr("evaluate", *TINY, "--ckpt_path", checkpoint, "--protocols", "knn", "--picture", "false")
    assert (checkpoint.parents[1] / "evaluation.json").exists()
    with pytest.raises(InputError, match=r"type --model\.loss heavy\.Heavy"):
        simclr("fit", *TINY, *SHORT, "--ckpt_path", checkpoint)
    assert "heavy" not in sys.modules
    capsys.readouterr()
    with pytest.raises(SystemExit):
        simclr("fit", *TINY, "--ckpt_path", checkpoint, "--model.loss", "heavy.Heavy", "--print_config")
    arguments = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["loss"]
    assert arguments == {"class_path": "heavy.Heavy", "init_args": {"temperature": 0.2}}


def test_a_field_of_a_list_of_recipes_cannot_be_typed(simclr: Simclr) -> None:
    with pytest.raises(InputError, match=r"data\.views is a list of recipes"):
        simclr("fit", *TINY, "--data.views", "[{preset: digits}, {preset: digits, size: 8}]", "--data.views.size", "12")


def test_a_run_from_weights_goes_on_without_them(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT)
    source = only("runs/quickstart/version_0/checkpoints/last.ckpt")
    start = ["--model.init_from", str(source), "--model.freeze_epochs", "9"]
    capsys.readouterr()
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, *start)
    summary = " ".join(capsys.readouterr().out.split())
    assert "frozen for the first 9 epoch(s)" in summary
    assert "encoder from runs/quickstart/version_0" in summary
    before = torch.load(source, weights_only=True)["state_dict"]
    last = only("runs/quickstart/version_1/checkpoints/last.ckpt")
    after = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(before["head.blocks.0.0.weight"], after["head.blocks.0.0.weight"])
    source.unlink()
    config = "runs/quickstart/version_1/config.yaml"
    assert yaml.safe_load(Path(config).read_text())["model"]["init_args"]["init_from"] == str(source)
    simclr("fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs", "2")
    simclr("validate", "--config", config, "--ckpt_path", last)
    with pytest.raises(MissingFileError, match="init_from is"):
        simclr("fit", "--config", config)


def steps_of(*files: Path) -> list[int]:
    return [torch.load(file, weights_only=True)["global_step"] for file in files]


def test_the_last_checkpoint_is_that_of_the_last_epoch(simclr: Simclr) -> None:
    """Lightning saves after validations only, of which there is one in two epochs here, and none in the third."""
    epochs = ["--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2"]
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, *epochs)
    files = Path("runs/quickstart/version_0/checkpoints")
    assert steps_of(files / "last.ckpt", only(f"{files}/epoch*.ckpt")) == [6, 6]


def test_checkpoints_are_written_by_the_clock_too(simclr: Simclr) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, "--trainer.limit_train_batches=3", "--save_every_minutes=1e-9")
    files = Path("runs/quickstart/version_0/checkpoints")
    assert steps_of(files / "last.ckpt") == [3]
    assert sorted(file.name for file in files.iterdir()) == [
        "epoch=0-step=3-v1.ckpt",
        "epoch=0-step=3.ckpt",
        "last.ckpt",
    ]
    with pytest.raises(InputError, match="save_every_minutes is 0"):
        simclr("fit", "--config", QUICKSTART, *TINY, *SHORT, "--save_every_minutes=0")
