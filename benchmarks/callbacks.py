"""What does seeing cost?

    python benchmarks/callbacks.py

The same model is trained for an epoch again and again in one process, by turns without any callback but the schedule,
and with those that show what a training does. The share is what an epoch takes more than the one without in the same
round, in CPU time, the median of the rounds; what happens once an epoch is part of it, and weighs the more the shorter
the epoch and its steps are. Contestants:

* simclr_lightning: RepresentationHealth, Throughput, EpochLines, LearningRateMonitor and the logger of metrics.csv
* with the bar: TrainingBar in the place of EpochLines
* RepresentationHealth and Throughput alone, and what learns or classifies besides: OnlineLinearProbe, OnlineKNN
  (here after every epoch, by default after every tenth)
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import report
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from loader import Pictures
from runner import OURS, Case, Contest, Figures, Result, answer, hold, parse, parser

from simclr_lightning import LARSWarmup, OnlineKNN, OnlineLinearProbe, RepresentationHealth, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import EpochLines, Throughput, TrainingBar
from simclr_lightning.views import ViewRecipe

NOTHING = "nothing"
SEEING: list[Callable[[], Callback]] = [RepresentationHealth, Throughput, partial(LearningRateMonitor, "step")]
VARIANTS: dict[str, list[Callable[[], Callback]]] = {
    NOTHING: [],
    OURS: [*SEEING, EpochLines],
    "with the bar": [*SEEING, TrainingBar],
    "RepresentationHealth": [RepresentationHealth],
    "Throughput": [Throughput],
    "OnlineLinearProbe": [OnlineLinearProbe],
    "OnlineKNN": [partial(OnlineKNN, every_n_epochs=1)],
}
_WARM_UP = 2  # steps of each epoch that are not timed


class Timed(Callback):
    """CPU and wall seconds of an epoch, but for its first steps, with its end."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu = self.wall = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == _WARM_UP:
            self.cpu, self.wall = time.process_time(), time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.cpu, self.wall = time.process_time() - self.cpu, time.perf_counter() - self.wall


def epoch(variant: str, options: argparse.Namespace, folder: str) -> Timed:
    """Train for one, with what the variant says."""
    torch.manual_seed(0)
    made, timed = [make() for make in VARIANTS[variant]], Timed()
    model = SimCLR("resnet8", width=0.25, stem="cifar", optimizer="sgd")
    data = SimCLRDataModule(
        partial(Pictures, options.batch * options.steps, as_float=False),  # type: ignore[arg-type]
        batch_size=options.batch,
        views=ViewRecipe("cifar10", size=20, eval_size=32, crop_area=(0.2, 1.0)),
        cache=True,
        num_workers=0,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=CSVLogger(folder, variant) if variant in (OURS, "with the bar") else False,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(own, EpochLines | TrainingBar) for own in made),
        enable_model_summary=False,
        callbacks=[timed, LARSWarmup(warmup_epochs=0), *made],
    )
    with redirect_stdout(io.StringIO()):
        trainer.fit(model, data)
    return timed


def measure(setup: Callable[[Any], dict[str, Callable[[], Timed]]], case: Case, seconds: float) -> Figures:
    """CPU and wall seconds of an epoch of every variant, by turns, and how much more than without, the medians."""
    fits = setup(case)
    found: dict[str, list[float]] = {f"{name} {key}": [] for name in fits for key in ("cpu", "wall", "more")}
    for _ in range(_ROUNDS_OF[str(case)]):
        alone = None
        for name, fit in fits.items():
            timed = fit()
            alone = timed.cpu if alone is None else alone
            for key, value in (("cpu", timed.cpu), ("wall", timed.wall), ("more", timed.cpu / alone - 1)):
                found[f"{name} {key}"].append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {**medians, "cpu": medians[f"{NOTHING} cpu"], "wall": medians[f"{NOTHING} wall"]}


_ROUNDS_OF = {"short": 1, "full": 5}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--batch", type=int, help="pictures of a step (128; with --short 16)")
    made.add_argument("--steps", type=int, help="of an epoch, over which its end is spread (50; with --short 8)")
    options = parse(made)
    options.batch = options.batch or (16 if options.short else 128)
    options.steps = options.steps or (8 if options.short else 50)
    case = "short" if options.short else "full"
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:

        def setup(_: Any) -> dict[str, Callable[[], Timed]]:
            return {name: partial(epoch, name, options, folder) for name in VARIANTS}

        title = "What seeing adds to a training step, in CPU time"
        contest = Contest("callbacks", title, {OURS: setup}, [case], measure=measure)
        if options.measure is not None:
            answer(contest, options)
            return
        results: list[Result] = hold(contest, options)
    (result,) = results
    timed = options.steps - _WARM_UP
    rows = [
        [name, f"{1e3 * result.median(f'{name} cpu') / timed:,.1f}", f"{100 * result.median(f'{name} more'):+.1f} %"]
        for name in VARIANTS
    ]
    note = (
        f"ResNet-8 of a quarter of the width, {options.batch} pictures, views of 20 pixels; epochs of {options.steps} "
        f"steps, whose end is spread over them; {_ROUNDS_OF[case]} turns in each of {options.rounds} process(es), "
        f"{options.threads} thread(s), medians. {options.note}"
    )
    header = ["callbacks", "ms a step (cpu)", "more than nothing"]
    report.write(options.out, "callbacks", contest.title, note.strip(), header, rows, [result._asdict()])


if __name__ == "__main__":
    sys.exit(main())
