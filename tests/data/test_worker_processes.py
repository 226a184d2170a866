from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from simclr_lightning.data import SimCLRDataModule, worker_processes
from simclr_lightning.data.loaders import PictureLoader, as_it_is
from simclr_lightning.data.worker_processes import cores, handed_over, workers_of, workers_with_room
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe

MIB = 2**20
Usage = namedtuple("Usage", ["total", "used", "free"])  # as shutil's


def machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, quota: str | None = None, version: int = 2
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(number)), raising=False)
    monkeypatch.setattr(worker_processes, "_CGROUPS", tmp_path)
    if quota is None:
        return
    if version == 2:
        (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    else:
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")


def shared_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(worker_processes, "_SHARED", Path("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))


@pytest.mark.parametrize(
    ("quota", "version", "expected"),
    [
        (None, 2, 16),
        ("max", 2, 16),
        ("400000", 2, 4),
        ("150000", 2, 2),
        ("10000", 2, 1),
        ("9900000", 2, 16),
        ("-1", 1, 16),
        ("400000", 1, 4),
    ],
)
def test_cores_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, version: int, expected: int
) -> None:
    machine(monkeypatch, tmp_path, 16, quota, version)
    assert cores() == expected


@pytest.mark.parametrize(
    ("number", "devices", "expected"), [(1, 1, 1), (2, 1, 1), (16, 1, 15), (16, 4, 3), (64, 8, 7), (256, 1, 32)]
)
def test_one_worker_for_each_core_that_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, devices: int, expected: int
) -> None:
    machine(monkeypatch, tmp_path, number)
    assert workers_of(devices) == expected


def test_by_default_no_more_workers_than_shared_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path, 16)
    shared_memory(monkeypatch, 200 * MIB)
    assert workers_with_room(None, devices=1, batch=MIB, prefetch=2) == 15
    assert workers_with_room(None, devices=1, batch=10 * MIB, prefetch=2) == 4  # of 100 MiB: 4 * 2 + 1
    assert workers_with_room(None, devices=1, batch=60 * MIB, prefetch=2) == 1  # 180 MiB, more than half
    assert workers_with_room(None, devices=2, batch=10 * MIB, prefetch=2) == 2
    assert workers_with_room(8, devices=1, batch=10 * MIB, prefetch=2) == 8  # what is typed wins


@pytest.mark.parametrize(
    ("typed", "devices", "batch", "message"),
    [
        (8, 1, 20, r"^8 worker\(s\) that keep 2 batches of 20 MiB ready need 340 MiB of shared memory, and / has 200 "
         r"MiB free for each process\..*--shm-size=680m.*\(--data.num_workers 4 or --data.prefetch_factor 1 or"),
        (8, 4, 10, r"need 170 MiB .* has 50 MiB free for each process.*--shm-size=1360m"),
        (None, 1, 77, r"^1 worker\(s\) .* need 231 MiB .*--data\.num_workers 0"),
    ],
)  # fmt: skip
def test_too_little_shared_memory_is_told_before_the_workers_start(
    monkeypatch: pytest.MonkeyPatch, typed: int | None, devices: int, batch: int, message: str
) -> None:
    shared_memory(monkeypatch, 200 * MIB)
    with pytest.raises(InputError, match=message) as caught:
        workers_with_room(typed, devices=devices, batch=batch * MIB, prefetch=2)
    assert str(caught.value).count("\n") < 3


def test_a_small_set_needs_no_more_shared_memory_than_all_of_it_takes(
    monkeypatch: pytest.MonkeyPatch, write_tree: Any, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path, 16)
    root = write_tree("photos", [f"{kind}/{number}.png" for kind in "ab" for number in range(8)])
    one = 2 * 3 * 64 * 64  # both views of a picture
    for batch_size, typed, workers in ((16, 8, 8), (16, None, 15), (8, 8, 8), (8, None, 15)):
        recipe = ViewRecipe("cifar10", size=64, eval_size=64)
        data = SimCLRDataModule("folder", root=root, batch_size=batch_size, views=recipe, num_workers=typed)
        data.setup("fit")
        shared_memory(monkeypatch, 2 * 32 * one)
        assert data.train_dataloader().num_workers == workers
        assert data.predict_dataloader().num_workers == workers
        shared_memory(monkeypatch, 23 * one)
        with pytest.raises(InputError, match=r"shm-size"):
            data.train_dataloader()
    data = SimCLRDataModule("folder", root=root, batch_size=1024, views=recipe, num_workers=8)
    data.setup("fit")
    assert data.predict_dataloader().num_workers == 8, "its only batch has 16 pictures"


