"""Whose SimCLR gives the better encoder in the same computing time? Ours and three peers, on CIFAR-10.

    make bench-setup
    .venv-bench/bin/python benchmarks/time_to_accuracy.py --root CIFAR10

CIFAR10 is a tree of pictures: CIFAR10/train/<class>/*.jpg and CIFAR10/test/<class>/*.jpg.

All train the same encoder from the same weights on all training pictures, decoded beforehand, each in its own process
with one thread; the recipes are in recipes.py. The budget is CPU time of the process, views and loading included, so
that it does not matter how many run at once. The learning rate is set by the share of the budget that is used, with
each recipe's own warm-up and cosine, so that everybody's schedule ends with the budget.

At every quarter of the budget, off the clock, the frozen encoder is judged on clean pictures by kNN (k = 200,
temperature 0.1), at the end also by logistic regression on all training labels. The test pictures choose nothing.
With --short it is judged once, at the end, on a fifth of the training labels: that takes longer than such a training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import report
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from matplotlib.figure import Figure
from recipes import CONTESTANTS, decoded, pictures, untrained_encoder
from runner import RESULTS
from torch import Tensor, nn

from simclr_lightning import SimCLRDataModule
from simclr_lightning.evaluation import Features, knn_accuracy, linear_accuracy
from simclr_lightning.optim.schedule import warmup_cosine
from simclr_lightning.views import clean

RANDOM = "random"
QUARTERS = (0.25, 0.5, 0.75, 1.0)
SHORT_SHARE = 5  # one in so many labelled training pictures


class Judge:
    """Judges a contestant's encoder and keeps ``<out>/NAME.json`` up to date."""

    def __init__(
        self,
        path: Path,
        encoder: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        data: SimCLRDataModule,
        recipe: str,
        one_in: int,
    ) -> None:
        self.path, self.encoder, self.normalise, self.data, self.one_in = path, encoder, normalise, data, one_in
        self.record: dict[str, Any] = {"name": path.stem, "recipe": recipe, "milestones": []}

    def __call__(self, *, linear: bool, **milestone: float) -> None:
        images, targets = decoded(self.data.splits.train)
        train = self.features((images[:: self.one_in], targets[:: self.one_in]))
        test = self.features(decoded(self.data.splits.test))
        milestone["knn"] = knn_accuracy(train, test)
        if linear:
            milestone["linear"] = linear_accuracy(train, test)
        self.record["milestones"].append(milestone)
        print(milestone, flush=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.record, indent=1))
        os.replace(part, self.path)  # as a whole, so that a reader never sees half of it

    def features(self, pictures: tuple[Tensor, Tensor]) -> Features:
        """Of clean pictures, by the frozen encoder."""
        images, targets = pictures
        training = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            blocks = [
                self.encoder(self.normalise(block).contiguous(memory_format=torch.channels_last))
                for block in torch.split(images, 1000)
            ]
        self.encoder.train(training)
        return Features(torch.cat(blocks), targets)


class Budget(Callback):
    """Ends the training when its CPU time is used up, sets the learning rate on the way, and stops for the judge.

    Args:
        seconds: of CPU time for the training.
        warmup: share of the budget in which the learning rate rises linearly; then it falls along a cosine to 0.
        judge: is called at some shares of the budget, while the clock stands still.
        shares: these shares; the last one is 1.
    """

    def __init__(self, seconds: float, warmup: float, judge: Judge, shares: Sequence[float]) -> None:
        self.seconds, self.warmup, self.judge = seconds, warmup, judge
        self.used = 0.0
        self.steps = 0
        self.losses: list[float] = []
        self.shares = list(shares)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.peaks = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.mark = time.process_time()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.tick()
        unit = 1e-6  # of the budget: the schedule counts in whole steps
        factor = warmup_cosine(int(self.used / self.seconds / unit), int(self.warmup / unit), int(1 / unit))
        for group, peak in zip(trainer.optimizers[0].param_groups, self.peaks, strict=True):
            group["lr"] = factor * peak

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.steps += 1
        self.tick()
        if self.steps % 50 == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            loss = sum(self.losses[-50:]) / len(self.losses[-50:])
            print(f"step {self.steps}, {self.used:.0f} s, learning rate {rate:.4f}, loss {loss:.4f}", flush=True)
        if self.used >= self.shares[0] * self.seconds:
            share = self.shares.pop(0)
            self.judge(
                linear=share == 1,
                share=share,
                cpu_minutes=self.used / 60,
                pictures=256 * self.steps,
                loss=sum(self.losses) / len(self.losses),
            )
            self.losses = []
            trainer.should_stop = not self.shares
            self.mark = time.process_time()

    def tick(self) -> None:
        """Add the time since the last look at the clock."""
        now = time.process_time()
        self.used += now - self.mark
        self.mark = now


