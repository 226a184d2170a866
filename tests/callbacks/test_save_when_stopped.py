"""A run that is told to stop, wherever it is, ends with a checkpoint from which the rest is as if it had not been."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import RepresentationHealth, SaveWhenStopped
from simclr_lightning.checkpoints import newest_checkpoint


class Records(Logger):
    """What was logged, by step and name."""

    name = "records"
    version = "0"

    def __init__(self, values: dict[tuple[int, str], float]) -> None:
        super().__init__()
        self.values = values

    def log_hyperparams(self, *arguments: Any, **settings: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        for name, value in metrics.items():
            assert self.values.setdefault((step, name), value) == value


class Stop(Callback):
    """Sends this process a signal at the n-th call of a hook."""

    def __init__(self, hook: str, number: int, kind: signal.Signals = signal.SIGTERM) -> None:
        self.calls = 0

        def call(trainer: Trainer, *_: Any) -> None:
            if trainer.sanity_checking:
                return
            self.calls += 1
            if self.calls == number:
                os.kill(os.getpid(), kind)

        setattr(self, hook, call)


def fit(folder: Path, values: dict[tuple[int, str], float], *callbacks: Callback, **settings: Any) -> Any:
    """Three epochs of four steps and three validation batches each, from ``last.ckpt`` on where it is there."""
    torch.manual_seed(0)
    every = ModelCheckpoint(folder / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    files = ModelCheckpoint(folder, save_last=True, save_on_train_epoch_end=True)
    watch = [OnlineLinearProbe(), RepresentationHealth(pictures=100)]  # of the last three batches
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=4,
        limit_val_batches=3,
        log_every_n_steps=1,
        logger=Records(values),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, LARSWarmup(warmup_epochs=0.1), *watch, every, files, SaveWhenStopped()],
        default_root_dir=folder,
        **{"devices": 1, **settings},
    )
    model = SimCLR("resnet8", width=0.125, in_channels=1, image_size=16)
    data = SimCLRDataModule("digits", batch_size=48, val_fraction=0.2)
    last = folder / "last.ckpt"
    trainer.fit(model, data, ckpt_path=last if last.exists() else None, weights_only=True)
    written = newest_checkpoint(folder).path  # last-v1.ckpt where a copy is called last.ckpt
    assert written is not None
    content = torch.load(written, weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        del group["lr"]  # LARSWarmup sets it before every step, and when a run is resumed
    return {name: content[name] for name in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[tuple[int, str], float]]:
    values: dict[tuple[int, str], float] = {}
    return fit(tmp_path_factory.mktemp("whole"), values), values


def assert_equal(content: Any, other: Any) -> None:
    """To the last bit."""
    if isinstance(content, dict):
        assert content.keys() == other.keys()
        for name in content:
            assert_equal(content[name], other[name])
    elif isinstance(content, list | tuple):
        for own, its in zip(content, other, strict=True):
            assert_equal(own, its)
    else:
        assert torch.equal(content, other) if isinstance(content, torch.Tensor) else content == other


PLACES = {
    "in an epoch": [("on_train_batch_end", 2)],
    "before its last batch": [("on_train_batch_start", 4)],
    "before validation": [("on_train_batch_end", 4)],
    "in validation": [("on_validation_batch_end", 2)],
    "at the end of validation": [("on_validation_batch_end", 3)],
    "at the end of an epoch": [("on_train_epoch_end", 1)],
    "again and again": [("on_train_batch_end", 4), ("on_validation_start", 1), ("on_train_batch_start", 3)],
    "in the last step of all": [("on_train_batch_end", 12), ("on_validation_batch_end", 1)],
}


@pytest.mark.parametrize("place", PLACES)
def test_the_rest_is_that_of_an_uninterrupted_run(place: str, uninterrupted: Any, tmp_path: Path) -> None:
    values: dict[tuple[int, str], float] = {}
    for hook, number in PLACES[place]:
        with pytest.raises(SystemExit) as ended:
            fit(tmp_path, values, Stop(hook, number))
        assert ended.value.code == 128 + signal.SIGTERM
    final = fit(tmp_path, values)
    assert_equal(final, uninterrupted[0])
    assert values == uninterrupted[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch=2-step=12.ckpt", "last.ckpt", "steps"]


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two validations": {"val_check_interval": 2},
    "few validations": {"check_val_every_n_epoch": 2},
    "accumulated": {"accumulate_grad_batches": 3},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_run_goes_on_from_the_end_of_any_step_and_so_does_that_one(kind: str, tmp_path: Path) -> None:
    """From checkpoints of ``every_n_train_steps``, also of those that a resumed run has made."""
    settings = SETTINGS[kind]
    values: dict[tuple[int, str], float] = {}
    whole = fit(tmp_path / "whole", values, **settings)

    def check(origin: str, step: int) -> str:
        folder = tmp_path / f"{origin}-{step}"
        folder.mkdir()
        shutil.copy(tmp_path / origin / "steps" / f"step={step}.ckpt", folder / "last.ckpt")
        rest: dict[tuple[int, str], float] = {}
        assert_equal(fit(folder, rest, **settings), whole)
        assert rest.items() <= values.items()
        assert {key for key in values if key[0] >= step} <= rest.keys()
        return folder.name

    epoch = whole["global_step"] // 3  # in steps
    for step in (epoch - 1, epoch):
        check(check("whole", step), step + 1)


class End(Callback):
    """Ends a training well after a step, as ``max_steps`` and early stopping do, with the schedule of a longer one."""

    def __init__(self, step: int, *, early: bool) -> None:
        self.step, self.early = step, early

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if not self.early:
            trainer.fit_loop.epoch_loop.max_steps = self.step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.early and trainer.global_step == self.step:
            trainer.should_stop = True


ENDS = [("plain", 6, False), ("plain", 8, False), ("two validations", 6, False), ("accumulated", 3, True)]


@pytest.mark.parametrize(("kind", "step", "early"), ENDS)
def test_a_run_that_has_ended_within_an_epoch_goes_on_in_it(
    kind: str, step: int, early: bool, uninterrupted: Any, tmp_path: Path
) -> None:
    """Of four batches, which ``limit_train_batches`` makes an epoch: after eight steps the next one begins."""
    settings = SETTINGS[kind]
    whole, expected = uninterrupted
    if settings:
        expected = {}
        whole = fit(tmp_path / "whole", expected, **settings)
    values: dict[tuple[int, str], float] = {}
    ended = fit(tmp_path / "parts", values, End(step, early=early), **settings)
    assert (ended["global_step"], ended["epoch"]) == (step, 1)
    assert_equal(fit(tmp_path / "parts", values, **settings), whole)
    assert expected.items() <= values.items()
    assert {key[0] for key in values.keys() - expected.keys()} <= {step - 1}  # what an epoch's end logs


def test_a_validation_within_an_epoch_is_broken_off_twice(tmp_path: Path) -> None:
    often: dict[str, Any] = {"val_check_interval": 2}
    values: list[dict[tuple[int, str], float]] = [{}, {}]
    whole = fit(tmp_path / "whole", values[0], **often)
    in_it = [("on_validation_batch_end", 2), ("on_validation_batch_end", 1), ("on_validation_end", 1)]
    for hook, number in (*in_it, ("on_train_batch_start", 3)):
        with pytest.raises(SystemExit):
            fit(tmp_path / "parts", values[1], Stop(hook, number), **often)
    assert_equal(fit(tmp_path / "parts", values[1], **often), whole)
    assert values[0] == values[1]


@pytest.mark.parametrize("kind", [signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_each_signal_has_its_status(kind: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if kind == signal.SIGHUP:  # which is ignored where the tests were started by nohup
        signal.signal(kind, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}}
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, {}, Stop("on_train_batch_start", 3, kind))
    assert ended.value.code == 128 + kind
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    told = capfd.readouterr().err
    assert f"{kind.name}: saving after this step. Once more ends at once." in told
    assert f"Stopped by {kind.name} after step 3. To go on: the same command, with\n--ckpt_path {tmp_path}" in told
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("array", [False, True])
def test_a_job_of_slurm_is_requeued(array: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a program that writes down how it is called."""
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> "$0.calls"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = {"JOB_ID": "71", "JOB_NAME": "views", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in (job | ({"ARRAY_JOB_ID": "70", "ARRAY_TASK_ID": "3"} if array else {})).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for number, kind in enumerate((signal.SIGTERM, signal.SIGUSR1)):
        with pytest.raises(SystemExit) as ended:
            fit(tmp_path / "run", {}, Stop("on_train_batch_start", 1, kind))
        assert ended.value.code == 128 + kind
        assert (tmp_path / "scontrol.calls").exists() == bool(number)  # SIGTERM: somebody wants it to end
    assert (tmp_path / "scontrol.calls").read_text() == ("requeue 70_3\n" if array else "requeue 71\n")
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, {}, *(Stop("on_train_batch_start", 3, signal.SIGINT) for _ in range(2)))
    assert ended.value.code == 1  # Lightning's, of a KeyboardInterrupt
    assert not (tmp_path / "last.ckpt").exists()


def test_max_time_ends_within_an_epoch_and_the_rest_follows(
    uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[tuple[int, str], float] = {}

    class Late(Callback):
        """Time flies in the second step."""

        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 1:
                timer: Any = next(own for own in trainer.callbacks if type(own).__name__ == "Timer")  # type: ignore[attr-defined]
                monkeypatch.setattr(timer, "time_elapsed", lambda stage=None: 99.0)

    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, values, Late(), max_time={"seconds": 60})
    assert ended.value.code == 0
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert_equal(fit(tmp_path, values), uninterrupted[0])
    assert values == uninterrupted[1]


def test_a_training_without_checkpoints_of_its_own_saves_in_its_folder(
    quiet_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    stop = [Stop("on_train_batch_end", 1), LARSWarmup(warmup_epochs=0), SaveWhenStopped()]
    trainer = quiet_trainer(callbacks=stop, default_root_dir=tmp_path, enable_checkpointing=True, max_epochs=1)
    model = SimCLR("resnet8", width=0.125, in_channels=1, image_size=16)
    with pytest.raises(SystemExit):
        trainer.fit(model, SimCLRDataModule("digits", batch_size=48))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1