def test_without_workers_no_shared_memory_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_memory(monkeypatch, 0)
    assert workers_with_room(0, devices=1, batch=MIB, prefetch=2) == 0


def test_a_system_that_does_not_show_its_shared_memory_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "_SHARED", Path("/nowhere"))
    assert workers_with_room(3, devices=1, batch=2**60, prefetch=2) == 3


def test_data_modules_know_the_size_of_their_batches(
    monkeypatch: pytest.MonkeyPatch, write_tree: Any, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path, 8)
    root = write_tree("photos", [f"{kind}/{number}.png" for kind in "ab" for number in range(8)])
    recipe = ViewRecipe("cifar10", size=64, count=3)
    data = SimCLRDataModule("folder", root=root, batch_size=2, views=recipe, val_fraction=0.5, num_workers=4)
    data.setup("fit")
    one = 2 * 3 * 3 * 64 * 64
    shared_memory(monkeypatch, 5 * one)  # the four of an epoch, and the one that is trained on
    assert data.train_dataloader().num_workers == 4
    with pytest.raises(InputError, match=r"shm-size"):  # clean pictures beside the views
        data.val_dataloader()
    shared_memory(monkeypatch, 5 * one - 1)
    with pytest.raises(InputError, match=r"shm-size"):
        data.train_dataloader()


class Batches(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    @handed_over
    def __getitem__(self, position: int) -> Tensor:
        return torch.full((8 * MIB,), position, dtype=torch.uint8)


def load() -> list[int]:
    return [int(batch[0]) for batch in PictureLoader(Batches(), batch_size=None, num_workers=2, collate_fn=as_it_is)]


def test_workers_hand_over_shared_tensors() -> None:
    loader: Any = PictureLoader(Batches(), batch_size=None, num_workers=1, collate_fn=as_it_is)
    assert all(batch.is_shared() for batch in loader)
    assert not Batches()[0].is_shared()  # type: ignore[no-untyped-call]
    assert load() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "message",
    [
        "unable to allocate shared memory(shm) for file </torch_10446_1>: No space left on device (28)",
        "unable to write to file </torch_10446_1>: No space left on device (28)",
    ],
)
def test_a_full_shared_memory_is_told_by_us(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def full(tensor: Tensor) -> Tensor:
        raise RuntimeError(message)

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(InputError, match=r"shared memory is full.*--shm-size=8g.*--data\.num_workers"):
        load()


class Killed(Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, position: int) -> int:
        os.kill(os.getpid(), 7)  # SIGBUS, which the system sends where a page of shared memory has no room
        return position


@pytest.mark.skipif(sys.platform != "linux", reason="signal 7 is another one elsewhere")
def test_a_worker_that_a_bus_error_kills_is_told_by_us() -> None:
    with pytest.raises(InputError, match=r"shared memory is full.*--shm-size"):
        list(PictureLoader(Killed(), batch_size=None, num_workers=1))


def test_other_errors_stay_as_they_are() -> None:
    class Wrong(Batches):
        def __getitem__(self, position: int) -> Tensor:
            raise RuntimeError("of my own")

    with pytest.raises(RuntimeError, match="of my own") as caught:
        list(PictureLoader(Wrong(), batch_size=None, num_workers=0))
    assert not isinstance(caught.value, InputError)


def test_a_real_shared_memory_of_ten_megabytes_ends_in_our_message_and_not_in_waiting(tmp_path: Path) -> None:
    script = "from tests.data.test_worker_processes import load; load()"
    mount = "mount -t tmpfs -o size=10m tmpfs /dev/shm"
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    command = [*inside, f'{mount} && exec "$0" -c "$1"', sys.executable, script]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert run.returncode
    assert "InputError: A worker could not hand over a batch: the shared memory is full (/dev/shm has 10m" in run.stderr


KILLED = """
import multiprocessing
import time

import torch
from torch.utils.data import Dataset
from simclr_lightning.data.loaders import PictureLoader, as_it_is
from simclr_lightning.data.worker_processes import handed_over


class Numbers(Dataset):
    def __len__(self):
        return 8

    @handed_over
    def __getitem__(self, position):
        return torch.tensor(position)


if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")  # the default from Python 3.14 on
    loader = PictureLoader(Numbers(), batch_size=None, num_workers=2, collate_fn=as_it_is, persistent_workers=True)
    batches = iter(loader)
    next(batches), next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as training:
        assert training.stdout is not None
        workers = [Path("/proc") / number for number in training.stdout.readline().split()]
        assert [worker.exists() for worker in workers] == [True, True]
        training.kill()
    until = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


def is_alive(process: Path) -> bool:
    """And no zombie, for which nobody has asked yet."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
