"""Kills trainings at random moments, lets them go on, and compares them with ones that nobody killed, bit by bit.

    python -m tests.faults.campaign --kills 200 --output runs/faults.json

Every run is the command ``simclr fit ... --auto_resume true`` in processes of its own, forked from one that has
imported torch. It is killed by SIGKILL, at a random moment or while a checkpoint is being written, one to four times;
of several processes one is killed, or all. Then it may end. Compared are weights, optimizer, schedule, what callbacks
keep (the probe, for example), and every row of metrics.csv. The report is written after every run, and the folder of a
run that differs is kept beside it.

    python -m tests.faults.campaign --storm 30 --kinds "one process"

kills a long run every few seconds, for 30 minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

COMMON = [
    *("fit", "--config", "quickstart", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "3"),
    *("--model.width", "0.125", "--trainer.log_every_n_steps", "1", "--trainer.check_val_every_n_epoch", "2"),
    *("--auto_resume", "true", "--trainer.logger.version", "run"),
]
OFTEN = ["--save_every_minutes", "0.005"]  # also in the middle of epochs
KINDS: dict[str, tuple[int, list[str]]] = {  # processes, and what is typed beside COMMON
    "two processes": (2, OFTEN),
    "two processes, micro-batches, SupCon": (
        2,
        [*OFTEN, "--model.micro_batch_size", "20", "--model.loss", "SupConNTXent"],
    ),
    "accumulated, decoupled loss, four views": (
        1,
        [
            *(*OFTEN, "--model.loss", "DecoupledNTXent", "--data.views.count", "4", "--data.batch_size", "64"),
            *("--trainer.accumulate_grad_batches", "2"),
        ],
    ),
    "hard negatives, kNN, growing views, LARS": (
        1,
        [
            *(*OFTEN, "--model.loss", "HardNegativeNTXent"),
            *("--model.optimizer", "lars", "--model.learning_rate", "0.3"),
            *("--trainer.callbacks+=OnlineKNN", "--trainer.callbacks.every_n_epochs", "1"),
            *("--trainer.callbacks+=ProgressiveResizing", "--trainer.callbacks.start", "0.5"),
        ],
    ),
    "one process": (1, OFTEN),
    "checkpoints of epochs alone": (1, []),
    "two workers": (1, [*OFTEN, "--data.num_workers", "2"]),
    "micro-batches": (1, [*OFTEN, "--model.micro_batch_size", "50"]),
}
WRITING = 0.4
"""Share of kills that wait until a checkpoint is being written, or has just been."""

EARLY = 0.1
"""Share of kills in the first seconds of a command."""

MOST = 5
"""Kills of one run."""

LIMIT = 1800.0
"""Seconds in which a run has to end, on a machine with much else to do."""


@dataclass
class Kill:
    """One SIGKILL.

    Attributes:
        seconds: after the start of the command.
        writing: whether a checkpoint was being written.
        written: whether one had just been, so that what comes after it was not done.
        ranks: that were killed.
        step: of the newest checkpoint that there was, 0 for none.
    """

    seconds: float
    writing: bool
    written: bool
    ranks: list[int]
    step: int = 0


@dataclass
class Chain:
    """A run that was killed, and went on until its end.

    Attributes:
        kind: of run.
        kills: one after the other.
        differences: from the run that nobody killed; nothing where it is the same.
    """

    kind: str
    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class Command:
    """``simclr`` in one or more processes, as torchrun starts them."""

    def __init__(self, folder: Path, words: list[str], processes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        context = get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.preload"])
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.processes: list[Any] = []
        for rank in range(processes):
            environment: dict[str, Any] = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": processes,
                "LOCAL_WORLD_SIZE": processes,
            }
            environment |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {"TORCHELASTIC_RUN_ID": "faults", "GLOO_SOCKET_IFNAME": "lo"}
            several = ["--trainer.devices", str(processes), "--trainer.strategy", "ddp"]
            told = {name: str(value) for name, value in environment.items()} if processes > 1 else {}
            typed = [*words, *(several if processes > 1 else [])]
            self.processes.append(context.Process(target=_work, args=(folder, typed, told, rank)))
        self.begun = time.monotonic()
        for process in self.processes:
            process.start()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.begun

    def runs(self) -> bool:
        """Whether all processes do."""
        return all(process.is_alive() for process in self.processes)

    def kill(self, ranks: list[int]) -> None:
        """By SIGKILL; the others have to end by themselves."""
        for rank in ranks:
            os.kill(self.processes[rank].pid, signal.SIGKILL)
        for process in self.processes:
            process.join(LIMIT)
            assert process.exitcode is not None, f"Rank {self.processes.index(process)} waits for one that was killed."

    def end(self) -> None:
        """Wait until all have done their work."""
        for rank, process in enumerate(self.processes):
            process.join(LIMIT)
            told = (self.folder / f"{rank}.txt").read_text()[-3000:]
            assert process.exitcode == 0, f"Rank {rank} ended with {process.exitcode}:\n{told}"


def _work(folder: Path, words: list[str], environment: dict[str, str], rank: int) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    output = os.open(f"{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    from simclr_lightning.console import main

    main(words)


def checkpoints(folder: Path) -> Path:
    """Folder of a run's checkpoints."""
    return folder / "runs" / "quickstart" / "run" / "checkpoints"


