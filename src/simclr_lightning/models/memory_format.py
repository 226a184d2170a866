"""Encoders in the channels_last memory format, and the convolutions that oneDNN computes wrongly on a CPU."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VECTOR = 16  # float32 numbers in a register of AVX-512; those of AVX2 hold half as many


class _Twin(nn.Conv2d):
    @classmethod
    def of(cls, layer: nn.Conv2d) -> Self:
        """The same function with the same parameters, which are shared with ``layer``."""
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        with torch.device("meta"):  # no weights are drawn
            twin = cls(*shape, groups=layer.groups, bias=layer.bias is not None)  # type: ignore[arg-type]
        twin.weight, twin.bias = layer.weight, layer.bias
        return twin.train(layer.training)


class SubsampledConv2d(_Twin):
    """A 1x1 convolution with a stride, computed without one on the pixels that the stride does not skip.

    oneDNN 3.12 (torch 2.14) writes beyond its buffer where it computes the gradient of the weights of such a
    convolution in channels_last, if there are fewer input channels than a register holds; the process dies, or goes on
    with corrupted memory. The shortcuts of narrow ResNets are such convolutions.

    Example:
        >>> layer = SubsampledConv2d.of(nn.Conv2d(4, 8, 1, stride=2))
        >>> layer(torch.rand(1, 4, 16, 16)).shape
        torch.Size([1, 8, 8, 8])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (N, C, H, W) pictures."""
        down, right = self.stride
        return F.conv2d(images[..., ::down, ::right], self.weight, self.bias)


class TrimmedConv2d(_Twin):
    """A convolution with a stride that leaves out the columns of its kernel which meet nothing but padding.

    oneDNN 3.12 (torch 2.14) leaves what the memory had before, NaN by chance, as the gradient of such columns in
    bfloat16, where it is 0. There are such columns where the maps are one or two pixels wide, as those of small views
    are in the last stage of a ResNet. In every other case this is the convolution itself, to the bit.

    Example:
        >>> layer = TrimmedConv2d.of(nn.Conv2d(4, 8, 3, stride=2, padding=1).bfloat16())
        >>> layer(torch.rand(1, 4, 1, 1).bfloat16()).shape  # by the column in the middle alone
        torch.Size([1, 8, 1, 1])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (N, C, H, W) pictures."""
        in_bfloat16 = images.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        above, left = (int(pixels) for pixels in self.padding)
        columns, step, width = self.kernel_size[1], self.stride[1], images.shape[-1]
        if not in_bfloat16 or images.device.type != "cpu" or width + 2 * left < columns:  # the last is torch's error
            return super().forward(images)
        last = (width + 2 * left - columns) // step * step  # the last output's first column, from the left padding on
        first, end = max(0, left - last), min(columns, left + width)
        if (first, end) == (0, columns):
            return super().forward(images)
        padded = F.pad(images, (left - first, last + end - left - width))
        return F.conv2d(padded, self.weight[..., first:end], self.bias, self.stride, (above, 0), groups=self.groups)


def to_memory_format(encoder: nn.Module, *, channels_last: bool) -> nn.Module:
    """Let an encoder compute in channels_last, which is usually faster, or in the contiguous format.

    Convolutions that would corrupt memory become :class:`SubsampledConv2d`, in both formats, because torch.compile
    chooses the format by itself, and those with a wider kernel and a stride :class:`TrimmedConv2d`. Encoders without
    the former keep every bit of their results.

    Args:
        encoder: pictures (N, C, H, W) to features. Its parameters keep their values and their names.
        channels_last: which of the two.

    Returns:
        The encoder itself.

    Example:
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 1, stride=2))
        >>> to_memory_format(encoder, channels_last=True)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): SubsampledConv2d(8, 16, kernel_size=(1, 1), stride=(2, 2))
        )
        >>> encoder[0].weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    for path, layer in list(encoder.named_modules(remove_duplicate=False)):
        if type(layer) is not nn.Conv2d:  # what subclasses compute is not known
            continue
        if _corrupts_memory(layer):
            encoder.set_submodule(path, SubsampledConv2d.of(layer))
        elif _meets_padding_alone(layer):
            encoder.set_submodule(path, TrimmedConv2d.of(layer))
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return encoder.to(memory_format=memory_format)


def _corrupts_memory(layer: nn.Conv2d) -> bool:
    """Measured; see docs/onednn.md. More input channels, groups, padding and other kernels are fine."""
    return (
        layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.padding in ((0, 0), "valid")
        and layer.groups == 1
        and layer.in_channels < VECTOR
    )


def _meets_padding_alone(layer: nn.Conv2d) -> bool:
    """Whether a column of the kernel may; those that do are then at its sides. Measured; see docs/onednn.md."""
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return False
    return layer.stride[1] > 1 and 0 < 2 * layer.padding[1] <= layer.kernel_size[1]
