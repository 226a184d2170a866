"""Pictures for the loggers that take some."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor


def log_picture(trainer: Trainer, name: str, image: Image.Image) -> None:
    """Hand a picture to every logger that has ``log_image`` (Weights & Biases) or ``add_image`` (TensorBoard).

    Args:
        trainer: its loggers and its step.
        name: of the picture.
        image: in RGB.
    """
    for logger in trainer.loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(logger, "log_image"):
            logger.log_image(key=name, images=[image], step=trainer.global_step)
        elif hasattr(experiment, "add_image"):
            experiment.add_image(name, pil_to_tensor(image), trainer.global_step)
