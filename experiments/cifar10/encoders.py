"""Small residual networks of other widths than ResNet's, tried at equal time: what came out is in README.md."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class Stages(nn.Module):
    """One basic block a stage, each of which but the first halves the side.

    Example:
        >>> import torch
        >>> Stages([24, 64, 192])(torch.rand(2, 3, 20, 20)).shape
        torch.Size([2, 192])

    Args:
        widths: channels of the stages; the stem has those of the first.
        stem_stride: of the 3x3 convolution in front; 2 halves the side at once.
        expand: channels of a 1x1 convolution before the pooling, 0 for none.

    Attributes:
        feature_dim: number of features F: of (N, 3, H, W) pictures it makes (N, F).
    """

    def __init__(self, widths: list[int], stem_stride: int = 1, expand: int = 0) -> None:
        super().__init__()
        self.stem = _layer(3, widths[0], kernel=3, stride=stem_stride)
        self.blocks = nn.Sequential(_block(widths[0], widths[0], stride=1))
        for below, width in pairwise(widths):
            self.blocks.append(_block(below, width, stride=2))
        self.expand = _layer(widths[-1], expand, kernel=1) if expand else nn.Identity()
        self.feature_dim, self.in_channels = expand or widths[-1], 3
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, F) of pictures (N, 3, H, W)."""
        features: Tensor = self.expand(self.blocks(self.stem(images)))
        return features.mean((2, 3))


def _layer(inner: int, outer: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inner, outer, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU(inplace=True))


def _block(inner: int, outer: int, *, stride: int) -> nn.Module:
    if stride == 1 and inner == outer:
        return BasicBlock(inner, outer)
    shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer))
    return BasicBlock(inner, outer, stride, shortcut)
