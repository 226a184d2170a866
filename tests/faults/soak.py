"""Trains for thousands of steps and measures what may grow: memory, open files, threads, processes, files of the run.

python -m tests.faults.soak --steps 10000 --output runs/soak.json

A run of ``simclr fit`` on digits with everything that it does by default, and the probe: checkpoints of epochs and by
the clock, validation, pictures, records. It fails where the second half of the run has more of anything than the first
half had at most, but for memory, of which 2 % are let pass.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from simclr_lightning.callbacks.run_folder import folder_of_first_process

SLACK = 1.02
"""So much more memory than in the first half may be in use."""


class Measured(Callback):
    """Writes, every so many steps, what the process holds, as a line of JSON."""

    def __init__(self, output: str, every: int = 500) -> None:
        super().__init__()
        self.output, self.every = Path(output), every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure."""
        if trainer.global_step % self.every == 0:
            folder = folder_of_first_process(trainer)
            with self.output.open("a") as lines:
                lines.write(json.dumps({"step": trainer.global_step, **held(folder)}) + "\n")


def held(folder: Path) -> dict[str, float]:
    """Of this process, and files in a folder.

    Example:
        >>> sorted(held(Path("nowhere")))
        ['children', 'files', 'memory, MiB', 'open files', 'seconds of CPU', 'threads']
    """
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    tasks = list((own / "task").iterdir())
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    return {
        "memory, MiB": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "open files": len(list((own / "fd").iterdir())),
        "threads": len(tasks),
        "children": sum(len((task / "children").read_text().split()) for task in tasks),
        "files": len(files),
        "seconds of CPU": round(time.process_time(), 1),
    }


def growth(rows: list[dict[str, float]]) -> list[str]:
    """What the second half has more of than the first half had at most.

    Example:
        >>> growth([{"step": 1, "files": 3}, {"step": 2, "files": 3}])
        []
        >>> growth([{"step": 1, "files": 3, "memory, MiB": 100}, {"step": 2, "files": 4, "memory, MiB": 101}])
        ['files: 3 in the first half, 4 in the second']
    """
    half = len(rows) // 2
    told = []
    for name in rows[0].keys() - {"step", "seconds of CPU"}:
        first, second = (max(row[name] for row in part) for part in (rows[:half], rows[half:]))
        if second > first * (SLACK if name.startswith("memory") else 1):
            told.append(f"{name}: {first} in the first half, {second} in the second")
    return sorted(told)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=0, help="processes that make views")
    parser.add_argument("--output", type=Path, default=Path("runs/soak.json"))
    options = parser.parse_args()
    output = options.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    from simclr_lightning.console import main as simclr

    words = ["fit", "--config", "quickstart", "--trainer.accelerator", "cpu", "--trainer.max_steps", str(options.steps)]
    words += ["--model.encoder", "resnet8", "--model.width", "0.125", "--data.batch_size", "8"]
    words += ["--data.num_workers", str(options.workers)]
    words += ["--trainer.max_epochs", "-1", "--trainer.check_val_every_n_epoch", "10", "--save_every_minutes", "0.1"]
    words += ["--trainer.callbacks+=tests.faults.soak.Measured", "--trainer.callbacks.output", str(output)]
    words += ["--trainer.callbacks.every", str(max(1, options.steps // 20))]
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        os.chdir(folder)
        simclr(words)
    told = growth([json.loads(line) for line in output.read_text().splitlines()])
    print(output.read_text(), *(told or ["nothing grows"]), sep="\n")
    sys.exit(bool(told))


if __name__ == "__main__":
    main()
