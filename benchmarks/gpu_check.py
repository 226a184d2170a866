"""Is it right on this GPU, and how fast? One script, eight minutes at most.

    make gpu-check                                 # with what is installed in .venv-bench
    PYTHON=python3 make gpu-check                  # with what is installed already
    python benchmarks/gpu_check.py --rehearse      # every part on the CPU, with tiny sizes: it measures nothing

First what has to be so: loss, gradient, views and LARS against float64 on the CPU; training in three precisions,
resumed and deterministic; no wait of the host between logged steps. Then figures, by events on the device, beside their
aims: whole steps of ``fit`` against their encoder alone, loss, views, LARS, JPEG files. Every part is a process with a
time limit of its own, so that none can take the others with it, and its results are kept as they come. What does not
fit into the eight minutes is left out, and the table, which comes last, says so. Where there is no GPU, it is a
rehearsal. The exit status is 1 after a fault or a wrong result; a figure that falls short of its aim is none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch

HERE = Path(__file__).parent


class Part(NamedTuple):
    """What is run, and the seconds that it may take on a GPU."""

    name: str
    function: str
    seconds: float


PARTS = (  # what matters most comes first
    Part("exactness", "gpu.exactness:run", 60),
    Part("training", "gpu.training:run", 100),
    Part("steps, CIFAR", "gpu.steps:cifar", 110),
    Part("steps, ImageNet", "gpu.steps:imagenet", 70),
    Part("views", "gpu.views:run", 60),
    Part("loss", "gpu.loss:run", 70),
    Part("LARS", "gpu.lars:run", 40),
    Part("decoding", "gpu.decoding:run", 100),
)
LEAST = 15.0
"""Seconds below which a part is not begun."""
CLOSING = 5.0
"""Seconds in which the table is written."""


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    if options.part is not None:
        return _here(options)
    begin = time.monotonic()
    rehearse = options.rehearse or not torch.cuda.is_available()
    out = options.out or (Path("runs/gpu-check") if rehearse else HERE / "results" / "gpu")
    out.mkdir(parents=True, exist_ok=True)
    head = _head(rehearse, options.commit)
    target = out / f"{head['date']}-{re.sub(r'[^a-z0-9]+', '-', head['card'].lower()).strip('-')}"

    def run(part: Part, rows: Path, seconds: float) -> Outcome:
        words = ["--part", part.name, "--rows", str(rows), "--seconds", str(seconds)]
        words += ["--rehearse"] * rehearse
        words += ["--photographs", str(options.photographs)] * (options.photographs is not None)
        return in_a_process([sys.executable, str(Path(__file__).resolve()), *words], seconds)

    chosen = [part for part in PARTS if options.parts is None or part.name in options.parts]
    results = hold(chosen, run, target, head, end=begin + 60 * options.minutes, rehearse=rehearse)
    table = _table(head, results)
    target.with_suffix(".md").write_text(table)
    print(f"\n{table}\nWritten: {target}.json, {target.name}.md")
    if rehearse:
        print("There was no GPU for it: every part ran on the CPU, with tiny sizes. No GPU figure was measured.")
    verdicts = [row["verdict"] for row in results["rows"]]
    faults = [part for part in results["parts"] if part["fault"]]
    return int(bool(faults) or "FAULT" in verdicts or "WRONG" in verdicts)


class Outcome(NamedTuple):
    """How a process ended: None, or what went wrong; and the end of what it said."""

    fault: str | None
    tail: str = ""


def hold(
    parts: Sequence[Part],
    run: Callable[[Part, Path, float], Outcome],
    target: Path,
    head: dict[str, Any],
    *,
    end: float,
    rehearse: bool,
) -> dict[str, Any]:
    """Run part after part; after each, all results so far are in ``target``.json.

    Args:
        parts: in the order of their importance.
        run: runs one of them within so many seconds, and leaves a line of JSON for each row in the file.
        target: of the results, without its suffix.
        head: what the results hold for.
        end: of the time for all, by ``time.monotonic``.
        rehearse: whether the limits of the parts, which are made for a GPU, are doubled.
    """
    results: dict[str, Any] = {**head, "parts": [], "rows": []}
    for part in parts:
        begin = time.monotonic()
        seconds = min(part.seconds * (1 + rehearse), end - begin - CLOSING)
        if seconds < LEAST:
            outcome = Outcome(f"left out: {max(seconds, 0):.0f} s were left of the whole time")
        else:
            rows = target.with_suffix(".rows")
            rows.unlink(missing_ok=True)
            outcome = run(part, rows, seconds)
            if rows.exists():
                results["rows"] += [json.loads(line) for line in rows.read_text().splitlines() if line.endswith("}")]
                rows.unlink()
        took = time.monotonic() - begin
        results["parts"].append({"part": part.name, "seconds": round(took, 1), **outcome._asdict()})
        target.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"{part.name}: {outcome.fault or 'done'}, {took:.0f} s", flush=True)
    return results


def in_a_process(command: Sequence[str], seconds: float) -> Outcome:
    """Run a command; when its time is over, it ends with all that it has started."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return Outcome(f"stopped after {seconds:.0f} s", said[-4000:])
    if process.returncode:
        return Outcome(f"ended with status {process.returncode}", said[-4000:])
    return Outcome(None)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rehearse", action="store_true", help="on the CPU with tiny sizes, also where there is a GPU")
    made.add_argument("--out", type=Path, help="folder (benchmarks/results/gpu; of a rehearsal runs/gpu-check)")
    made.add_argument("--minutes", type=float, default=8.0, help="that all of it may take")
    made.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="some of them")
    made.add_argument("--photographs", type=Path, help="JPEG files in class folders, instead of drawn ones")
    made.add_argument("--commit", help="that is checked, where git cannot tell")
    for name in ("part", "rows", "seconds"):  # of the process of one part
        made.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return made.parse_args(words)


