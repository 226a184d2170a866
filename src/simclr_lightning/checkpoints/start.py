"""Weights that a training starts from: those of the encoder, all of them or none."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from simclr_lightning.checkpoints.file import read_checkpoint
from simclr_lightning.checkpoints.hub_folder import is_hub_folder
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.models.foreign import load_foreign_weights
from simclr_lightning.models.published import published_weights

LIBRARIES = ("torchvision", "timm")
"""Words that stand for the weights that these publish; they are downloaded, since somebody asked for them."""


def start_from(encoder: nn.Module, origin: str, name: str, image_size: int | None = None) -> None:
    """Load an encoder's weights, from whatever was pre-trained, for a training of its own.

    Heads and classifiers are left out. A first convolution of another number of channels is made to fit, see
    :func:`~simclr_lightning.models.published.for_channels`; everything else fits, or nothing is loaded.

    Args:
        encoder: its weights and statistics change, not their memory format.
        origin: path of a checkpoint of this package or of another one, also as ``.safetensors``, or of a folder of
            ``simclr export --format hub``, which are read without running code in them; or ``torchvision`` or ``timm``.
        name: of the encoder, as ``build_encoder`` takes it.
        image_size: side of the pictures in pixels, as ``build_encoder`` takes it.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it cannot be read or downloaded, or a tensor is missing, unknown or of another shape.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from simclr_lightning.models import build_encoder
        >>> source, encoder = build_encoder("resnet8"), build_encoder("resnet8", in_channels=1)
        >>> with TemporaryDirectory() as folder:
        ...     torch.save(source.state_dict(), f"{folder}/weights.pth")
        ...     start_from(encoder, f"{folder}/weights.pth", "resnet8")
        >>> torch.equal(encoder.conv1.weight, source.conv1.weight.sum(1, keepdim=True))
        True
    """
    if origin in LIBRARIES:
        load_foreign_weights(encoder, published_weights(origin, name, image_size), origin, to_train=True)
        return
    if not Path(origin).is_file() and not is_hub_folder(origin):
        raise MissingFileError(
            f"There is no file {origin!r} to start from: name a checkpoint, a state dict, or {' or '.join(LIBRARIES)}. "
            "A run that goes on (--ckpt_path) has its weights from there: leave it out",
            "model.init_from null",
        )
    checkpoint = read_checkpoint(origin)
    weights = checkpoint.state_dict
    if checkpoint.class_path is not None or "projection_layers" in checkpoint.hyperparameters:  # one of our own
        weights = {key: tensor for key, tensor in weights.items() if key.startswith("encoder.")}
        if not weights:
            raise InputError(f"{origin} is a checkpoint of {checkpoint.class_path} without a tensor encoder.*.")
    load_foreign_weights(encoder, weights, origin, to_train=True)
