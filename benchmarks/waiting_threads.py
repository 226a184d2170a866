"""What does it cost when threads wait for each other on a processor that others use, too?

    python benchmarks/waiting_threads.py

`simclr fit` with the quickstart, as many threads as there are cores, beside so many other busy processes. GNU's OpenMP,
which torch computes with on Linux, lets a thread try 300,000 times whether the others are there, before it sleeps;
`simclr` says 10,000. These, sleep at once and one thread alternate, a process each; pictures a second are those of the
last epoch, as the run logs them, CPU seconds are of the whole process.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import report
from runner import parse, parser

CONTESTANTS = {
    "10,000 times, as `simclr`": {"GOMP_SPINCOUNT": "10000"},
    "300,000 times, as GNU's OpenMP": {"GOMP_SPINCOUNT": "300000"},
    "asleep at once": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
_FIT = ["fit", "--config", "quickstart", "--trainer.max_epochs", "2", "--trainer.limit_val_batches", "0"]
_READ = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def trained(settings: dict[str, str], more: list[str]) -> dict[str, float]:
    """Pictures a second and CPU seconds of a training."""
    environment = {name: own for name, own in os.environ.items() if name not in _READ} | settings
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        command = [sys.executable, "-m", "simclr_lightning", *_FIT, *more]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=nothing, stderr=nothing)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}")
        with Path(folder, "runs/quickstart/version_0/metrics.csv").open() as file:
            speeds = [float(own) for row in csv.DictReader(file) if (own := row["time/pictures_per_second"])]
    return {"pictures_per_second": speeds[-1], "cpu": usage.ru_utime + usage.ru_stime}


def beside(others: int, settings: dict[str, str], more: list[str]) -> dict[str, float]:
    """The same while so many other processes never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        return trained(settings, more)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, and report."""
    options = parse(parser(__doc__))
    cores = len(os.sched_getaffinity(0))
    cases = [1] if options.short else [0, 1, cores]
    more = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"] if options.short else []
    names = [name for name in CONTESTANTS if not options.only or name in options.only]
    figures: dict[tuple[int, str], list[dict[str, float]]] = {(own, name): [] for own in cases for name in names}
    for _ in range(options.rounds):
        for (others, name), rounds in figures.items():
            rounds.append(beside(others, CONTESTANTS[name], more))
    rows = []
    for (others, name), rounds in figures.items():
        speed, spread = report.spread([own["pictures_per_second"] for own in rounds])
        cpu, _ = report.spread([own["cpu"] for own in rounds])
        rows.append([str(others), name, speed, spread, cpu])
    results = [{"others": others, "name": name, "rounds": own} for (others, name), own in figures.items()]
    note = f"{cores} cores; medians of {options.rounds} rounds, a process each. {options.note}".strip()
    header = ["busy processes beside", "a thread tries", "pictures/s", "smallest to largest", "CPU s, start included"]
    report.write(options.out, "waiting_threads", "Threads that wait for each other", note, header, rows, results)


if __name__ == "__main__":
    main()
