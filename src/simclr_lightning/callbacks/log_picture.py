"""Pictures for the loggers that take some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor


def log_picture(trainer: Trainer, name: str, image: Image.Image, *, loggers: Iterable[Logger] | None = None) -> None:
    """Hand a picture to every logger that has ``log_image`` (Weights & Biases) or ``add_image`` (TensorBoard).

    Args:
        trainer: its step.
        name: of the picture.
        image: in RGB.
        loggers: those of the trainer by default.

    Example:
        >>> from types import SimpleNamespace
        >>> logger = SimpleNamespace(log_image=lambda key, images, step: print(key, images[0].size, step))
        >>> log_picture(Trainer(logger=False), "views", Image.new("RGB", (8, 8)), loggers=[logger])
        views (8, 8) 0
    """
    for logger in trainer.loggers if loggers is None else loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key=name, images=[image], step=trainer.global_step)
            continue
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "add_image"):
            experiment.add_image(name, pil_to_tensor(image), trainer.global_step)
