"""The one runner behind the scripts here: contestants alternate in fresh processes, and medians are reported.

A script declares contests. The contestants of a contest are functions that take a case, allocate what they need and
return a ``Work``: the step that is timed, and how many items it deals with. The one named ``OURS`` is what the others
are compared with. For every case, round after round, the runner starts one process per contestant, so that none
inherits another's memory, caches or threads, and whatever disturbs the machine disturbs all of them alike.

A process warms up with one step, then repeats it at least 3 times and for at least ``--seconds`` (but once only, if
that takes more than 5 seconds) and gives the medians. CPU time is that of all threads of the process; memory is the
peak above what is resident between steps. A contestant that is not installed is left out with a message, as is one that
raises MemoryError at a case.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch

OURS = "simclr_lightning"
RESULTS = Path(__file__).parent / "results"
"""What is committed: the full form, never the short one."""
Case = int | str
Figures = dict[str, float | None]
"""What one process measures: cpu and wall in seconds per item, memory in MiB (None where it is not known)."""

_PATIENCE = 5.0  # seconds
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Work(NamedTuple):
    """What is timed, and by how many items its time is divided."""

    step: Callable[[], object]
    items: int = 1


def measure(setup: Callable[[Any], Work], case: Case, seconds: float) -> Figures:
    """Figures of one contestant, in this process."""
    return timed(setup(case), seconds)


def timed(work: Work, seconds: float, *, warm_up: bool = True) -> Figures:
    """Warm up, then repeat the step for at least so many seconds."""
    step, items = work
    if warm_up:
        step()
    before = _restart_peak()
    cpu: list[float] = []
    wall: list[float] = []
    while sum(wall) < _PATIENCE and (len(wall) < 3 or sum(wall) < seconds):
        start, start_cpu = time.perf_counter(), time.process_time()
        step()
        cpu.append(time.process_time() - start_cpu)
        wall.append(time.perf_counter() - start)
    memory = None if before is None else max(0.0, _resident("VmHWM") - before)
    return {"cpu": statistics.median(cpu) / items, "wall": statistics.median(wall) / items, "memory": memory}


@dataclass(frozen=True)
class Contest:
    """One question: the same work, done by several contestants, for several cases.

    Args:
        name: of the files with the results.
        title: of the report: what is done, and by what rules.
        contestants: by name; each takes a case.
        cases: sizes, or names of settings. Sizes are plotted.
        case: what a case is, the heading of its column.
        clock: which time decides: cpu, or wall where processes wait for each other.
        item: what the time is divided by.
        measure: how a process measures one contestant.
    """

    name: str
    title: str
    contestants: Mapping[str, Callable[[Any], Any]]
    cases: Sequence[Case]
    case: str = "case"
    clock: str = "cpu"
    item: str = "step"
    measure: Callable[[Callable[[Any], Any], Any, float], Figures] = measure


class Result(NamedTuple):
    """Figures of one contestant at one case, one for every round."""

    case: Case
    contestant: str
    rounds: list[Figures]

    def of(self, key: str) -> list[float]:
        """One kind of figure of all rounds, [] where it is not known."""
        return [value for figures in self.rounds if (value := figures[key]) is not None]

    def median(self, key: str) -> float:
        """Median over the rounds, NaN where it is not known."""
        return statistics.median(self.of(key) or [float("nan")])


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all scripts have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--short", action="store_true", help="fewer rounds and cases, as make bench runs it")
    made.add_argument("--rounds", type=int, help="how often the contestants alternate (5; with --short 1)")
    made.add_argument("--seconds", type=float, default=0.3, help="how long a process repeats a step, at least")
    made.add_argument("--threads", type=int, default=1, help="threads of each process")
    made.add_argument("--only", nargs="+", metavar="NAME", help="contestants that take part")
    made.add_argument("--contests", nargs="+", metavar="NAME", help="tables that are made")
    made.add_argument("--out", type=Path, help="folder of the reports (results beside this file; --short: runs/bench)")
    made.add_argument("--note", default="", metavar="TEXT", help="for the reports, such as what else was running")
    made.add_argument("--measure", nargs=3, metavar=("CONTEST", "NAME", "CASE"), help=argparse.SUPPRESS)
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line."""
    options = made.parse_args()
    options.rounds = options.rounds or (1 if options.short else 5)
    options.out = options.out or (Path("runs/bench") if options.short else RESULTS)
    return options


