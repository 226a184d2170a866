"""Pictures of a run: kept as files, and handed to the loggers that take some."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from simclr_lightning.callbacks.run_folder import folder_of_first_process

PICTURES = "pictures"
"""Folder of them, in that of a run."""


def moment(trainer: Trainer) -> str:
    """When that is, for the title of a picture: numbers as Lightning counts, and as files and loggers have them.

    Example:
        >>> moment(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
        'Epoch 0, step 0'
    """
    return f"Epoch {trainer.current_epoch}, step {trainer.global_step:,}"


def log_picture(
    trainer: Trainer, name: str, image: Image.Image, *, loggers: Iterable[Logger] | None = None, keep: bool = True
) -> Path | None:
    """Keep a picture in the run's folder, and hand it to every logger that takes pictures.

    The file is ``<run folder>/pictures/<name, with - for />/epoch=<epoch>-step=<step>.png``. The loggers are those with
    ``log_image`` (Weights & Biases), and those whose experiment has ``add_image`` (TensorBoard) or, with the
    ``run_id`` of the logger, ``log_image`` (MLflow). It is the first process that does so; others may call it or not.

    Args:
        trainer: its epoch and step, its run.
        name: of the picture; parts are separated by ``/``, by which loggers group pictures.
        image: in RGB.
        loggers: those of the trainer by default.
        keep: whether to write the file, too; no file is written in a ``fast_dev_run``.

    Returns:
        The file, if it was written.

    Example:
        >>> from types import SimpleNamespace
        >>> logger = SimpleNamespace(log_image=lambda key, images, step: print(key, images[0].size, step))
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> log_picture(trainer, "views", Image.new("RGB", (8, 8)), loggers=[logger], keep=False)
        views (8, 8) 0
    """
    if not trainer.is_global_zero:
        return None
    for logger in trainer.loggers if loggers is None else loggers:
        _hand_over(logger, name, image, trainer.global_step)
    if not keep or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    taken = f"epoch={trainer.current_epoch}-step={trainer.global_step}.png"
    path = folder_of_first_process(trainer) / PICTURES / name.replace("/", "-") / taken
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image.save(part, format="png")
    return part.replace(path)  # whoever looks into the folder finds whole pictures


def _hand_over(logger: Any, name: str, image: Image.Image, step: int) -> None:
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[image], step=step)
        return
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "add_image"):
        experiment.add_image(name, pil_to_tensor(image), step)
    elif hasattr(logger, "run_id") and hasattr(experiment, "log_image"):
        experiment.log_image(logger.run_id, image, key=name, step=step)
