"""Crop and antialiased resize of whole batches as two matrix products; equal to ``interpolate(antialias=True)``."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Filter = Literal["bicubic", "bilinear"]


def crop_resize(images: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: Filter) -> Tensor:
    """Cut boxes out of pictures, resize them to squares and mirror some; V views of each picture at once.

    Each direction of the separable filter is one batched matrix product. The weights of a view are zero outside its
    box, and those of a mirrored view are reversed, so neither crop nor flip costs anything.

    Args:
        images: (N, C, H, W) pictures: uint8, scaled to [0, 1] here, or float in [0, 1].
        boxes: (V, N, 4) top, left, height and width in pixels.
        flip: (V, N) bool, mirror left to right.
        size: Side of the result.
        interpolation: Filter: bicubic (a = -0.5, result clamped to [0, 1]) or bilinear.

    Returns:
        (V, N, C, size, size) float32 in [0, 1].
    """
    views, number = boxes.shape[:2]
    channels, height, width = images.shape[1:]
    top, left, tall, wide = boxes.float().unbind(-1)
    rows = resampling_weights(top, tall, torch.zeros_like(flip), height, size, interpolation)
    columns = resampling_weights(left, wide, flip, width, size, interpolation)
    if images.dtype == torch.uint8:
        rows = rows / 255
    # One product for the rows of all channels and views: (V size, H) x (H, C W).
    pixels = images.transpose(1, 2).reshape(number, height, channels * width).float()
    halfway = rows.transpose(0, 1).reshape(number, views * size, height) @ pixels
    halfway = halfway.view(number, views, size * channels, width).transpose(0, 1)
    result = (halfway @ columns.transpose(-1, -2)).view(views, number, size, channels, size)
    result = result.transpose(2, 3).contiguous()
    return result.clamp_(0, 1) if interpolation == "bicubic" else result


def resampling_weights(
    start: Tensor, length: Tensor, mirrored: Tensor, total: int, size: int, interpolation: Filter
) -> Tensor:
    """Weights with which every pixel of a line contributes to every pixel of its resized crop.

    The filter is widened by the scale where the crop shrinks (antialiasing), cut at the crop's ends and normalised.

    Args:
        start: (...) float, first pixel of the crop.
        length: (...) float, pixels in the crop.
        mirrored: (...) bool, reverse the result.
        total: Pixels in the line.
        size: Pixels after the resize.
        interpolation: bicubic or bilinear.

    Returns:
        (..., size, total) weights that sum to 1 over the last dimension and are 0 outside the crop.
    """
    radius = 2 if interpolation == "bicubic" else 1
    taps = math.ceil(2 * radius * max(total / size, 1))
    start, length, mirrored = start[..., None, None], length[..., None, None], mirrored[..., None, None]
    scale = length / size
    widening = scale.clamp_min(1)
    pixel = torch.arange(size, device=start.device)[:, None]
    centre = (torch.where(mirrored, size - 1 - pixel, pixel) + 0.5) * scale
    source = (centre - radius * widening + 0.5).floor() + torch.arange(taps, device=start.device)
    distance = ((source + 0.5 - centre) / widening).abs_()
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(0)
    weights *= (source >= 0) & (source < length)
    weights /= weights.sum(-1, keepdim=True)
    # Taps may hang over the ends of the line, with weight 0: a margin takes them.
    dense = weights.new_zeros(*weights.shape[:-1], total + 2 * taps)
    return dense.scatter_(-1, (source + (start + taps)).long(), weights)[..., taps:-taps]


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981) with a = -0.5, as in Pillow's and torch's antialiased resize.

    Of the two cubic pieces, on [0, 1] and on [1, 2], either is 0 at 1, so that clamped arguments let them be added.
    """
    near, far = x.clamp(0, 1), x.clamp(1, 2)
    return ((1.5 * near - 2.5) * near * near + 1) + (((2.5 - 0.5 * far) * far - 4) * far + 2)
