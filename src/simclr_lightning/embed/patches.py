"""``embed --patches``: maps of features instead of vectors, and where they lie in the original pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.features import evaluation_mode
from simclr_lightning.models import feature_map
from simclr_lightning.views import ViewRecipe, centre_share
from simclr_lightning.views.workers import centred

_PART_BYTES = 2**26


class PatchNetwork(nn.Module):
    """From pictures (N, C, S, S) to the encoder's maps (N, F, h, w) of them.

    Args:
        encoder: the encoder.
        size: side S of the pictures.
        in_channels: channels C of the pictures, where the encoder does not tell them.
        stage: part of the encoder whose output is wanted; None: the last one.

    Attributes:
        feature_shape: (F, h, w).

    Raises:
        InputError: if there is no such stage, or what it gives is no map.

    Example:
        >>> from simclr_lightning.models import build_encoder
        >>> PatchNetwork(build_encoder("resnet8", width=0.125), 64, stage="layer2").feature_shape
        (16, 8, 8)
    """

    def __init__(self, encoder: nn.Module, size: int, in_channels: int = 3, stage: str | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.stage = stage
        self.in_channels: int = getattr(encoder, "in_channels", in_channels)
        with evaluation_mode(encoder):
            self.feature_shape = tuple(self(torch.zeros(1, self.in_channels, size, size)).shape[1:])

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, F, h, w), the pixels of each channel side by side."""
        return feature_map(self.encoder, images, self.stage).contiguous()

    def pictures_of_a_part(self, most: int) -> int:
        """How many pictures, at most so many, have maps of no more than 64 MiB; one at least.

        Example:
            >>> from simclr_lightning.models import build_encoder
            >>> PatchNetwork(build_encoder("resnet50"), 224).pictures_of_a_part(1024)
            167
        """
        return max(1, min(most, _PART_BYTES // (4 * torch.Size(self.feature_shape).numel())))


def check_stage(patches: bool, stage: str | None) -> None:
    """Raise InputError if a stage is named, and no maps are wanted.

    Example:
        >>> check_stage(False, "layer3")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: stage layer3 is the part of an encoder whose map is wanted: add --patches.
    """
    if stage is not None and not patches:
        raise InputError(f"stage {stage} is the part of an encoder whose map is wanted: add --patches.")


def kept_box(height: int, width: int, recipe: ViewRecipe, *, equal_size: bool) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that becomes the clean picture.

    Args:
        height: of the original picture, upright, in pixels.
        width: of it.
        recipe: of the clean pictures.
        equal_size: whether all pictures of the set have this size: then the whole square is kept, unless the recipe
            tells another share.

    Example:
        >>> recipe = ViewRecipe("imagenet")
        >>> kept_box(256, 320, recipe, equal_size=False), kept_box(256, 320, recipe, equal_size=True)
        ((48, 16, 272, 240), (32, 0, 288, 256))
    """
    if equal_size and height == width == recipe.eval_size:
        return 0, 0, width, height
    share = (recipe.eval_crop or 1.0) if equal_size else centre_share(recipe.eval_crop, recipe.eval_size)
    side = max(1, round(share * min(height, width)))
    top, left = centred(height, width, side, recipe)
    return left, top, left + side, top + side