def lines(folder: Path) -> int:
    """That a run has logged: its progress, however busy the machine is."""
    try:
        return (checkpoints(folder).parent / "metrics.csv").read_text().count("\n")
    except FileNotFoundError:
        return 0


def configurations(folder: Path) -> int:
    """Files that a run has written when its processes had found each other, one at every start."""
    return len(list(checkpoints(folder).parent.glob("config*.yaml")))


def wait_for_moment(command: Command, chance: random.Random, most: int) -> Kill | None:
    """A random moment, or one in which a checkpoint is being written; None where the run has ended before."""
    wanted, writing, after = chance.random() < WRITING, False, chance.random() < 0.5
    early = chance.uniform(0, 4) if chance.random() < EARLY else None  # before it trains, perhaps
    target, later = chance.randint(min(lines(command.folder), most - 1), most - 1), chance.uniform(0, 0.2)
    parts, begun = checkpoints(command.folder), configurations(command.folder)
    while command.runs() and (lines(command.folder) < target if early is None else command.seconds < early):
        time.sleep(0.003)
    if not wanted or early is not None:
        time.sleep(later)
    while command.runs() and wanted and early is None and not writing:
        writing = any(parts.glob(".*.part"))
        time.sleep(0.0003)
    while command.runs() and writing and after and any(parts.glob(".*.part")):
        time.sleep(0.0001)
    if not command.runs():
        return None
    # Before they have found each other, others wait for one that dies: it is on what starts them to end them all.
    number = len(command.processes)
    alone = chance.random() < 0.7 and configurations(command.folder) > begun
    ranks = [chance.randrange(number)] if alone else list(range(number))
    return Kill(round(command.seconds, 2), writing and not after, writing and after, ranks)


def wait_for_seconds(command: Command, seconds: float) -> Kill | None:
    """So long after it has begun to train; None where the run has ended before."""
    begun = configurations(command.folder)
    while command.runs() and configurations(command.folder) == begun:
        time.sleep(0.01)
    until = time.monotonic() + seconds
    while command.runs() and time.monotonic() < until:
        time.sleep(0.01)
    ranks = list(range(len(command.processes)))
    return Kill(round(command.seconds, 2), False, False, ranks) if command.runs() else None


def outcome(folder: Path) -> dict[str, Any]:
    """What is compared of a run that has ended."""
    content = torch.load(checkpoints(folder) / "last.ckpt", weights_only=True)
    names = ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "callbacks", "schedule")
    found = {name: content[name] for name in names}
    # Of these: paths, of what was written when.
    found["callbacks"] = {name: own for name, own in found["callbacks"].items() if "Checkpoint" not in name}
    with (checkpoints(folder).parent / "metrics.csv").open(newline="") as file:
        told = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    rows = [{name: value for name, value in row.items() if not name.startswith("time/")} for row in told]
    # By what they say: the order within a step is nobody's business, and a row too many is named.
    texts = [f"step {row['step']}: {', '.join(f'{name}={row[name]}' for name in sorted(row))}" for row in rows]
    return found | {"metrics.csv": {f"{row} ({number})": True for row, number in _numbered(texts)}}


def _numbered(texts: list[str]) -> list[tuple[str, int]]:
    """Texts, each with how often it was there before."""
    return [(text, texts[:place].count(text)) for place, text in enumerate(texts)]


def differences(own: Any, other: Any, name: str = "") -> list[str]:
    """Where two outcomes differ, to the last bit."""
    if isinstance(own, dict) and isinstance(other, dict):
        names = {**own, **other}
        pairs = [(own.get(key), other.get(key), f"{name}.{key}") for key in names]
        return [place for pair in pairs for place in differences(*pair)]
    if isinstance(own, list | tuple) and isinstance(other, list | tuple) and len(own) == len(other):
        numbered = enumerate(zip(own, other, strict=True))
        return [place for number, pair in numbered for place in differences(*pair, f"{name}[{number}]")]
    same = (
        torch.equal(own, other) if isinstance(own, torch.Tensor) and isinstance(other, torch.Tensor) else own == other
    )
    return [] if same else [name.removeprefix(".")]


