"""ResNets: torchvision's own class, with the paper's width multiplier and a choice of stem."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn
from torchvision.models import resnet

from simclr_lightning.errors import InputError

Stem = Literal["auto", "imagenet", "cifar", "pooled"]
"""First layers of a ResNet, see :class:`ResNet`; auto: by the size of the pictures."""

RESNETS: dict[str, tuple[Any, tuple[int, int, int, int]]] = {
    # These two are not in torchvision: for small pictures on small machines.
    "resnet8": (resnet.BasicBlock, (1, 1, 1, 0)),
    "resnet10": (resnet.BasicBlock, (1, 1, 1, 1)),
    "resnet18": (resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": (resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": (resnet.Bottleneck, (3, 4, 6, 3)),
    "resnet101": (resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet152": (resnet.Bottleneck, (3, 8, 36, 3)),
}
"""Name -> kind of block, and the number of blocks in each of the four stages."""

#: Stem -> side of the first convolution's kernel, its stride, and whether a max-pool of stride 2 follows.
STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False), "pooled": (3, 1, True)}


def resolve_stem(stem: Stem, image_size: int | None) -> Literal["imagenet", "cifar", "pooled"]:
    """What ``auto`` becomes: the small stem for pictures of at most 32 pixels, as in the official code.

    Args:
        stem: the name of a stem, or ``auto``.
        image_size: side of the pictures in pixels, None where it is not known.

    Returns:
        A stem other than ``auto``.

    Example:
        >>> resolve_stem("auto", 32), resolve_stem("auto", 224), resolve_stem("pooled", 224)
        ('cifar', 'imagenet', 'pooled')
    """
    if stem != "auto":
        return stem
    return "cifar" if image_size is not None and image_size <= 32 else "imagenet"


class ResNet(resnet.ResNet):  # type: ignore[misc]  # torchvision ships no types
    """A ResNet without its classifier, from pictures (N, C, H, W) to features (N, ``feature_dim``).

    Forward pass, initialisation and names are torchvision's: with ``width=1`` and the ``imagenet`` stem the state dict
    is torchvision's without ``fc``, so weights travel both ways. As in the official SimCLR code, the stride of a
    bottleneck sits on its 3x3 convolution. Two differences from that code remain: it draws the convolutions' weights
    with ``VarianceScaling`` over fan-in (here: Kaiming over fan-out), and it gives the first stage of ResNet-18 and 34
    a projection shortcut (here: identity).

    Source: He et al. 2015 (arXiv 1512.03385); width: SimCLR (arXiv 2002.05709), table 6; CIFAR stem: its appendix B.9;
    zero-initialised gain: Goyal et al. 2017 (arXiv 1706.02677), section 5.1.

    Args:
        block: torchvision's ``BasicBlock`` or ``Bottleneck``.
        layers: number of blocks in each of the four stages; the last stage may have none.
        width: multiplies the channels of the stem and of every stage (torchvision's ``width_per_group`` widens the
            inside of bottlenecks alone). Channels are rounded to whole numbers.
        stem: ``imagenet`` (7x7 of stride 2, then max-pool: divides the side by 4), ``cifar`` (3x3 of stride 1, no
            max-pool: keeps it) or ``pooled`` (3x3 of stride 1, then max-pool: halves it).
        in_channels: channels of the pictures.
        zero_init_residual: start the last BatchNorm gain of every block at 0, so that blocks begin as their shortcut.

    Raises:
        InputError: if ``width`` leaves a stage without channels.

    Attributes:
        feature_dim: number of features F: 512 x width, for bottlenecks 2048 x width (256 x width for ``resnet8``).
        in_channels: channels of the pictures.

    Example:
        >>> import torch
        >>> encoder = ResNet(*RESNETS["resnet18"], width=0.25, stem="cifar")
        >>> encoder(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        block: Any,
        layers: tuple[int, int, int, int],
        *,
        width: float = 1.0,
        stem: Literal["imagenet", "cifar", "pooled"] = "imagenet",
        in_channels: int = 3,
        zero_init_residual: bool = True,
    ) -> None:
        if not math.isfinite(width) or round(64 * width) < 1:
            raise InputError(
                f"width is {width}, but at least one of the 64 channels of the first stage must remain: "
                "give a number such as 0.5, 1, 2 or 4"
            )
        self._width = width  # before super().__init__, which calls _make_layer
        super().__init__(block, list(layers), num_classes=1, zero_init_residual=zero_init_residual)
        # super().__init__ builds the stem for colour pictures of 224 pixels, and a classifier. The latter must go
        # altogether: parameters that no gradient reaches stop DistributedDataParallel.
        kernel, stride, pool = STEMS[stem]
        channels = self._widened(64)
        self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(channels)
        if not pool:
            self.maxpool = nn.Identity()
        self.fc = nn.Identity()
        self.in_channels = in_channels
        self.feature_dim = int(self.inplanes)  # the channels of the last stage

    def _widened(self, channels: int) -> int:
        return round(channels * self._width)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64:  # the first stage follows the stem
            self.inplanes = self._widened(64)
        if blocks == 0:
            return nn.Sequential()
        stage: nn.Sequential = super()._make_layer(block, self._widened(planes), blocks, stride, dilate)
        return stage
