"""Whose SimCLR gives the better encoder in the same computing time? Ours and three peers, on CIFAR-10.

    make bench-setup
    .venv-bench/bin/python benchmarks/time_to_accuracy.py --root CIFAR10

CIFAR10 is a tree of pictures: CIFAR10/train/<class>/*.jpg and CIFAR10/test/<class>/*.jpg.

All train the same encoder from the same weights on all training pictures, decoded beforehand, each in its own process
with one thread; the recipes are in recipes.py. The budget is CPU time of the process, views and loading included, so
that it does not matter how many run at once. The learning rate is set by the share of the budget that is used, with
each recipe's own warm-up and cosine, so that everybody's schedule ends with the budget.

Each peer competes twice: with the recipe that it documents, and with ours through its own parts. Lines below the table
tell them apart: of our lead, what our recipe gains in the peer's hands is the recipe's share, and the rest is that of
speed (and of the parts' details). Everybody trains once for each of --seeds.

At every quarter of the budget, off the clock, the frozen encoder is judged on clean pictures by kNN (k = 200,
temperature 0.1), at the end also by logistic regression on all training labels. The test pictures choose nothing.
With --short it is judged once, at the end, on a fifth of the training labels: that takes longer than such a training.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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
from recipes import CONTESTANTS, OUR_RECIPE, PEERS, contestant, decoded, pictures, untrained_encoder
from runner import OURS, RESULTS
from torch import Tensor, nn

from simclr_lightning import SimCLRDataModule
from simclr_lightning.drawing.palette import FAINT, Style, style
from simclr_lightning.evaluation import Features, knn_accuracy, linear_accuracy
from simclr_lightning.optim.schedule import warmup_cosine
from simclr_lightning.views import clean

RANDOM = "random"
NAMES = {"knn": "kNN", "linear": "linear"}
QUARTERS = (0.25, 0.5, 0.75, 1.0)
SHORT_SHARE = 5  # one in so many labelled training pictures


class Judge:
    """Judges a contestant's encoder and keeps its file, with what is ``known`` of it, up to date."""

    def __init__(
        self,
        path: Path,
        encoder: nn.Module,
        normalise: Callable[[Tensor], Tensor],
        data: SimCLRDataModule,
        one_in: int,
        **known: Any,
    ) -> None:
        self.path, self.encoder, self.normalise, self.data, self.one_in = path, encoder, normalise, data, one_in
        self.record: dict[str, Any] = {**known, "milestones": []}

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


def file_of(name: str, seed: int, arguments: argparse.Namespace) -> Path:
    """Where the record of a contestant lies."""
    path: Path = arguments.out / f"{name}, seed {seed}.json"
    return path