def _here(options: argparse.Namespace) -> int:
    """One part, in this process."""
    sys.path.insert(0, str(HERE.parent))  # the tests' slow reference of the views
    from gpu.check import Check

    module, _, function = next(part.function for part in PARTS if part.name == options.part).partition(":")
    check = Check(
        options.part,
        Path(options.rows),
        rehearse=options.rehearse,
        seconds=float(options.seconds),
        photographs=options.photographs,
    )
    with check.guarded(options.part):
        getattr(import_module(module), function)(check)
    return 0


def _head(rehearse: bool, commit: str | None) -> dict[str, Any]:
    shared = Path("/dev/shm")  # in which the loader's workers hand over their batches
    card, driver, memory = "CPU, a rehearsal", "", ""
    if not rehearse:  # by nvidia-smi: this process leaves the GPU to those of the parts
        query = "--query-gpu=name,driver_version,memory.total"
        card, driver, memory = (*_said("nvidia-smi", query, "--format=csv,noheader").split(", "), "", "")[:3]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "card": card,
        "memory": memory,
        "driver": driver,
        "shared_memory_gib": round(shutil.disk_usage(shared).total / 2**30, 1) if shared.exists() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "machine": report.machine(),
        "versions": report.versions() | {"torch": torch.__version__},
        "commit": commit or _said("git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"),
    }


def _said(*command: str) -> str:
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return lines[0].strip() if lines else "unknown"


def _table(head: dict[str, Any], results: dict[str, Any]) -> str:
    rows = results["rows"]
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("right", "WRONG", "FAULT")}
    reached = [row for row in rows if row["verdict"] in ("pass", "short")]
    lines = [
        f"# GPU check: {head['card']}",
        "",
        f"{head['date']}, commit {head['commit']}. {counts['right']} right, {counts['WRONG']} wrong, "
        f"{counts['FAULT']} faults; {sum(row['verdict'] == 'pass' for row in reached)} of {len(reached)} aims reached.",
        "",
        "| part | what | value | aim | verdict | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        value = "" if row["value"] is None else f"{report.digits(row['value'])} {row['unit']}".strip()
        cells = (row["part"], row["name"], value, row["aim"], row["verdict"], row["note"])
        lines.append("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    lines += ["", "| part | seconds | |", "| --- | --- | --- |"]
    lines += [f"| {part['part']} | {part['seconds']:g} | {part['fault'] or ''} |" for part in results["parts"]]
    versions = ", ".join(f"{name} {own}" for name, own in head["versions"].items())
    machine = ", ".join(head["machine"].values())
    driver = f"driver {head['driver']}, CUDA {head['cuda']}, cuDNN {head['cudnn']}; " * bool(head["driver"])
    return "\n".join([*lines, "", f"{driver}{machine}; {versions}.", ""])


if __name__ == "__main__":
    raise SystemExit(main())
