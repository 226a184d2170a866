"""``ViewRecipe``: which random views are drawn from a picture, as one frozen dataclass."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from simclr_lightning.errors import InputError
from simclr_lightning.views.presets import PRESETS

FROM_PRESET: Any = None
"""Default of every field that its preset fills; typed ``Any`` so that the fields keep their concrete types."""

LEAST_COVERED = 0.1
"""Share of the picture that a crop covers at least in the official forms, where attempts below it are rejected."""

_CHOICES = {
    "interpolation": ("bicubic", "bilinear"),
    "normalize": ("recipe", "picture"),
    "forms": ("torchvision", "official"),
}


@dataclass(frozen=True)
class ViewRecipe:
    """The family of augmentations that the views of a picture are drawn from (Chen et al. 2020, appendix A).

    A preset names a complete recipe; every other field that is given, here or in a config, wins over the preset.
    Operations run in the order of the official code: crop and resize, flips and quarter turns, rotation, colour jitter
    (its four operations in a random order), grey, blur, noise, normalisation. Values stay in [0, 1] up to the
    normalisation.

    Pictures may have any number of channels. Saturation, hue and grey need three, and must be off for others; the
    contrast is changed about the mean of the grey level of three channels, and about each channel's own mean of others.

    Example:
        >>> recipe = ViewRecipe(preset="cifar10", flip=0.0)
        >>> recipe.size, recipe.jitter_strength, recipe.flip
        (32, 0.5, 0.0)

    Args:
        preset: Named recipe that fills the fields which are left out: imagenet, official (imagenet in Google's forms),
            cifar10, stl10, grayscale, digits, article (imagenet with a crop area of 0.2 to 1), or those of a domain:
            retina, xray, histology, multispectral, microscopy, galaxy.
        size: Side of the square view in pixels. Sets the kernel of the blur too, see ``blur_kernel``.
        eval_size: Side of the clean pictures that features are judged on, in pixels; None: ``size``. Training on
            smaller views than these costs less.
        eval_crop: Share of the shorter side that clean pictures keep around their centre. None: 0.875 above an
            ``eval_size`` of 32 where pictures differ in size, as in the official code (a resize to 256, of which 224
            are kept); otherwise all of it. For transfer the paper keeps all of it (appendix B.8.1). Batches of pictures
            that have the ``eval_size`` are left as they are.
        crop_area: Range of the area of the random crop, as a fraction of the picture's.
        crop_ratio: Range of the aspect ratio (width / height) of the random crop; drawn log-uniformly.
        crop: Probability of the random crop; otherwise the largest central crop within ``crop_ratio`` is taken.
        interpolation: Filter of the resize, bicubic or bilinear, both antialiased.
        flip: Probability of a horizontal flip.
        vertical_flip: Probability of a vertical flip.
        rotate90: Probability of a turn by 90, 180 or 270 degrees, each equally likely; 0.75 makes all four directions
            equally likely. With both flips at 0.5 all eight orientations are.
        rotation: Largest rotation in degrees; the angle is uniform in [-rotation, rotation]. 0 switches it off.
        jitter: Probability of the colour jitter.
        jitter_strength: Multiplies the four ranges below (1 for ImageNet, 0.5 for CIFAR-10 in the paper).
        brightness: Range of the brightness factor at strength 1: uniform in [max(0, 1 - b), 1 + b].
        contrast: Range of the contrast factor at strength 1, drawn likewise.
        saturation: Range of the saturation factor at strength 1, drawn likewise.
        hue: Range of the hue shift at strength 1, in turns: uniform in [-hue, hue].
        additive_brightness: Add U(-b, b) instead of multiplying, as the code of the paper's first version did.
        grey: Probability that colour is dropped.
        blur: Probability of the Gaussian blur. Below a ``size`` of 20 its kernel is one pixel: nothing happens.
        blur_sigma: Range of the blur's standard deviation in pixels.
        noise: Standard deviation of Gaussian noise added to every pixel, where white is 1. 0 switches it off.
        mean: Per-channel mean subtracted at the very end, or None (the paper: the network sees [0, 1]). Pictures of
            another number of channels are an error.
        std: Per-channel standard deviation divided by at the very end, or None. Given together with ``mean``.
        normalize: recipe (by ``mean`` and ``std``, if given), or picture: each channel of each view to mean 0 and
            standard deviation 1, as CHAMMI-75 does. That undoes brightness and contrast but for what they clipped.
        forms: Whose formulas the operations have, with the same numbers. torchvision: as in its ``RandomResizedCrop``,
            ``ColorJitter`` and ``GaussianBlur``, with an antialiased resize. official: Google's code and the TensorFlow
            operations that it calls. The crop's height and ratio are uniform, and it covers a tenth of the picture at
            least, after 100 attempts all of it; the resize is not antialiased; contrast is changed about each channel's
            own mean; saturation is HSV's; the blur has zeros around the picture.
        count: Views of each picture, 2 in every preset. View k of a picture is the same whatever the count; those of
            several recipes are counted on from one to the next.

    Raises:
        InputError: If the preset is unknown or a value lies outside its range.
        TypeError: If a value has the wrong type.
    """

    preset: str = "imagenet"
    size: int = FROM_PRESET
    eval_size: int = FROM_PRESET
    eval_crop: float | None = None
    crop_area: tuple[float, float] = FROM_PRESET
    crop_ratio: tuple[float, float] = FROM_PRESET
    crop: float = FROM_PRESET
    interpolation: Literal["bicubic", "bilinear"] = FROM_PRESET
    flip: float = FROM_PRESET
    vertical_flip: float = FROM_PRESET
    rotate90: float = FROM_PRESET
    rotation: float = FROM_PRESET
    jitter: float = FROM_PRESET
    jitter_strength: float = FROM_PRESET
    brightness: float = FROM_PRESET
    contrast: float = FROM_PRESET
    saturation: float = FROM_PRESET
    hue: float = FROM_PRESET
    additive_brightness: bool = FROM_PRESET
    grey: float = FROM_PRESET
    blur: float = FROM_PRESET
    blur_sigma: tuple[float, float] = FROM_PRESET
    noise: float = FROM_PRESET
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    normalize: Literal["recipe", "picture"] = FROM_PRESET
    forms: Literal["torchvision", "official"] = FROM_PRESET
    count: int = FROM_PRESET

    def __post_init__(self) -> None:
        """Fill what was left out from the preset, then check every field."""
        if self.preset not in PRESETS:
            near = difflib.get_close_matches(str(self.preset), PRESETS, n=3, cutoff=0.4)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InputError(f"Unknown view preset {self.preset!r}.{hint} Choose one of {', '.join(PRESETS)}.")
        preset = PRESETS[self.preset]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is None:
                value = preset.get(field.name)
            if value is None and field.name == "eval_size":
                value = self.size
            if isinstance(value, list):  # YAML knows no tuples
                value = tuple(value)
            object.__setattr__(self, field.name, value)  # the way to finish a frozen dataclass
        self._check()

    @property
    def official(self) -> bool:
        """Whether operations have the formulas of Google's code.

        Example:
            >>> ViewRecipe("cifar10").official, ViewRecipe("cifar10", forms="official").official
            (False, True)
        """
        return self.forms == "official"

    @property
    def blur_kernel(self) -> int:
        """Side of the blur's kernel in pixels: a tenth of ``size``, made odd as in the official code.

        Example:
            >>> ViewRecipe(size=224).blur_kernel
            23
        """
        return 2 * (self.size // 10 // 2) + 1

    def ranges(self) -> tuple[float, float, float, float]:
        """Half-widths of the brightness, contrast, saturation and hue ranges, after multiplication by the strength.

        Example:
            >>> ViewRecipe(jitter_strength=0.5).ranges()
            (0.4, 0.4, 0.4, 0.1)
        """
        strength = self.jitter_strength
        return self.brightness * strength, self.contrast * strength, self.saturation * strength, self.hue * strength

    def at(self, epoch: int) -> ViewRecipe:
        """The recipe of an epoch: this one, unless its size follows a schedule, see ``ScheduledRecipe``.

        Example:
            >>> ViewRecipe("cifar10").at(7).size
            32
        """
        return self

    def _check(self) -> None:
        for name in ("size", "eval_size"):
            side = getattr(self, name)
            if isinstance(side, bool) or not isinstance(side, int):
                raise TypeError(f"{name} is {side!r}: give the side of the view as a whole number of pixels.")
            if not 1 <= side <= 65_536:
                raise InputError(f"{name} is {side}: a view needs at least one pixel a side, and 65,536 at most.")
        if isinstance(self.count, bool) or not isinstance(self.count, int):
            raise TypeError(f"count is {self.count!r}: give the number of views of each picture as a whole number.")
        if not 1 <= self.count <= 1_024:
            raise InputError(f"count is {self.count}: draw at least one view of each picture, and 1,024 at most.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose {' or '.join(choices)}.")
        if not isinstance(self.additive_brightness, bool):
            raise TypeError(f"additive_brightness is {self.additive_brightness!r}: give true or false.")
        for name in ("crop", "flip", "vertical_flip", "rotate90", "jitter", "grey", "blur"):
            _number(name, getattr(self, name), 0.0, 1.0, "a probability from 0 to 1")
        for name in ("jitter_strength", "brightness", "contrast", "saturation", "hue", "noise"):
            _number(name, getattr(self, name), 0.0, math.inf, "a number of at least 0")
        if self.eval_crop is not None:
            _number("eval_crop", self.eval_crop, 1e-12, 1.0, "a share of the shorter side, above 0 and at most 1")
        _number("rotation", self.rotation, 0.0, 180.0, "an angle from 0 to 180 degrees")
        _number("hue * jitter_strength", self.hue * self.jitter_strength, 0.0, 0.5, "a hue shift of at most 0.5 turns")
        _range("crop_area", self.crop_area, 1.0, "fractions of the picture's area, above 0 and at most 1")
        if self.official and self.crop_area[1] < LEAST_COVERED:
            raise InputError(
                f"crop_area is {self.crop_area}, but of the official forms no crop is below {LEAST_COVERED} of the "
                "picture: give a larger one, or set forms to torchvision."
            )
        _range("crop_ratio", self.crop_ratio, math.inf, "aspect ratios above 0")
        _range("blur_sigma", self.blur_sigma, math.inf, "standard deviations in pixels above 0")
        self._check_normalisation()

    def _check_normalisation(self) -> None:
        if self.normalize == "picture" and (self.mean is not None or self.std is not None):
            raise InputError(
                "normalize is picture, which needs neither mean nor std: leave them out, or set normalize to recipe."
            )
        if (self.mean is None) != (self.std is None):
            raise InputError(
                f"mean is {self.mean} and std is {self.std}: give both, or neither to keep pixels in [0, 1]."
            )
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or not self.mean:
                raise InputError(f"mean {self.mean} and std {self.std} need one number per channel each.")
            for value in self.mean:
                _number("mean", value, -math.inf, math.inf, "finite numbers")
            for value in self.std:
                _number("std", value, 1e-12, math.inf, "numbers above 0")


def _number(name: str, value: object, low: float, high: float, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}: expected {expected}.")
    if not (low <= value <= high and math.isfinite(value)):
        raise InputError(f"{name} is {value}: expected {expected}.")


def _range(name: str, value: Sequence[float], high: float, expected: str) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}: expected two numbers (low, high), {expected}.")
    for number in value:
        _number(name, number, 1e-12, high, f"two numbers (low, high), {expected}")
    if value[0] > value[1]:
        raise InputError(f"{name} is {value}: the lower end comes first, write {value[::-1]}.")