def contest(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train and judge one contestant, in this process."""
    data = pictures(arguments.root)
    encoder = untrained_encoder(seed)
    path = file_of(name, seed, arguments)
    one_in, shares = (SHORT_SHARE, QUARTERS[-1:]) if arguments.short else (1, QUARTERS)
    known: dict[str, Any] = {"name": name, "seed": seed}
    if name == RANDOM:
        judge = Judge(
            path, encoder, lambda images: clean(images, data.recipe), data, one_in, **known, recipe="not trained"
        )
        judge(linear=True, share=1.0, cpu_minutes=0.0, pictures=0)
        return
    seed_everything(seed)
    chosen = contestant(name, encoder, data)
    module = chosen.module
    judge = Judge(path, module.encoder, chosen.normalise, data, one_in, **known, recipe=chosen.recipe)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        limit_val_batches=0,
        callbacks=[Budget(60 * arguments.minutes, chosen.warmup, judge, shares)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, chosen.data)
    torch.save(module.encoder.state_dict(), path.with_suffix(".pt"))


def start(name: str, seed: int, arguments: argparse.Namespace) -> bool:
    """Run one contestant in a process of its own; says, and returns, whether it finished."""
    command = [sys.executable, __file__, "--contestant", name, "--root", arguments.root, "--out", str(arguments.out)]
    command += ["--minutes", str(arguments.minutes), "--seeds", str(seed)]
    command += ["--short"] if arguments.short else []
    file = file_of(name, seed, arguments)
    file.unlink(missing_ok=True)
    log = file.with_suffix(".log")
    with log.open("w") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        ).returncode
    print(f"{file.stem}: done" if code == 0 else f"{file.stem}: FAILED with code {code}, see {log}", flush=True)
    return code == 0


def shares_of_the_lead(records: dict[str, list[dict[str, Any]]], figure: str) -> list[str]:
    """Of our lead before each peer, in points: what our recipe gains in its hands, and the rest, which is speed."""
    means = {
        name: statistics.fmean(100 * one["milestones"][-1][figure] for one in found) for name, found in records.items()
    }
    lines = []
    for peer in PEERS:
        if not {OURS, peer, f"{peer}{OUR_RECIPE}"} <= means.keys():
            continue
        theirs, between, ours = means[peer], means[f"{peer}{OUR_RECIPE}"], means[OURS]
        lead = ours - theirs
        shares = f" ({(between - theirs) / lead:.0%} and {(ours - between) / lead:.0%})" if lead > 0 else ""
        lines.append(
            f"{NAMES[figure]}, {peer}: its recipe {theirs:.1f}, our recipe through its parts {between:.1f}, ours "
            f"{ours:.1f}. Of a lead of {lead:.1f} points the recipe makes {between - theirs:.1f}, speed "
            f"{ours - between:.1f}{shares}."
        )
    return lines


def summarise(arguments: argparse.Namespace) -> None:
    """Write time_to_accuracy.json, .md and .png: to the committed results unless it was a short run."""
    folder = arguments.out if arguments.short else RESULTS
    records: dict[str, list[dict[str, Any]]] = {}
    for name in [*CONTESTANTS, RANDOM]:
        files = [file_of(name, seed, arguments) for seed in arguments.seeds]
        found = [json.loads(file.read_text()) for file in files if file.exists()]
        records |= {name: found} if found else {}
    judged = f"one in {SHORT_SHARE} training labels" if arguments.short else "all training labels"
    several = "mean, and in brackets each seed's" if len(arguments.seeds) > 1 else "one seed"
    report.write(
        folder,
        "time_to_accuracy",
        "Time to accuracy",
        f"CIFAR-10: the same encoder after {arguments.minutes:g} CPU-minutes of pre-training with one thread, seeds "
        f"{', '.join(map(str, arguments.seeds))}; accuracy on the test pictures in percent, from {judged}: {several}.",
        ["contestant", "recipe", "pictures", "epochs", "pictures per CPU-second", "kNN", "linear"],
        [row(found) for found in records.values()],
        [record for found in records.values() for record in found],
        [line for figure in NAMES for line in shares_of_the_lead(records, figure)],
    )
    draw(folder / "time_to_accuracy.png", records)


def draw(path: Path, records: dict[str, list[dict[str, Any]]]) -> None:
    """Curves of all contestants, as means over their seeds."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, found in records.items():
        points = [[(one["cpu_minutes"], 100 * one["knn"]) for one in record["milestones"]] for record in found]
        minutes, accuracies = ([statistics.fmean(v) for v in zip(*values, strict=True)] for values in by_axis(points))
        if name == RANDOM:
            axes.axhline(accuracies[0], color=FAINT, linestyle=":", label=RANDOM)
        else:
            line = "--" if name.endswith(OUR_RECIPE) else "-"
            axes.plot(minutes, accuracies, linestyle=line, label=name, **style_of(name)._asdict())
    axes.set(xlabel="CPU minutes of pre-training", ylabel="kNN accuracy, %", title="CIFAR-10, the same small encoder")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center")  # beside the curves, not on them
    figure.savefig(path, dpi=120)


def by_axis(points: list[list[tuple[float, float]]]) -> tuple[list[list[float]], list[list[float]]]:
    """Minutes of each seed, and accuracies of each seed."""
    return [[x for x, _ in curve] for curve in points], [[y for _, y in curve] for curve in points]


def style_of(name: str) -> Style:
    """A peer has one colour and one marker, whatever its recipe."""
    return style([OURS, *PEERS].index(name.removesuffix(OUR_RECIPE)))


def row(found: list[dict[str, Any]]) -> list[str]:
    """The last milestone of all seeds, as a line of the table."""
    last = [record["milestones"][-1] for record in found]
    seen = statistics.fmean(one["pictures"] for one in last)
    minutes = statistics.fmean(one["cpu_minutes"] for one in last)
    speed = f"{seen / 60 / minutes:.0f}" if seen else ""
    counts = [f"{seen:,.0f}", f"{seen / 50_000:.1f}", speed]
    return [found[0]["name"], found[0]["recipe"], *counts, *(over_seeds(last, figure) for figure in NAMES)]


def over_seeds(last: list[dict[str, Any]], figure: str) -> str:
    """Mean over the seeds, and each of them where there are several."""
    values = [100 * one[figure] for one in last if figure in one]
    each = f" ({', '.join(f'{value:.1f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{each}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument(
        "--short", action="store_true", help="as make bench runs it: half a minute each, reports in --out"
    )
    parser.add_argument("--minutes", type=float, help="CPU-minutes of training for each (40; with --short 0.5)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="of the encoder's weights, the views and the order (0 1)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/time_to_accuracy"), help="folder for logs and encoders")
    parser.add_argument("--together", type=int, default=os.cpu_count(), help="processes that run at once")
    parser.add_argument("--only", nargs="+", choices=[*CONTESTANTS, RANDOM], metavar="NAME", help="who takes part")
    parser.add_argument("--summarise", action="store_true", help="only write the results of what is in --out again")
    parser.add_argument("--contestant", choices=[*CONTESTANTS, RANDOM], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.minutes = arguments.minutes or (0.5 if arguments.short else 40)
    if arguments.contestant:
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
        contest(arguments.contestant, arguments.seeds[0], arguments)
        return
    if not arguments.summarise:
        arguments.out.mkdir(parents=True, exist_ok=True)
        names = [name for name in [RANDOM, *CONTESTANTS] if arguments.only is None or name in arguments.only]
        with ThreadPoolExecutor(arguments.together) as processes:
            runs = [(name, seed) for seed in arguments.seeds for name in names]
            finished = list(processes.map(lambda run: start(*run, arguments), runs))
        if not all(finished):
            raise SystemExit(1)
    summarise(arguments)


if __name__ == "__main__":
    main()
