"""A checkpoint is the one before or the new one, whatever happens while it is written, and a changed bit is found."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning import SimCLR
from simclr_lightning.checkpoints import (
    DurableCheckpointIO,
    load_encoder,
    newest_checkpoint,
    read_checkpoint,
    start_from,
)
from simclr_lightning.errors import InputError
from simclr_lightning.models import build_encoder

LIGHTNING = {"pytorch-lightning_version": "2.6.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, of which ``last.ckpt`` is the newer one."""
    for step, name in enumerate(("before.ckpt", "last.ckpt")):
        content = {
            **LIGHTNING,
            "global_step": step,
            "state_dict": {f"layer{number}.bias": torch.randn(9) for number in range(20)},
        }
        DurableCheckpointIO().save_checkpoint(content, tmp_path / name)
        os.utime(tmp_path / name, (step, step))
    return tmp_path


def refused(path: Path) -> str:
    """What is said, by all who read files."""
    told = set()
    for read in (read_checkpoint, DurableCheckpointIO().load_checkpoint):
        with pytest.raises(InputError) as caught:
            read(path)
        told.add(str(caught.value))
    (message,) = told
    assert len(message.splitlines()) <= 3
    assert str(path) in message
    return message


def test_every_flipped_bit_is_found(folder: Path) -> None:
    whole = (folder / "last.ckpt").read_bytes()
    generator = random.Random(0)
    places = [generator.randrange(len(whole)) for _ in range(100)]
    for place in [*places, *range(len(whole) - 110, len(whole)), 0, 1]:  # the end, where the checksum is
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        (folder / "last.ckpt").write_bytes(damaged)
        message = refused(folder / "last.ckpt")
        assert f"go on from another:\n--ckpt_path {folder / 'before.ckpt'}" in message, place


def test_the_one_before_is_found_where_the_newest_is_broken(folder: Path) -> None:
    last, before = folder / "last.ckpt", folder / "before.ckpt"
    assert newest_checkpoint(folder) == (last, [])
    whole = last.read_bytes()
    lengths = (0, 4, 900, *range(len(whole) - 120, len(whole)))
    for broken in (*(whole[:length] for length in lengths), whole + b"x"):
        last.write_bytes(broken)
        assert newest_checkpoint(folder) == (before, [last])
    before.write_bytes(b"")
    assert newest_checkpoint(folder).path is None
    assert "copy it anew, or name another checkpoint." in refused(last)


def test_what_other_programs_wrote_is_read_as_before(folder: Path) -> None:
    torch.save({"state_dict": {"bias": torch.ones(2)}}, folder / "theirs.ckpt")
    assert newest_checkpoint(folder) == (folder / "theirs.ckpt", [])
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 1
    assert torch.load(folder / "last.ckpt", weights_only=True, mmap=True)["global_step"] == 1


def test_killed_at_any_moment_a_run_leaves_a_whole_checkpoint(folder: Path) -> None:
    content = {"state_dict": {"weight": torch.randn(300_000)}}
    generator, parts = random.Random(0), 0
    for _ in range(12):
        child = os.fork()
        if child == 0:
            writer = DurableCheckpointIO()
            while True:
                writer.save_checkpoint(content, folder / "last.ckpt")
        time.sleep(generator.uniform(0.005, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        parts += len(list(folder.glob(".*")))
        assert newest_checkpoint(folder).path == folder / "last.ckpt"
    assert parts, "no kill came while a file was written"
    DurableCheckpointIO().save_checkpoint(content, folder / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["before.ckpt", "last.ckpt"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 5_000, 1_000_000])
def test_a_full_disk_leaves_what_was_there(folder: Path, size: int) -> None:
    whole = (folder / "last.ckpt").read_bytes()
    content = {"state_dict": {"weight": torch.randn(300_000)}}
    with files_of_at_most(size), pytest.raises(InputError) as caught:
        DurableCheckpointIO().save_checkpoint(content, folder / "last.ckpt")
    message = str(caught.value)
    assert f"{folder / 'last.ckpt'} cannot be written ([Errno 27] File too large): make room" in message
    assert f"(--ckpt_path {folder / 'last.ckpt'})" in message
    assert (folder / "last.ckpt").read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir()) == ["before.ckpt", "last.ckpt"]


def test_an_interrupted_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(content: object, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        DurableCheckpointIO().save_checkpoint({}, folder / "last.ckpt")
    assert newest_checkpoint(folder) == (folder / "last.ckpt", [])
    assert sorted(path.name for path in folder.iterdir()) == ["before.ckpt", "last.ckpt"]


def test_weights_of_a_training_that_diverged_are_not_judged(tmp_path: Path) -> None:
    model = SimCLR("resnet8", width=0.125)
    next(model.encoder.parameters()).data[0] = torch.nan
    content = {**LIGHTNING, "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt holds NaN in encoder\.conv1\.weight: the training diverged"):
        DurableCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"NaN in encoder\.conv1\.weight"):
        load_encoder(tmp_path / "a.ckpt", SimCLR)
    with pytest.raises(InputError, match=r"encoder\.conv1\.weight holds NaN"):
        start_from(build_encoder("resnet8", width=0.125), str(tmp_path / "a.ckpt"), "resnet8")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"pytorch-lightning_version": None}, "pytorch-lightning_version is"),
        ({"pytorch-lightning_version": "newest"}, "pytorch-lightning_version is"),
        ({"state_dict": None}, "state_dict is"),
        ({"state_dict": [1]}, "state_dict is"),
        ({"hyper_parameters": 3}, "hyper_parameters is"),
        ({"callbacks": 3}, "callbacks is"),
        ({"loops": 3}, "loops is"),
        ({"optimizer_states": None}, "optimizer_states is"),
        ({"lr_schedulers": {}}, "lr_schedulers is"),
    ],
)
def test_what_is_no_checkpoint_of_lightning_is_told_in_a_line(changes: Any, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({**LIGHTNING, "state_dict": {"bias": torch.ones(2)}, **changes}, path)
    message = (
        f"{path} is no checkpoint of Lightning: {wrong} missing or broken. Name another one; a training begins from "
    )
    with pytest.raises(InputError) as refused:
        DurableCheckpointIO().load_checkpoint(path)
    assert str(refused.value) == f"{message}weights alone by --model.init_from {path}."
