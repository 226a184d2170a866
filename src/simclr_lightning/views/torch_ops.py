"""Operations on whole batches of pictures in torch, on any device, each picture with its own parameters.

They are equal to torchvision's on floats, or to TensorFlow's where a recipe asks for the official forms. Those of the
colour take (M, C, H, W) float pictures in [0, 1] and (M, 1) float parameters, one a picture, and return new pictures
that are clamped to [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.views.draw import mix

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, with the digits that torchvision and Pillow use
_BLOCK = 32  # pixels of a line that one product of the blur makes


def luma(images: Tensor) -> Tensor:
    """Grey level.

    Args:
        images: (M, 3, H, W) RGB, or (M, 1, H, W), which is returned as it is.

    Returns:
        (M, 1, H, W).

    Example:
        >>> luma(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)).flatten()
        tensor([0.2989])
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by the factor.

    Example:
        >>> brightness(torch.full((1, 3, 1, 1), 0.25), torch.tensor([[2.0]])).flatten()
        tensor([0.5000, 0.5000, 0.5000])
    """
    return (images * factor[..., None, None]).clamp_(0, 1)


def additive_brightness(images: Tensor, delta: Tensor) -> Tensor:
    """Add the summand (the official code of the paper's first version).

    Example:
        >>> additive_brightness(torch.full((1, 3, 1, 1), 0.25), torch.tensor([[0.5]])).flatten()
        tensor([0.7500, 0.7500, 0.7500])
    """
    return (images + delta[..., None, None]).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor, own_means: bool = False) -> Tensor:
    """Blend with the mean grey level of three channels, or every channel with its own mean.

    Args:
        images: (M, C, H, W) in [0, 1].
        factor: (M, 1).
        own_means: Blend three channels with their own means, too, as TensorFlow's ``adjust_contrast`` does.

    Returns:
        (M, C, H, W).

    Example:
        >>> contrast(torch.tensor([0.0, 0.5]).view(1, 1, 1, 2), torch.tensor([[0.5]])).flatten()
        tensor([0.1250, 0.3750])
    """
    mean = images.flatten(2).mean(-1)[..., None, None]
    if images.shape[1] == 3 and not own_means:
        mean = luma(mean)  # the grey level of the mean is the mean of the grey level
    factor = factor[..., None, None]
    return (images * factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey picture.

    Example:
        >>> saturation(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), torch.tensor([[0.0]])).flatten()
        tensor([0.2989, 0.2989, 0.2989])
    """
    return torch.lerp(luma(images), images, factor[..., None, None]).clamp_(0, 1)


def hsv_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the saturation of HSV, up to 1, without going through HSV (TensorFlow's ``adjust_saturation``).

    Hue and value stay if every channel's distance from the largest, M, is multiplied alike; the saturation is
    c / M with c = M - m, so no distance can be multiplied by more than M / c.

    Example:
        >>> hsv_saturation(torch.tensor([0.8, 0.4, 0.6]).view(1, 3, 1, 1), torch.tensor([[1.5]])).flatten()
        tensor([0.8000, 0.2000, 0.5000])
    """
    largest = images.amax(1, keepdim=True)
    chroma = largest - images.amin(1, keepdim=True)
    factor = factor[..., None, None]
    factor = torch.where(chroma * factor > largest, largest / chroma, factor)
    return (largest - (largest - images) * factor).clamp_(0, 1)


def grey(images: Tensor, _unused: Tensor) -> Tensor:
    """Replace every channel by the grey level.

    Example:
        >>> grey(torch.rand(8, 3, 4, 4), torch.empty(8, 0)).shape
        torch.Size([8, 3, 4, 4])
    """
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

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> hue(red, shifted_primaries(torch.tensor([1 / 3]))).flatten()  # a third of a turn: green
        tensor([0., 1., 0.])
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

    Example:
        >>> shifted_primaries(torch.tensor([0.0, 0.5]))
        tensor([[ 0.,  2., -2.],
                [-3., -1.,  1.]])
    """
    hues = torch.tensor([0.0, 2.0, -2.0]) - 6 * turns[..., None]
    return hues - 6 * torch.round(hues / 6)


def gaussian_blur(images: Tensor, sigma: Tensor, kernel: int, zeros: bool = False) -> Tensor:
    """Blur with a separable, normalised Gaussian and reflected borders, as torchvision's ``gaussian_blur``.

    A block of neighbouring pixels is the product of the pixels around it with a small banded matrix, one for each
    picture. Unlike a grouped convolution that is fast for few pictures and for many, whatever the kernel's side.

    Args:
        images: (M, C, H, W) float.
        sigma: (M, 1) standard deviations in pixels.
        kernel: Side of the kernel, odd, with kernel // 2 smaller than H and W.
        zeros: Zeros around the picture instead of its reflection, as in the official code.

    Returns:
        (M, C, H, W).

    Example:
        >>> impulse = torch.zeros(1, 1, 3, 3).index_fill_(3, torch.tensor([1]), 1.0)
        >>> gaussian_blur(impulse, torch.tensor([[0.5]]), 3)[0, 0, 1]
        tensor([0.2130, 0.7870, 0.2130])
    """
    channels, height, width = images.shape[1:]
    margin = kernel - 1
    band = _band(sigma, kernel)
    planes = F.pad(images, [margin // 2] * 4, mode="constant" if zeros else "reflect").flatten(
        1, 2
    )  # (M, C x rows, columns)
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


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate counter-clockwise about the centre, bilinear, black outside (torchvision's ``rotate``).

    Args:
        images: (M, C, S, S) float, square.
        degrees: (M,) angles.

    Returns:
        (M, C, S, S).

    Example:
        >>> rotate(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([180.0])).round().flatten()
        tensor([4., 3., 2., 1.])
    """
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cosine, -sine, zero, sine, cosine, zero], -1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def pixel_noise(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise for whole pictures, on the device of the keys.

    Args:
        keys: (M,) int64, one key per picture.
        shape: Shape of a picture.

    Returns:
        (M, *shape) float32.

    Example:
        >>> pixel_noise(torch.tensor([5, 6]), (3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """
    bits = mix(keys[:, None], torch.arange(math.prod(shape), device=keys.device))
    odd = ((bits >> 39) & 0x1FFFFFE) + 1  # 24 random bits, then a one: odd numbers below 2^25, never 0
    # (odd - 2^24) / 2^24 is exact in float32, symmetric about 0 and strictly inside (-1, 1).
    return (torch.erfinv((odd - 2**24).float() / 2**24) * math.sqrt(2)).view(-1, *shape)
