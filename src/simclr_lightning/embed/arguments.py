"""What is asked of ``embed``, checked before a checkpoint is read."""

from __future__ import annotations

from torch import nn

from simclr_lightning.data.worker_processes import MOST
from simclr_lightning.embed.concat import ConcatPictures
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.trainer_checks import check_devices
from simclr_lightning.views import ViewRecipe


def check_arguments(batch_size: int, num_workers: int | None, devices: int | str, accelerator: str) -> None:
    """Raise InputError if a number is out of range, or there is no such accelerator.

    Example:
        >>> check_arguments(0, None, "auto", "cpu")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: batch_size is 0: choose a number of at least 1 and at most 1,000,000 \
(--batch_size 256).
    """
    check_number("batch_size", batch_size, "batch_size 256", least=1, most=1_000_000)
    check_number("num_workers", num_workers, "num_workers 4", least=0, most=MOST)
    check_devices(devices, accelerator, "devices")


def check_described(encoder: str | None, width: float, stem: str, in_channels: int) -> None:
    """Raise InputError if an encoder is described that is not named.

    Example:
        >>> check_described(None, 2.0, "auto", 3)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: width 2.0, stem auto and in_channels 3 describe an encoder: name it \
(--encoder resnet50).
    """
    if encoder is None and (width, stem, in_channels) != (1.0, "auto", 3):
        described = f"width {width}, stem {stem} and in_channels {in_channels}"
        raise InputError(f"{described} describe an encoder: name it", "encoder resnet50")


def check_channels(pictures: ConcatPictures, network: nn.Module, recipe: ViewRecipe) -> None:
    """Raise InputError unless the pictures have the channels that the encoder and the recipe are for.

    Example:
        >>> from simclr_lightning.data import find_source
        >>> pictures = ConcatPictures(find_source("digits").load("", False), "test", "")
        >>> check_channels(pictures, nn.Identity(), ViewRecipe("digits"))
    """
    expected = getattr(network, "in_channels", None)
    for split, part in pictures.splits.items():
        if expected is not None and part.in_channels != expected:
            raise InputError(
                f"The {split} pictures have {part.in_channels} channel(s), and the encoder was built for "
                f"{expected}: embed pictures like those that it was trained on."
            )
        if recipe.mean is not None and len(recipe.mean) != part.in_channels:
            raise InputError(
                f"mean and std have {len(recipe.mean)} numbers, the {split} pictures {part.in_channels} channels: "
                "give one number per channel (--mean, --std)."
            )
