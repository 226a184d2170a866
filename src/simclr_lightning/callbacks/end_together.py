"""``EndTogether``: no process of a training waits for ever for one that has died, was stopped, or has failed."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from simclr_lightning.distributed import gather_objects, rank
from simclr_lightning.errors import check_number

BEAT, ADIEU = b"\x01", b"\x02"
"""What processes send each other: that they live, and that they end well."""

FAILED, DIED, SILENT = b"\x03", b"\x04", b"\x05"
"""What is wrong with the process whose rank follows in four bytes."""

_WRONG = {FAILED: "has failed, or waits for one that has", DIED: "has died", SILENT: "has given no sign of life"}

_PERIOD = 3.0
"""Seconds between two beats."""

_GRACE = 10.0
"""Seconds in which a process may end by itself, with an error of its own."""


class EndTogether(Callback):
    """Ends all processes of a training within a minute where one of them dies, is stopped, or fails.

    Whoever waits in a collective for such a process waits half an hour, by torch's default, and for ever under some
    settings. A thread of each process therefore tells the first one, by a socket of its own, that it lives; the first
    tells all others. A process that works for hours on something else lives; one that SIGSTOP holds does not. The rest
    end with status 1, so that schedulers start the job again, from the last checkpoint. Where all are stopped together,
    as by Ctrl-Z, nothing happens.

    Example:
        >>> trainer = Trainer(callbacks=[EndTogether()], accelerator="cpu", logger=False, enable_checkpointing=False)

    Args:
        seconds: without a sign of life after which a process counts as dead.
    """

    def __init__(self, seconds: float = 35.0) -> None:
        super().__init__()
        check_number("seconds of EndTogether", seconds, "trainer.callbacks.seconds 35", above=0)
        self.seconds = seconds
        self._over = threading.Event()
        self._failed = False
        self._watcher: threading.Thread | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the processes; where that is impossible there is a warning, and nobody is watched."""
        if stage != "fit" or trainer.world_size == 1:
            return
        environment = getattr(trainer.strategy, "cluster_environment", None)
        address = str(getattr(environment, "main_address", None) or os.environ.get("MASTER_ADDR", "127.0.0.1"))
        device = trainer.strategy.root_device
        server = _listen(address) if rank() == 0 else None
        own = {"port": str(server.getsockname()[1]), "key": secrets.token_hex(16)} if server is not None else {}
        told = gather_objects(own, device)[0]
        self._over.clear()
        self._end = _Ending(trainer, self._over)
        link: socket.socket | None = None
        problem = ""
        if server is None:
            try:
                link = socket.create_connection((address, int(told["port"])), timeout=20)
                link.sendall(told["key"].encode() + rank().to_bytes(4, "big"))
            except OSError as error:
                problem = f"rank {rank()} cannot reach {address}:{told['port']} ({error})"
        problems = [each["problem"] for each in gather_objects({"problem": problem}, device) if each["problem"]]
        if problems:
            rank_zero_warn(f"{problems[0]}: a process that dies or is stopped is not noticed before torch's timeout.")
            for end in (server, link):
                if end is not None:
                    end.close()
            return
        if server is not None:
            links = dict(_accepted(server, told["key"].encode(), trainer.world_size - 1))
            server.close()
        else:
            assert link is not None
            links = {0: link}
        self._watcher = threading.Thread(target=self._watch, args=(links,), name="end-together", daemon=True)
        self._watcher.start()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the others know, unless all of them end as they were told to."""
        self._leave(failed=not isinstance(exception, SIGTERMException | KeyboardInterrupt | SystemExit))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take leave of the others."""
        self._leave(failed=False)

    def _leave(self, *, failed: bool) -> None:
        if self._watcher is not None:
            self._failed = failed
            self._over.set()
            self._watcher.join(timeout=2 * _PERIOD)
            self._watcher = None

    def _watch(self, links: dict[int, socket.socket]) -> None:
        """Beat, and listen, until this process ends, or another one has to be told of."""
        selector = selectors.DefaultSelector()
        silent = dict.fromkeys(links, 0)
        for other, link in links.items():
            link.settimeout(_PERIOD)
            selector.register(link, selectors.EVENT_READ, other)
        most = max(1, round(self.seconds / _PERIOD))
        while links and not self._over.is_set():
            begun = time.monotonic()
            for other, link in links.items():
                if not _send(link, BEAT):
                    silent[other] += 1
            # Counted in turns, not in time: a process that was stopped, and goes on, finds no time lost by the others.
            silent = {other: turns + 1 for other, turns in silent.items()}
            while links and not self._over.is_set() and (left := _PERIOD - (time.monotonic() - begun)) > 0:
                for key, _ in selector.select(min(left, 0.5)):
                    other, words = key.data, _received(links[key.data])
                    silent[other] = 0
                    wrong = words.lstrip(BEAT) if words else DIED + other.to_bytes(4, "big")
                    if not wrong:
                        continue
                    selector.unregister(links[other])
                    links.pop(other).close()
                    if wrong != ADIEU:
                        self._tell(links, wrong)
                        return
            for other, turns in silent.items():
                if other in links and turns > most:
                    self._tell(links, SILENT + other.to_bytes(4, "big"))
                    return
        for link in links.values():
            _send(link, FAILED + rank().to_bytes(4, "big") if self._failed else ADIEU)
            link.close()

    def _tell(self, links: dict[int, socket.socket], wrong: bytes) -> None:
        """Tell the others, and end."""
        for link in links.values():
            _send(link, wrong)
        kind, who = wrong[:1], int.from_bytes(wrong[1:5], "big")
        self._end(f"Rank {who} {_WRONG.get(kind, 'sends what nobody understands')}", at_once=kind != FAILED)


class _Ending:
    """Ends this process, which may wait for another one in code that no exception reaches."""

    def __init__(self, trainer: Trainer, over: threading.Event) -> None:
        self.launcher: Any = trainer.strategy.launcher
        self.over = over

    def __call__(self, reason: str, *, at_once: bool) -> None:
        """Say why, unless it ends by itself first, with an error of its own."""
        if not at_once and self.over.wait(_GRACE):
            return
        told = f"{reason}: rank {rank()} ends, too. To go on: the same command, from the last checkpoint."
        os.write(2, f"{told}\n".encode())
        if at_once and self.over.wait(_GRACE):
            return
        if hasattr(self.launcher, "kill"):  # those that it has started, one of which may be held
            self.launcher.kill(signal.SIGKILL)
        os._exit(1)


def _listen(address: str) -> socket.socket:
    """A server at an address of this machine, or at all of them where it is the name of something else."""
    try:
        return socket.create_server((address, 0), backlog=4096)
    except OSError:
        return socket.create_server(("", 0), backlog=4096)


def _accepted(server: socket.socket, key: bytes, number: int) -> Iterator[tuple[int, socket.socket]]:
    """Connections by rank; whoever does not know the key is sent away."""
    server.settimeout(20)
    while number:
        link, _ = server.accept()
        link.settimeout(20)
        greeting = link.recv(len(key) + 4, socket.MSG_WAITALL)
        if not secrets.compare_digest(greeting[:-4], key):
            link.close()
            continue
        number -= 1
        yield int.from_bytes(greeting[-4:], "big"), link


def _send(link: socket.socket, word: bytes) -> bool:
    try:
        link.sendall(word)
    except OSError:
        return False
    return True


def _received(link: socket.socket) -> bytes:
    """What has come; nothing where the other end is closed."""
    try:
        return link.recv(4096)
    except TimeoutError:
        return BEAT
    except OSError:
        return b""
