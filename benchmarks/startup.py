"""How long until the command line answers?

    python benchmarks/startup.py

Each command is a process of its own, round after round; CPU seconds are those of the process and what it starts, by
wait4. What Python imports for it is asked once, by -X importtime: the time of
each package's own files, without what these import. Beside them, the import of Lightning alone, which whatever trains
cannot do without.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

import report
from runner import parse, parser

ARGUMENTS = {
    "simclr --version": ["-m", "simclr_lightning", "--version"],
    "simclr --help": ["-m", "simclr_lightning", "--help"],
    "simclr recipes": ["-m", "simclr_lightning", "recipes"],
    "a Tab": ["-m", "simclr_lightning", "completion", "words", "fit", "--model."],
    "simclr models": ["-m", "simclr_lightning", "models"],
    "simclr fit --help": ["-m", "simclr_lightning", "fit", "--help"],
    "simclr fit --config quickstart --print_config": [
        *("-m", "simclr_lightning", "fit", "--config", "quickstart", "--print_config"),
    ],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
}
_SHOWN = 5  # packages


def measured(arguments: list[str], folder: str) -> dict[str, float]:
    """CPU and wall seconds of a process."""
    before = os.times()
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=nothing, stderr=nothing)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")
    cpu, wall = usage.ru_utime + usage.ru_stime, os.times().elapsed - before.elapsed
    return {"cpu": cpu, "wall": wall}


def imported(arguments: list[str], folder: str) -> dict[str, float]:
    """Seconds that the files of each package took, the largest first."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    packages: Counter[str] = Counter()
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", done.stderr, re.MULTILINE):
        packages[name.partition(".")[0]] += int(own)
    return {name: own / 1e6 for name, own in packages.most_common()}


def main() -> None:
    """Measure, and report."""
    options = parse(parser(__doc__))
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in ARGUMENTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, arguments in ARGUMENTS.items():
                if not options.only or name in options.only:
                    figures[name].append(measured(arguments, folder))
        packages = {name: imported(ARGUMENTS[name], folder) for name, found in figures.items() if found}
    rows, results = [], []
    for name, rounds in figures.items():
        if not rounds:
            continue
        cpu, spread = report.spread([own["cpu"] for own in rounds])
        heavy = ", ".join(f"{package} {own:.2f}" for package, own in list(packages[name].items())[:_SHOWN])
        rows.append([f"`{name}`" if " " in name else name, cpu, spread, heavy])
        results.append({"command": name, "rounds": rounds, "imports": packages[name]})
    note = f"Medians of {options.rounds} rounds, a process each; imports of one more. {options.note}".strip()
    header = ["command", "CPU s", "smallest to largest", "imports, s: the largest"]
    report.write(options.out, "startup", "Until the command line answers", note, header, rows, results)


if __name__ == "__main__":
    main()
