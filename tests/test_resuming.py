"""Which checkpoint and which folder are meant, without a training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace

from simclr_lightning import resuming
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.resuming import check_folder_is_free, resolve


def settings(**given: Any) -> Any:
    make: Any = Namespace
    arguments = make(save_dir="runs", name="views", version=given.pop("version", None))
    logger = make(class_path="lightning.pytorch.loggers.CSVLogger", init_args=arguments)
    trainer = make(logger=given.pop("logger", logger), default_root_dir=None)
    return make(**{"ckpt_path": None, "auto_resume": None, "trainer": trainer, **given})


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a checkpoint of a run, each a second after the one before."""
    monkeypatch.chdir(tmp_path)
    written: list[str] = []

    def write(name: str) -> str:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {}}, path)
        os.utime(path, (len(written), len(written)))
        written.append(name)
        return name

    return write


def resolved(subcommand: str = "fit", **given: Any) -> tuple[Any, Any]:
    """Checkpoint and version."""
    chosen = settings(**given)
    resolve(chosen, subcommand)
    logger = chosen.trainer.logger
    return chosen.ckpt_path, logger.init_args.version if logger else None


def test_last_is_the_newest_checkpoint_of_the_newest_run(checkpoint: Any) -> None:
    for name in ("a/checkpoints/last", "b/checkpoints/last", "b/checkpoints/epoch=1", "c/elsewhere/last"):
        checkpoint(f"runs/views/{name}.ckpt")
    newest = "runs/views/b/checkpoints/epoch=1.ckpt"
    assert resolved(ckpt_path="last") == (newest, "b")
    assert resolved("test", ckpt_path="last") == (newest, None)
    assert resolved(ckpt_path="last", version="a") == ("runs/views/a/checkpoints/last.ckpt", "a")
    Path(newest).write_bytes(b"cut off")
    os.utime(newest, (9, 9))
    with pytest.warns(UserWarning, match=r"epoch=1\.ckpt in runs/views/b/checkpoints cannot be read"):
        assert resolved(ckpt_path="last") == ("runs/views/b/checkpoints/last.ckpt", "b")
    assert not Path(newest).exists()
    assert Path(f"{newest}.damaged").exists()
    Path("runs/views/b/checkpoints/last.ckpt").unlink()
    Path(f"{newest}.damaged").rename(newest)
    with pytest.raises(InputError, match=r"No checkpoint in runs/views/b/checkpoints can be read \(epoch=1\.ckpt\)"):
        resolved(ckpt_path="last")


def test_a_run_goes_on_in_its_folder_and_in_no_other(checkpoint: Any) -> None:
    own = checkpoint("runs/views/version_3/checkpoints/last.ckpt")
    others = checkpoint("runs/others/version_3/checkpoints/last.ckpt")
    assert resolved(ckpt_path=own) == (own, "version_3")
    assert resolved(ckpt_path=str(Path(own).absolute()))[1] == "version_3"
    assert resolved(ckpt_path=own, version="new") == (own, "new")
    assert resolved("test", ckpt_path=own) == (own, None)
    assert resolved(ckpt_path=others) == (others, None)
    assert resolved(ckpt_path="https://example.org/runs/views/a/checkpoints/last.ckpt")[1] is None
    assert resolved(ckpt_path=own, logger=False) == (own, None)


def test_auto_resume_begins_or_goes_on(checkpoint: Any) -> None:
    assert resolved(auto_resume=True, version=4) == (None, 4)
    last = checkpoint("runs/views/version_4/checkpoints/last.ckpt")
    assert resolved(auto_resume=True, version=4) == (last, 4)
    assert resolved(auto_resume=True, logger=False) == (None, None)
    folder = checkpoint("checkpoints/last.ckpt")
    assert resolved(auto_resume=True, logger=False) == (folder, None)
    start = checkpoint("runs/others/a/checkpoints/last.ckpt")
    assert resolved(auto_resume=True, version="b", ckpt_path=start) == (start, "b")
    with pytest.raises(InputError, match="auto_resume needs to know which run"):
        resolved(auto_resume=True)