def contest(name: str, arguments: argparse.Namespace) -> None:
    """Train and judge one contestant, in this process."""
    data = pictures(arguments.root)
    encoder = untrained_encoder(arguments.seed)
    path = arguments.out / f"{name}.json"
    one_in, shares = (SHORT_SHARE, QUARTERS[-1:]) if arguments.short else (1, QUARTERS)
    if name == RANDOM:
        judge = Judge(path, encoder, lambda images: clean(images, data.recipe), data, "not trained", one_in)
        judge(linear=True, share=1.0, cpu_minutes=0.0, pictures=0)
        return
    seed_everything(arguments.seed)
    contestant = CONTESTANTS[name](encoder, data)
    module = contestant.module
    judge = Judge(path, module.encoder, contestant.normalise, data, contestant.recipe, one_in)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[Budget(60 * arguments.minutes, contestant.warmup, judge, shares)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, contestant.data)
    torch.save(module.encoder.state_dict(), path.with_suffix(".pt"))


def start(name: str, arguments: argparse.Namespace) -> bool:
    """Run one contestant in a process of its own; says, and returns, whether it finished."""
    command = [sys.executable, __file__, "--contestant", name, "--root", arguments.root, "--out", str(arguments.out)]
    command += ["--minutes", str(arguments.minutes), "--seed", str(arguments.seed)]
    command += ["--short"] if arguments.short else []
    (arguments.out / f"{name}.json").unlink(missing_ok=True)
    log = arguments.out / f"{name}.log"
    with log.open("w") as file:
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        ).returncode
    print(f"{name}: done" if code == 0 else f"{name}: FAILED with code {code}, see {log}", flush=True)
    return code == 0


def summarise(arguments: argparse.Namespace) -> None:
    """Write time_to_accuracy.json, .md and .png: to the committed results unless it was a short run."""
    folder = arguments.out if arguments.short else RESULTS
    files = [arguments.out / f"{name}.json" for name in [*CONTESTANTS, RANDOM]]
    records = [json.loads(file.read_text()) for file in files if file.exists()]
    judged = f"one in {SHORT_SHARE} training labels" if arguments.short else "all training labels"
    report.write(
        folder,
        "time_to_accuracy",
        "Time to accuracy",
        f"CIFAR-10: the same encoder after {arguments.minutes:g} CPU-minutes of pre-training with one thread, seed "
        f"{arguments.seed}; accuracy on the test pictures in percent, from {judged}.",
        ["contestant", "recipe", "pictures", "epochs", "pictures per CPU-second", "kNN", "linear"],
        [row(record) for record in records],
        records,
    )
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for record in records:
        minutes, accuracies = zip(
            *((one["cpu_minutes"], 100 * one["knn"]) for one in record["milestones"]), strict=True
        )
        if record["name"] == RANDOM:
            axes.axhline(accuracies[0], color="grey", linestyle=":", label=RANDOM)
        else:
            axes.plot(minutes, accuracies, marker="o", label=record["name"])
    axes.set(xlabel="CPU minutes of pre-training", ylabel="kNN accuracy, %", title="CIFAR-10, the same small encoder")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "time_to_accuracy.png", dpi=120)


def row(record: dict[str, Any]) -> list[str]:
    """The last milestone, as a line of the table."""
    last = record["milestones"][-1]
    speed = f"{last['pictures'] / 60 / last['cpu_minutes']:.0f}" if last["pictures"] else ""
    linear = f"{100 * last['linear']:.1f}" if "linear" in last else ""
    counts = [f"{last['pictures']:,}", f"{last['pictures'] / 50_000:.1f}", speed]
    return [record["name"], record["recipe"], *counts, f"{100 * last['knn']:.1f}", linear]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument(
        "--short", action="store_true", help="as make bench runs it: half a minute each, reports in --out"
    )
    parser.add_argument("--minutes", type=float, help="CPU-minutes of training for each (40; with --short 0.5)")
    parser.add_argument("--seed", type=int, default=0, help="of the encoder's weights, the views and the order")
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_accuracy"), help="folder for logs and encoders")
    parser.add_argument("--together", type=int, default=1 + len(CONTESTANTS), help="processes that run at once")
    parser.add_argument("--summarise", action="store_true", help="only write the results of what is in --out again")
    parser.add_argument("--contestant", choices=[*CONTESTANTS, RANDOM], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.minutes = arguments.minutes or (0.5 if arguments.short else 40)
    if arguments.contestant:
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        contest(arguments.contestant, arguments)
        return
    if not arguments.summarise:
        arguments.out.mkdir(parents=True, exist_ok=True)
        names = [RANDOM, *CONTESTANTS]
        with ThreadPoolExecutor(arguments.together) as processes:
            finished = list(processes.map(lambda name: start(name, arguments), names))
        if not all(finished):
            raise SystemExit(1)
    summarise(arguments)


if __name__ == "__main__":
    main()
