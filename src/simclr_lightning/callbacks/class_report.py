"""``ClassReport``: which classes a classifier tells apart, and which it takes for which."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from simclr_lightning.callbacks.log_picture import log_picture
from simclr_lightning.callbacks.log_table import log_table
from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.errors import InputError

_MOST_NAMES = 50  # classes whose names fit beside the picture
_MOST_NUMBERS = 20  # classes whose cells have room for a number


class ClassReport(Callback):
    """Writes the accuracy of every class, and the confusion matrix as a picture, into the run's folder.

    After ``test`` and ``validate``, and at the end of ``fit`` from its last validation: ``<split>_classes.csv`` and
    ``<split>_confusion.png``, which goes to every logger that takes pictures, too, and to W&B also as a table. The
    module has the counts in an attribute ``confusion_matrix`` (classes, classes), rows being the true classes, or None
    before it has judged.

    Example:
        >>> trainer = Trainer(callbacks=[ClassReport()], accelerator="cpu", logger=False)
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look at the module before anything is computed.

        Raises:
            InputError: if it has no such attribute.
        """
        if stage != "predict" and not hasattr(pl_module, "confusion_matrix"):
            raise InputError(
                f"ClassReport needs the attribute `confusion_matrix` that classifiers have; {type(pl_module).__name__} "
                "has none: remove ClassReport from trainer.callbacks."
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report on the last validation, if there was one."""
        self._report(trainer, pl_module, "val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, unless this belongs to a fit."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._report(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report."""
        self._report(trainer, pl_module, "test")

    def _report(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        confusion = pl_module.confusion_matrix
        folder = run_folder(trainer)  # on every process
        if not isinstance(confusion, Tensor) or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        confusion = confusion.cpu()
        found = getattr(getattr(trainer, "datamodule", None), "class_names", None)
        names = found or [str(number) for number in range(len(confusion))]
        table, picture = folder / f"{split}_classes.csv", folder / f"{split}_confusion.png"
        folder.mkdir(parents=True, exist_ok=True)
        write_classes(confusion, names, table)
        when = f", step {trainer.global_step:,}" if trainer.state.fn == TrainerFn.FITTING else ""
        draw_confusion(confusion, names, picture, title=f"{type(pl_module).__name__}, {split} pictures{when}")
        with Image.open(picture) as image:
            log_picture(trainer, f"{split}_confusion", image.convert("RGB"), keep=False)
        log_table(trainer, f"{split}_confusion_table", ["class", "taken for", "pictures"], _cells(confusion, names))
        rank_zero_info(f"Accuracy of every class: {table}\nConfusion matrix: {picture}")


def _cells(confusion: Tensor, names: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """True class, class that was predicted, and how many pictures, where there are any."""
    for row, column in confusion.nonzero().tolist():
        yield names[row], names[column], int(confusion[row, column])


def write_classes(confusion: Tensor, class_names: Sequence[str], path: Path) -> None:
    """Write a table: pictures, share that was classified rightly, and the class that most others were taken for.

    Args:
        confusion: (classes, classes) integer counts, rows being the true classes.
        class_names: names of the classes.
        path: of the CSV file. The accuracy, in [0, 1], is empty for classes without pictures.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_classes(torch.tensor([[3, 1], [0, 2]]), ["cat", "dog"], Path(folder, "classes.csv"))
        ...     print(Path(folder, "classes.csv").read_text().strip())
        class,pictures,right,accuracy,most_taken_for
        cat,4,3,0.75,dog
        dog,2,2,1.0,
    """
    wrong = confusion - torch.diag(confusion.diag())
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["class", "pictures", "right", "accuracy", "most_taken_for"])
        for name, row, mistakes, right in zip(class_names, confusion, wrong, confusion.diag().tolist(), strict=True):
            pictures = int(row.sum())
            taken_for = class_names[int(mistakes.argmax())] if mistakes.any() else ""
            table.writerow([name, pictures, right, right / pictures if pictures else "", taken_for])


def draw_confusion(confusion: Tensor, class_names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw a confusion matrix in percent of the true class.

    Names are shown for at most 50 classes, numbers for at most 20.

    Args:
        confusion: (classes, classes) integer counts, rows being the true classes.
        class_names: names of the classes.
        path: of the PNG.
        title: above the matrix; the accuracy is added.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "confusion.png")
        ...     draw_confusion(torch.tensor([[3, 1], [0, 2]]), ["cat", "dog"], path, title="Test pictures")
        ...     path.read_bytes()[1:4]
        b'PNG'
    """
    classes = len(confusion)
    percent = 100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(12.0, max(4.0, 0.55 * classes))
    figure = Figure(figsize=(side + 2, side + 1), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(percent.numpy(), cmap="Blues", vmin=0, vmax=100)
    if classes <= _MOST_NAMES:
        axes.set_xticks(range(classes), class_names, rotation=90)
        axes.set_yticks(range(classes), class_names)
    if classes <= _MOST_NUMBERS:
        for row, values in enumerate(percent.tolist()):
            for column, value in enumerate(values):
                if round(value):
                    colour = "white" if value > 50 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    accuracy = 100 * float(confusion.diag().sum() / confusion.sum().clamp(min=1))
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{title}: {accuracy:.1f} % right")
    figure.colorbar(shown, ax=axes, label="% of the true class", shrink=0.8)
    figure.savefig(path, dpi=120)