def refused(**given: Any) -> str:
    """What is said of the folder that was chosen; nothing if a run may be in it."""
    trainer = given.pop("trainer", {})
    chosen = settings(**given)
    vars(chosen.trainer).update(trainer)
    resolve(chosen, "fit")
    try:
        check_folder_is_free(chosen)
    except InputError as error:
        return str(error)
    return ""


def test_a_folder_has_one_run(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (None, "a", 3):
        assert refused(version=version) == ""
    for number in range(2):
        last = checkpoint(f"runs/views/a/checkpoints/{('epoch=1', 'last')[number]}.ckpt")
    other = checkpoint("runs/views/b/checkpoints/last.ckpt")
    told = refused(version="a")
    assert told.startswith("The folder runs/views/a is that of another run, with the checkpoint last.ckpt and 1 more,")
    assert "(--ckpt_path last)" in told
    assert "(--trainer.logger.version NAME)" in told
    assert refused() == ""
    assert refused(version="a", ckpt_path="last") == ""
    assert refused(version="a", ckpt_path=str(Path(last).absolute())) == ""
    assert refused(ckpt_path=last) == ""
    assert refused(version="a", ckpt_path=other) != ""
    assert refused(version="c", ckpt_path=other) == ""
    for path in ("hpc", "https://example.org/last.ckpt"):
        assert refused(version="a", ckpt_path=path) == ""
    assert refused(version="a", auto_resume=True) == ""
    for quick in ("fast_dev_run", "barebones"):
        assert refused(version="a", trainer={quick: True}) == ""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert refused(version="a") == ""


def test_what_an_interrupted_start_leaves_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/views/version_3")
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "started.json", "checkpoints/.last.ckpt.part", "metrics.csv"):
        (run / name).touch()
    assert refused(version=3) == ""
    (run / "evaluation.json").write_text("{}")
    told = refused(version=3)
    assert "with evaluation.json, and nothing is mixed" in told
    assert "ckpt_path" not in told


def test_without_a_logger_the_root_is_the_folder(checkpoint: Any) -> None:
    Path("metrics.csv").write_text("of something else")
    assert refused(logger=False) == ""
    last = checkpoint("checkpoints/last.ckpt")
    assert "(--trainer.default_root_dir NAME)" in refused(logger=False)
    assert refused(logger=False, ckpt_path=last) == ""
    assert refused(logger=False, trainer={"enable_checkpointing": False}) == ""


def test_trackers_go_on_with_a_run_and_with_no_other(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "require_trackers", list)  # whether MLflow is installed or not

    def ids(**given: Any) -> tuple[Any, ...]:
        make: Any = Namespace
        csv = make(
            class_path="CSVLogger", init_args=make(save_dir="runs", name="views", version=given.pop("csv", None))
        )
        wandb = {"name": None, "group": None, "project": "digits", "version": None, **given.pop("wandb", {})}
        tracker = make(class_path="WandbLogger", init_args=make(**wandb))
        mlflow = make(class_path="MLFlowLogger", init_args=make(run_id=None, tracking_uri=None))
        chosen = settings(logger=[csv, tracker, mlflow], **given)
        resolve(chosen, "fit")
        return csv.init_args.version, tracker.init_args.version, mlflow.init_args.run_id

    record = [
        {"logger": "CSVLogger", "name": "views", "version": "version_0"},
        {"logger": "WandbLogger", "name": "digits", "version": "1abc"},
        {"logger": "MLFlowLogger", "name": "1", "version": "f00d"},
    ]
    own = checkpoint("runs/views/version_0/checkpoints/last.ckpt")
    torch.save({"state_dict": {}, "trackers": record}, own)
    found = ("version_0", "1abc", "f00d")
    assert ids(ckpt_path=own) == found  # by the checkpoint
    assert ids(ckpt_path="last") == found
    Path("runs/views/version_0/trackers.json").write_text(json.dumps([*record[:1], {**record[1], "version": "2abc"}]))
    assert ids(ckpt_path=own) == ("version_0", "2abc", None)  # by what lies beside it
    assert ids(ckpt_path=own, csv="version_0") == ("version_0", "2abc", None)
    assert ids(ckpt_path=own, csv="another") == ("another", None, None)
    assert ids(ckpt_path=own, wandb={"version": "mine"})[1] == "mine"
    assert ids(ckpt_path=own, wandb={"project": "others"})[1] is None
    assert ids() == (None, None, None)
    copied = checkpoint("copied.ckpt")
    torch.save({"state_dict": {}, "trackers": record}, copied)
    assert ids(ckpt_path=copied)[1:] == found[1:]
    torch.save({"state_dict": {}, "trackers": "1abc"}, copied)  # nothing of ours
    assert ids(ckpt_path=copied) == (None, None, None)