def run(options: argparse.Namespace, *contests: Contest) -> None:
    """Hold all contests and report them; in a process that was started for one figure, measure that alone."""
    for contest in contests:
        if options.measure is not None:
            if options.measure[0] == contest.name:
                answer(contest, options)
        elif options.contests is None or contest.name in options.contests:
            save(contest, hold(contest, options), options)


def hold(contest: Contest, options: argparse.Namespace) -> list[Result]:
    """Let the contestants alternate; those that are not installed have no result."""
    names = [name for name in contest.contestants if options.only is None or name in options.only]
    results = [Result(case, name, []) for case in contest.cases for name in names]
    missing: set[str] = set()
    for case in contest.cases:
        for number in range(options.rounds):
            for result in results:
                if result.case != case or result.contestant in missing:
                    continue
                figures = measure_elsewhere(contest, result.contestant, result.case, options)
                shown = ", ".join(f"{key} {value}" for key, value in figures.items())
                print(f"{contest.name} {case}, round {number + 1}, {result.contestant}: {shown}", file=sys.stderr)
                if "not installed" in figures:
                    missing.add(result.contestant)
                elif "too large" not in figures:
                    result.rounds.append(figures)
    return [result for result in results if result.rounds]


def answer(contest: Contest, options: argparse.Namespace) -> None:
    """Print the figures that ``--measure`` asks for, as JSON."""
    _, name, text = options.measure
    case = next(case for case in contest.cases if str(case) == text)
    print(json.dumps(measure_here(contest, name, case, options)))


def measure_here(contest: Contest, name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one contestant in this process, or why there are none."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    try:
        return contest.measure(contest.contestants[name], case, options.seconds)
    except ImportError as error:
        if name.startswith(OURS):
            raise
        return {"not installed": str(error)}
    except MemoryError as error:
        return {"too large": str(error)}


def measure_elsewhere(contest: Contest, name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, with pinned threads."""
    command = [sys.executable, *sys.argv, "--measure", contest.name, name, str(case)]
    environment = os.environ | dict.fromkeys(_THREADS, str(options.threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{contest.name}: {name} failed at {case}:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _restart_peak() -> float | None:
    """Resident memory in MiB, from which the peak is counted anew; ru_maxrss has that of the process's life."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what the warm-up has freed
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # not Linux, or another C library
        return None
    return _resident("VmRSS")


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def save(contest: Contest, results: Sequence[Result], options: argparse.Namespace) -> None:
    """Report the results beside ours; where cases are sizes, plot them."""
    ours = {result.case: result.of(contest.clock) for result in results if result.contestant == OURS}
    scale, unit = report.unit(min(result.median(contest.clock) for result in results))
    compare, repeated = len(contest.contestants) > 1, options.rounds > 1
    memory, rate = any(result.of("memory") for result in results), contest.item != "step"
    header = [contest.case, "contestant", f"{unit} a {contest.item} ({contest.clock})"]
    header += ["fastest to slowest"] * repeated
    header += [f"{contest.item}s a second"] * rate + ["peak extra MiB"] * memory
    header += ["times ours", "least to most"][: 1 + repeated] * compare
    rows, data = [], []
    for result in results:
        times = result.of(contest.clock)
        own_times = ours.get(result.case)
        ratios = [] if own_times is None else [time / own for time, own in zip(times, own_times, strict=True)]
        row = [str(result.case), result.contestant, *report.spread([time * scale for time in times])[: 1 + repeated]]
        row += [f"{1 / result.median(contest.clock):,.0f}"] * rate + [f"{result.median('memory'):.0f}"] * memory
        rows.append([*row, *report.spread(ratios)[: (1 + repeated) * compare]])
        data.append({**result._asdict(), "ratios": ratios})
    missing = ", ".join(sorted(set(contest.contestants) - {result.contestant for result in results}))
    note = f"{options.rounds} round(s) in fresh processes with {options.threads} thread(s) each, medians."
    note += f" Without {missing}." if missing else ""
    note += f" {options.note}" if options.note else ""
    report.write(options.out, contest.name, contest.title, note, header, rows, data)
    if len(contest.cases) > 1 and all(isinstance(case, int) for case in contest.cases):
        panels = {contest.clock: f"seconds a {contest.item}"} | ({"memory": "peak extra MiB"} if memory else {})
        curves = {
            label: {
                name: [(float(r.case), r.median(key)) for r in results if r.contestant == name and r.of(key)]
                for name in contest.contestants
            }
            for key, label in panels.items()
        }
        report.plot(options.out / f"{contest.name}.png", contest.case, curves)
