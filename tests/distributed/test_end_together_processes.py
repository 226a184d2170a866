"""A process that dies, is stopped or fails does not leave the others waiting."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

import pytest
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from tests.distributed.harness import run_in_processes

from simclr_lightning.callbacks import EndTogether, end_together
from simclr_lightning.callbacks.end_together import ADIEU, BEAT, FAILED
from simclr_lightning.distributed import rank


def stop_one() -> None:
    """One of three processes is stopped while the others wait for it in a collective."""
    end_together._PERIOD, end_together._GRACE = 0.2, 1.0
    settings: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(accelerator="cpu", strategy="ddp", devices=3, **settings)
    trainer.strategy.connect(LightningModule())
    callback = EndTogether(seconds=1)
    callback.setup(trainer, LightningModule(), "fit")
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.barrier()


def test_a_process_that_is_stopped_ends_the_others() -> None:
    told = r"rank [02] ended with 1:\n(.*\n)*Rank 1 has given no sign of life: rank [02] ends, too\. To go on"
    with pytest.raises(AssertionError, match=told):
        run_in_processes(stop_one, 3, timeout=60)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (BEAT + FAILED + (2).to_bytes(4, "big"), "Rank 2 has failed, or waits for one that has"),
        (BEAT, "Rank 1 has died"),
        (BEAT + ADIEU, None),
    ],
)
def test_what_is_told_of_a_process_that_is_gone(word: bytes, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    callback, said = EndTogether(), list[str]()
    monkeypatch.setattr(callback, "_end", lambda reason, at_once: said.append(reason), raising=False)
    own, other = socket.socketpair()
    watcher = threading.Thread(target=callback._watch, args=({1: own},))
    watcher.start()
    other.sendall(word)
    other.close()
    watcher.join(timeout=20)
    assert not watcher.is_alive()
    assert said == ([] if told is None else [told])


@pytest.mark.parametrize("failed", [False, True])
def test_a_process_tells_how_it_ends(failed: bool) -> None:
    callback = EndTogether()
    own, other = socket.socketpair()
    callback._watcher = threading.Thread(target=callback._watch, args=({1: own},))
    callback._watcher.start()
    callback._leave(failed=failed)
    with other:
        assert other.recv(99).replace(BEAT, b"") == (FAILED + b"\0" * 4 if failed else ADIEU)
