"""What a classifier starts from: a pre-trained model, or the description of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simclr_lightning.checkpoints import Architecture, build_described, load_model, plain_scale, read_checkpoint
from simclr_lightning.checkpoints.hub_folder import is_hub_folder
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.simclr import SimCLR


def starting_model(
    checkpoint: str | Path | None, architecture: Architecture | None, model_class: type[SimCLR]
) -> SimCLR:
    """Load the model of a checkpoint, or build the one that is described, with random weights.

    Args:
        checkpoint: of pre-training. It is not read where there is an architecture.
        architecture: what a classifier's own checkpoint keeps, from which the weights then come.
        model_class: class of the model; nothing is imported because a file names it.

    Raises:
        MissingFileError: if there is no such checkpoint.
        InputError: if neither is given, or the checkpoint or the architecture is not of this class, or not complete.

    Example:
        >>> from simclr_lightning.checkpoints import architecture_of
        >>> starting_model(None, architecture_of(SimCLR("resnet8", width=0.125)), SimCLR).feature_dim
        32
    """
    if architecture is not None:
        return build_described(model_class, architecture)
    if checkpoint is None:
        raise InputError(
            "Which encoder? Name the checkpoint of a pre-trained model: --model.checkpoint "
            "runs/simclr/version_0/checkpoints/last.ckpt. To train one from scratch: --model Supervised."
        )
    if not Path(checkpoint).is_file() and not is_hub_folder(checkpoint):
        raise MissingFileError(
            f"There is no checkpoint {str(checkpoint)!r}: name that of a pre-trained model, such as --model.checkpoint "
            "runs/simclr/version_0/checkpoints/last.ckpt."
        )
    read = read_checkpoint(checkpoint)
    model = load_model(model_class, read)
    encoder: Any = model.encoder
    encoder.scale_of_pictures = plain_scale(read.data)  # which a Classifier hands on to its data module
    return model