def test_a_run_of_wandb_is_a_folder(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def id_of(**given: Any) -> tuple[Any, Any]:
        make: Any = Namespace
        arguments = make(name="simclr", group=None, project=None, save_dir="runs", version=given.pop("version", None))
        chosen = settings(logger=make(class_path="WandbLogger", init_args=arguments), **given)
        resolve(chosen, "fit")
        assert (arguments.name, arguments.group) == (None, "simclr")
        return chosen.ckpt_path, arguments.version

    monkeypatch.setenv("WANDB_PROJECT", "digits")
    own = checkpoint("runs/digits/1abc/checkpoints/last.ckpt")
    assert id_of(ckpt_path="last") == (own, "1abc")
    assert id_of(ckpt_path=own, version="mine") == (own, "mine")
    assert id_of(auto_resume=True, version="1abc") == (own, "1abc")
    assert id_of(auto_resume=True, version="new") == (None, "new")
    for name, value in {"JOB_ID": "71", "JOB_NAME": "views", "NTASKS": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert id_of() == (None, "job_71")
    monkeypatch.setenv("WANDB_RUN_ID", "trial")  # an agent in a job
    assert id_of() == (None, None)
    assert id_of(ckpt_path=own) == (own, None)


def test_the_folder_of_a_run_of_mlflow_alone_is_where_it_was_typed(
    checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "require_trackers", lambda chosen: None)  # without MLflow, too
    make: Any = Namespace
    own = checkpoint("runs/1/abc/checkpoints/last.ckpt")
    checkpoint("checkpoints/last.ckpt")  # of a run without a logger
    Path("runs/1/abc/trackers.json").write_text(json.dumps([{"logger": "MLFlowLogger", "name": "1", "version": "abc"}]))

    def chosen(**given: Any) -> Any:
        arguments = make(save_dir="runs", experiment_name="views", tracking_uri=None, run_id=None)
        return settings(logger=make(class_path="MLFlowLogger", init_args=arguments), **given)

    for asked in ({"ckpt_path": "last"}, {"auto_resume": True}):
        with pytest.raises(InputError, match=r"in which folder the runs of MLFlowLogger are.*\n.*--trainer\.logger\+="):
            resolve(chosen(**asked), "fit")
    again = chosen(ckpt_path=own)
    resolve(again, "fit")
    assert (again.trainer.default_root_dir, again.trainer.logger.init_args.run_id) == ("runs", "abc")
    added = settings(ckpt_path=own)
    added.trainer.logger = [added.trainer.logger, chosen().trainer.logger]
    resolve(added, "fit")
    assert added.trainer.default_root_dir is None  # the first logger names the folder


def test_nothing_to_go_on_from_is_told(checkpoint: Any) -> None:
    with pytest.raises(MissingFileError, match=r"in runs/views/\*/checkpoints to go on from"):
        resolved(ckpt_path="last")
    with pytest.raises(MissingFileError, match=r"in runs/views/a/checkpoints to go on from"):
        resolved(ckpt_path="last", version="a")


def test_a_job_of_slurm_has_its_own_folder_and_goes_on_there(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = checkpoint("runs/views/job_70/checkpoints/last.ckpt")
    for name, value in {"JOB_ID": "71", "JOB_NAME": "views", "NTASKS": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert resolved() == (None, "job_71")
    assert resolved(ckpt_path=other) == (other, "job_70")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resolved() == (None, "job_71")
    own = checkpoint("runs/views/job_71/checkpoints/last.ckpt")
    assert resolved() == (own, "job_71")
    assert resolved(auto_resume=False) == (None, "job_71")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "60")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert resolved() == (None, "job_60_2")
