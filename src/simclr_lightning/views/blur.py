"""Gaussian blur of whole batches, each picture with its own standard deviation, one direction after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 32


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur with a separable, normalised Gaussian and reflected borders, as torchvision's ``gaussian_blur``.

    A block of neighbouring pixels is the product of the pixels around it with a small banded matrix, one for each
    picture. Unlike a grouped convolution that is fast for few pictures and for many, whatever the kernel's side.

    Args:
        images: (M, C, H, W) float.
        sigma: (M, 1) standard deviations in pixels.
        kernel: Side of the kernel, odd, with kernel // 2 smaller than H and W.

    Returns:
        (M, C, H, W).
    """
    channels, height, width = images.shape[1:]
    margin = kernel - 1
    band = _band(sigma, kernel)
    planes = F.pad(images, [margin // 2] * 4, mode="reflect").flatten(1, 2)  # (M, C x rows, columns)
    blocks = [(start, min(_BLOCK, width - start)) for start in range(0, width, _BLOCK)]
    planes = torch.cat([planes[..., a : a + n + margin] @ band[:, : n + margin, :n] for a, n in blocks], -1)
    planes = planes.view(-1, height + margin, width)  # (M x C, rows, columns)
    band = band.mT.repeat_interleave(channels, 0)
    blocks = [(start, min(_BLOCK, height - start)) for start in range(0, height, _BLOCK)]
    return torch.cat([band[:, :n, : n + margin] @ planes[:, a : a + n + margin] for a, n in blocks], 1).view(
        images.shape
    )


def _band(sigma: Tensor, kernel: int) -> Tensor:
    """(M, block + kernel - 1, block): column k holds the kernel, k pixels down."""
    source = torch.arange(_BLOCK + kernel - 1, device=sigma.device)[:, None]
    offset = source - torch.arange(_BLOCK, device=sigma.device) - kernel // 2
    weights = torch.exp(-((offset / sigma[..., None]) ** 2) / 2) * (offset.abs() <= kernel // 2)
    weights = weights / weights.sum(1, keepdim=True)
    return weights * (weights > 1e-10)  # smaller ones are invisible, but denormal numbers are slow to multiply
