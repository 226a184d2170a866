"""How many labels an encoder saves: accuracy against labels per class."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from simclr_lightning.callbacks.unreadable import list_unreadable, tell_unreadable
from simclr_lightning.command_line import typed_command
from simclr_lightning.data.labels import balanced_draw, default_counts
from simclr_lightning.errors import check_folder
from simclr_lightning.evaluation.candidates import Comparison
from simclr_lightning.evaluation.inner_fits import PAPER, FineTuneRecipe
from simclr_lightning.evaluation.labelled_data import dataset_name, judged_by
from simclr_lightning.evaluation.plots import plot_label_curve
from simclr_lightning.evaluation.protocols import PROTOCOLS, FineTuned, check_draws
from simclr_lightning.evaluation.quiet_trainer import within
from simclr_lightning.evaluation.records import (
    kept_if_interrupted,
    log_figures,
    output_folder,
    package_versions,
    remove_unfinished,
    write_json,
)
from simclr_lightning.evaluation.report import ALL, INTERVAL, Result


@dataclass(frozen=True)
class LabelCurve:
    """All curves, and what it takes to get them again.

    Attributes:
        points: curve by curve, by rising numbers of labels; those of all labels have None as ``per_class``.
        dataset: what the pictures are.
        split: where the accuracies are measured; labels are those of train.
        pictures: how many pictures that are.
        classes: number of classes.
        classifier: what learns from the labels, in a few words.
        settings: of the classifier.
        seed: of the first draw of labels; draw d has seed + d.
        checkpoints: path of the checkpoint of every encoder that is from one.
        command: gives the curves again; None where they were asked for in Python.
        notes: what a reader must know.

    Example:
        >>> points = [Result("raw pixels", "linear", 10, [60.0, 62.0], per_class=1)]
        >>> points += [Result("raw pixels", "linear", 90, [81.0])]
        >>> curve = LabelCurve(points, "digits", "test", 360, 10, "logistic regression", {}, 0, {}, None, [])
        >>> curve.rows()[1:]
        [['1', '10', '61.0 ± 1.4 [48.3, 73.7]'], ['all', '90', '81.0']]
    """

    points: list[Result]
    dataset: str
    split: str
    pictures: int
    classes: int
    classifier: str
    settings: dict[str, Any]
    seed: int
    checkpoints: dict[str, str]
    command: str | None
    notes: list[str]

    @property
    def curves(self) -> dict[str, list[Result]]:
        """Points by encoder."""
        curves: dict[str, list[Result]] = {}
        for point in self.points:
            curves.setdefault(point.encoder, []).append(point)
        return curves

    @property
    def draws(self) -> int:
        """Draws of labels at each point but the last."""
        return max(len(point.accuracies) for point in self.points)

    def metrics(self) -> dict[int | None, dict[str, float]]:
        """The figures for a logger: percent, by (mean) labels per class and ``label_curve/<encoder>``."""
        steps: dict[int | None, dict[str, float]] = {}
        for point in self.points:
            step = point.per_class or point.labels // self.classes
            steps.setdefault(step, {})[f"label_curve/{point.encoder}"] = point.accuracy
        return steps

    def describe(self) -> str:
        """What the figures are, in one sentence."""
        return (
            f"Accuracy (%) on {self.pictures} {self.split} pictures of {self.dataset} against labels per class: "
            f"{self.classifier}; mean ± standard deviation over {self.draws} class-balanced draws (seed {self.seed}) "
            "[95 % t-interval of the mean], all labels once."
        )

    def rows(self) -> list[list[str]]:
        """The table: names of the encoders, then a row a number of labels."""
        curves = self.curves
        header = ["labels per class", "labels", *curves]
        by_count = zip(*curves.values(), strict=True)
        return [header, *([_count(row[0]), str(row[0].labels), *map(_cell, row)] for row in by_count)]

    def table(self) -> Table:
        """For the terminal."""
        header, *rows = self.rows()
        table = Table(title=Text(self.describe()), caption=Text("\n".join(self.notes)), caption_justify="left")
        for name in header:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*(Text(cell.replace(" [", "\n[")) for cell in row))
        return table

    def markdown(self) -> str:
        """For a README."""
        header, *rows = self.rows()
        lines = ["| " + " | ".join(row) + " |" for row in [header, ["---:"] * len(header), *rows]]
        command = [] if self.command is None else ["", f"```bash\n{self.command}\n```"]
        return "\n".join([self.describe(), "", *lines, *command, *("\n" + note for note in self.notes)]) + "\n"

    def content(self) -> dict[str, Any]:
        """Every accuracy, with all that it takes to get it again, for a JSON file."""
        return {
            "unit": "percent",
            "dataset": self.dataset,
            "train_split": "train",
            "test_split": self.split,
            "test_pictures": self.pictures,
            "classes": self.classes,
            "classifier": self.classifier,
            "settings": self.settings,
            "seed": self.seed,
            "interval": INTERVAL,
            "checkpoints": self.checkpoints,
            "command": self.command,
            "versions": package_versions(),
            "notes": self.notes,
            "points": [
                {
                    "encoder": point.encoder,
                    "labels_per_class": point.per_class or ALL,
                    "labels": point.labels,
                    "accuracy": point.accuracy,
                    "standard_deviation": point.standard_deviation,
                    "interval": point.interval,
                    "accuracies": point.accuracies,
                }
                for point in self.points
            ],
        }


def label_curve(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    ckpt_path: str | Path | None = None,
    counts: list[int] | None = None,
    draws: int = 10,
    seed: int = 0,
    classifier: Literal["linear", "finetune"] = "linear",
    others: dict[str, str] | None = None,
    raw_pixels: bool = True,
    finetune: FineTuneRecipe = PAPER,
    output: str | Path | None = None,
) -> LabelCurve:
    """Measure accuracy against labels per class for a checkpoint, the random encoder, raw pixels and others.

    A classifier learns from class-balanced draws of the training labels, the same ones for every encoder; the
    accuracies are those of the test pictures, or of the validation pictures where there are none. Prints a table,
    writes label_curve.json, label_curve.md and label_curve.png, and logs the picture and ``label_curve/<encoder>`` with
    the labels per class as steps.

    Args:
        trainer: its device and precision are used, and its loggers; its callbacks and its settings of a fit are not.
        model: the model; afterwards it holds the checkpoint's weights.
        datamodule: pictures with labels, by ``clean_dataloader(split)`` for the splits train and test.
        ckpt_path: checkpoint of the pre-trained model. Without one, the model is judged as it is.
        counts: labels per class. None: 1, 2, 5, 10, 20, 50, ... as far as they go. All labels always follow.
        draws: draws of labels at every count, for the mean, its standard deviation and its 95 % t-interval.
        seed: of the first draw, and of whatever else is random.
        classifier: linear (logistic regression on frozen features), or finetune (the whole network).
        others: checkpoints of further encoders by name, such as {supervised: PATH}.
        raw_pixels: whether pixels are judged, too; classifiers on thousands of numbers a picture take long.
        finetune: how networks are fine-tuned, but for the number of draws.
        output: folder for the three files. By default the run that the checkpoint is from, if it lies in a folder named
            checkpoints, otherwise the folder of this run.

    Returns:
        The curves.

    Raises:
        MissingFileError: if there is no such checkpoint.
        InputError: if a checkpoint does not fit, there are fewer labels than asked for, or several devices.

    Example:
        >>> from contextlib import redirect_stdout
        >>> from io import StringIO
        >>> from tempfile import TemporaryDirectory
        >>> from simclr_lightning import SimCLR, SimCLRDataModule
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> model, data = SimCLR("resnet8", width=0.125, in_channels=1), SimCLRDataModule("digits", label_fraction=0.1)
        >>> with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # of the table
        ...     curve = label_curve(trainer, model, data, counts=[1, 5], draws=2, output=folder)
        >>> [point.labels for point in curve.curves["random encoder"]]
        [10, 50, 143]
    """
    check_draws(draws, seed)
    check_folder("output", output, "output FOLDER")
    comparison = Comparison.prepare(trainer, model, datamodule, ckpt_path, others, raw_pixels=raw_pixels)
    targets = comparison.targets
    counts = default_counts(targets) if counts is None else sorted(set(counts))
    for per_class in counts:
        balanced_draw(targets, per_class, seed)
    protocol = PROTOCOLS["linear"]
    if classifier == "finetune":
        what = "the whole network, fine-tuned with a new linear layer"
        protocol = FineTuned("finetune", what, recipe=replace(finetune, draws=draws))
    protocol.check(comparison, seed)
    if judged_by(comparison.datamodule) != "top1":
        comparison.notes.append("Accuracies are the means of the classes' accuracies (--data.metric mean_per_class).")

    console, folder = Console(), output_folder(trainer, ckpt_path, output)
    list_unreadable(datamodule, folder)
    points: list[Result] = []
    pictures = 0

    def finished() -> LabelCurve:
        return LabelCurve(
            points,
            dataset_name(comparison.datamodule),
            comparison.split,
            pictures,
            len(torch.unique(targets)),
            protocol.what,
            asdict(protocol.recipe) if isinstance(protocol, FineTuned) else protocol.details(),
            seed,
            comparison.checkpoints,
            typed_command("label_curve"),
            comparison.notes,
        )

    unfinished = folder / "label_curve_unfinished.json"
    settings = {"counts": counts, "draws": draws, "seed": seed, "classifier": classifier, "finetune": asdict(finetune)}
    asked = comparison.asked("label_curve") | settings
    with kept_if_interrupted(points, lambda: finished().content(), unfinished, asked):
        for candidate in filter(protocol.fits, comparison.candidates()):
            pictures = len(candidate.test.targets)
            for count in [*counts, None]:
                title = f"{candidate.name}, {ALL if count is None else count} labels per class"
                subsets = _subsets(targets, count, draws, seed)
                share = replace(protocol, fraction=len(subsets[0]) / len(targets))
                with console.status(title) as status:
                    point = share.judge(candidate, subsets, seed, within(status.update, title))
                points.append(point._replace(per_class=count))
    curve = finished()
    write_json(folder / "label_curve.json", curve.content())
    (folder / "label_curve.md").write_text(curve.markdown(), encoding="utf-8")
    plot_label_curve(
        curve.curves, folder / "label_curve.png", classes=curve.classes, split=curve.split, dataset=curve.dataset,
        what=f"{pictures:,} {curve.split} pictures, {curve.classes} classes; {protocol.what}",
    )  # fmt: skip
    remove_unfinished(unfinished, asked)
    log_figures(trainer, folder / "label_curve", curve.metrics(), {"label_curve": folder / "label_curve.png"})
    console.print(curve.table())
    tell_unreadable(folder)
    print(f"Curves: {folder / 'label_curve.json'}, label_curve.md and label_curve.png beside it")
    return curve


def _subsets(targets: Tensor, count: int | None, draws: int, seed: int) -> list[Tensor]:
    """Draw d of every count is ``balanced_draw(targets, count, seed + d)``; all labels are learned from once."""
    if count is None:
        return [torch.arange(len(targets))]
    return [balanced_draw(targets, count, seed + draw) for draw in range(draws)]


def _count(point: Result) -> str:
    return ALL if point.per_class is None else str(point.per_class)


def _cell(point: Result) -> str:
    return f"{point} {point.interval_text}".strip()