class Campaign:
    """Runs of every kind, in a folder; with further words behind those of their kind."""

    def __init__(self, folder: Path, seed: int, kinds: list[str], words: tuple[str, ...] = ()) -> None:
        self.folder, self.kinds, self.seed, self.words = folder, kinds, seed, words
        self.whole: dict[str, tuple[dict[str, Any], int]] = {}
        self.chains: list[Chain] = []

    def command(self, kind: str, folder: Path) -> Command:
        """Start a run, or go on with it."""
        processes, words = KINDS[kind]
        return Command(folder, [*COMMON, *words, *self.words], processes)

    def uninterrupted(self, kind: str) -> tuple[dict[str, Any], int]:
        """Outcome of the run that nobody kills, and how many lines it logs; made once."""
        if kind not in self.whole:
            command = self.command(kind, self.folder / "whole" / str(len(self.whole)))
            command.end()
            self.whole[kind] = outcome(command.folder), lines(command.folder)
        return self.whole[kind]

    def chain(self, kind: str, most: int = MOST) -> Chain:
        """Kill a run of a kind again and again, let it end, and compare it."""
        _, logged = self.uninterrupted(kind)

        def moments(chance: random.Random) -> Iterator[Callable[[Command], Kill | None]]:
            for _ in range(chance.randint(1, most)):
                yield lambda command: wait_for_moment(command, chance, logged)

        return self._killed(kind, moments)

    def storm(self, kind: str, minutes: float) -> Chain:
        """Kill a run of a kind every few seconds for so long, let it end, and compare it."""
        self.uninterrupted(kind)
        until = time.monotonic() + 60 * minutes

        def moments(chance: random.Random) -> Iterator[Callable[[Command], Kill | None]]:
            while time.monotonic() < until:
                yield lambda command: wait_for_seconds(command, chance.uniform(0, 6))

        return self._killed(kind, moments)

    def _killed(self, kind: str, moments: Callable[[random.Random], Iterator[Any]]) -> Chain:
        number = len(self.chains)
        folder, chain = self.folder / str(number), Chain(kind)
        self.chains.append(chain)
        try:
            for wait in moments(random.Random(f"{self.seed} {number}")):
                command = self.command(kind, folder)
                kill = wait(command)
                if kill is None:
                    command.end()
                    break
                command.kill(kill.ranks)
                chain.kills.append(kill)
                kill.step = _newest_step(checkpoints(folder))
            self.command(kind, folder).end()
            chain.differences = differences(outcome(folder), self.whole[kind][0])
            left = [file.name for file in checkpoints(folder).iterdir() if file.suffix != ".ckpt"]
            chain.differences += [f"left behind: {name}" for name in left]
        except (AssertionError, OSError) as error:
            chain.differences = [str(error)]
        if not chain.differences:
            shutil.rmtree(folder)
        return chain

    def table(self) -> list[dict[str, Any]]:
        """A row for every kind."""
        rows = []
        for kind in self.kinds:
            own = [chain for chain in self.chains if chain.kind == kind]
            kills = [kill for chain in own for kill in chain.kills]
            rows.append(
                {
                    "kind": kind,
                    "runs": len(own),
                    "kills": len(kills),
                    "in second and later resumes": sum(max(0, len(chain.kills) - 1) for chain in own),
                    "while a checkpoint was written": sum(kill.writing for kill in kills),
                    "just after": sum(kill.written for kill in kills),
                    "bit-equal": sum(not chain.differences for chain in own),
                }
            )
        return rows


def _newest_step(folder: Path) -> int:
    """Of a checkpoint that there is, as its name or its content tells."""
    files = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime_ns)
    return int(torch.load(files[-1], weights_only=True)["global_step"]) if files else 0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="end after so many")
    parser.add_argument("--storm", type=float, default=0, help="minutes in which one run is killed every few seconds")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--output", type=Path, default=Path("runs/faults.json"))
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    kept = options.output.with_suffix("")  # runs that differ, to look at
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        # So many epochs that a run outlives the storm on a machine with nothing else to do, nearly.
        longer = ("--trainer.max_epochs", str(int(20 * options.storm))) if options.storm else ()
        campaign, number = Campaign(Path(folder), options.seed, options.kinds, longer), 0
        done: Callable[[], int] = lambda: sum(len(chain.kills) for chain in campaign.chains)  # noqa: E731
        while done() < options.kills and time.monotonic() < deadline:
            kind = options.kinds[number % len(options.kinds)]
            chain = campaign.storm(kind, options.storm) if options.storm else campaign.chain(kind)
            if chain.differences:
                shutil.copytree(Path(folder, str(number)), kept / str(number), dirs_exist_ok=True)
            number += 1
            told = "equal" if not chain.differences else f"DIFFERENT: {chain.differences[:3]}"
            print(f"{done():4} kills: {chain.kind}, {len(chain.kills)} kill(s): {told}", flush=True)
            report = {"table": campaign.table(), "runs": [asdict(own) for own in campaign.chains]}
            part = options.output.with_suffix(".part")
            part.write_text(json.dumps(report, indent=1))
            part.replace(options.output)
            if options.storm and number == len(options.kinds):
                break
    for row in campaign.table():
        print(" | ".join(str(value) for value in row.values()))
    sys.exit(any(chain.differences for chain in campaign.chains))


if __name__ == "__main__":
    main()
