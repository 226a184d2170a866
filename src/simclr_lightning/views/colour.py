"""The colour operations on whole batches, each picture with its own factor; equal to torchvision's on floats.

All take (M, C, H, W) float pictures in [0, 1] and (M, 1) float parameters, one a picture, and return new pictures that
are clamped to [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, with the digits that torchvision and Pillow use


def luma(images: Tensor) -> Tensor:
    """Grey level.

    Args:
        images: (M, 3, H, W) RGB, or (M, 1, H, W), which is returned as it is.

    Returns:
        (M, 1, H, W).
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by the factor."""
    return (images * factor[..., None, None]).clamp_(0, 1)


def additive_brightness(images: Tensor, delta: Tensor) -> Tensor:
    """Add the summand (the official code of the paper's first version)."""
    return (images + delta[..., None, None]).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the picture's mean grey level."""
    mean = luma(images.flatten(2).mean(-1)[..., None, None])  # the grey level of the mean is the mean of the grey level
    factor = factor[..., None, None]
    return (images * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey picture."""
    return torch.lerp(luma(images), images, factor[..., None, None]).clamp_(0, 1)


def grey(images: Tensor, _unused: Tensor) -> Tensor:
    """Replace every channel by the grey level."""
    return luma(images).expand_as(images)


def hue(images: Tensor, primaries: Tensor) -> Tensor:
    """Shift the hue of HSV, without going through HSV.

    A pixel has largest channel M, smallest channel m, c = M - m and hue H, here in sixths of a turn. HSV's way back
    gives the channel of hue k (red 0, green 2, blue -2) the value clamp(m + 2 c - c |H - k|, m, M), with |H - k| the
    distance on the circle of circumference 6. Shifting H by s is the same as shifting every k by -s. Everything here
    is multiplied by c, so nothing is divided and grey pixels are no special case.

    Args:
        images: (M, 3, H, W) RGB in [0, 1].
        primaries: (M, 3) the shifted k of red, green and blue, see ``shifted_primaries``.

    Returns:
        (M, 3, H, W).
    """
    red, green, blue = images.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    # c |H| = (g - m) + (b - m) - (r - M): check it for each order of the channels. H > 0 is the side of green.
    hue_of_pixel = (green + blue).sub_(red).add_(chroma).sub_(smallest).copysign_(green - blue)
    # Both hues are in [-3, 3], so d = c |H - k| is in [0, 6 c], and the distance on the circle is 3 c - |d - 3 c|.
    distance = torch.addcmul(hue_of_pixel[:, None], chroma[:, None], primaries[..., None, None], value=-1).abs_()
    value = distance.sub_((3 * chroma)[:, None]).abs_().add_((smallest - chroma)[:, None])
    return value.clamp_(smallest[:, None], largest[:, None])


def shifted_primaries(turns: Tensor) -> Tensor:
    """Hues of red, green and blue, shifted by minus ``turns``, in sixths of a turn.

    Args:
        turns: (...) shift of the hue.

    Returns:
        (..., 3) in [-3, 3].
    """
    hues = torch.tensor([0.0, 2.0, -2.0]) - 6 * turns[..., None]
    return hues - 6 * torch.round(hues / 6)
