"""ResNets: torchvision's own class, with the paper's width multiplier and a choice of stem."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet

from simclr_lightning.errors import InputError, check_number

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


class FieldPool(nn.Module):
    """Averages maps over equal fields of a grid: (N, C, H, W) to (N, C, ``grid``, ``grid``).

    Where a side is no multiple of ``grid``, fields share the pixels at their borders. Of 2 x 2 fields it is
    ``torch.nn.AdaptiveAvgPool2d(2)``, whose gradient no deterministic algorithm computes on a GPU.

    Args:
        grid: fields a side.

    Example:
        >>> import torch
        >>> FieldPool(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten()
        tensor([ 2.5000,  4.5000, 10.5000, 12.5000])
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, maps: Tensor) -> Tensor:
        """Averages of the fields.

        Raises:
            InputError: if the maps have fewer pixels a side than there are fields.
        """
        # Where sides are no numbers; what is exported is compared with the model.
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return F.adaptive_avg_pool2d(maps, self.grid)
        sides = [int(side) for side in maps.shape[-2:]]
        if min(sides) < self.grid:
            raise InputError(
                f"pool_grid is {self.grid}, and the last maps of such pictures have {sides[0]} x {sides[1]} pixels: "
                "take larger views, a stem that keeps more of them (cifar), or pool_grid 1."
            )
        steps = [side // self.grid for side in sides]
        kernel = [side - (self.grid - 1) * step for side, step in zip(sides, steps, strict=True)]
        return F.avg_pool2d(maps, kernel, steps)

    def extra_repr(self) -> str:
        """What a print of it shows."""
        return str(self.grid)


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
        pool_grid: fields a side over which the last maps are averaged, see :class:`FieldPool`; 1 averages whole maps.

    Raises:
        InputError: if ``width`` leaves a stage without channels, or ``pool_grid`` is out of range.

    Attributes:
        feature_dim: number of features F: 512 x width, for bottlenecks 2048 x width (256 x width for ``resnet8``), of
            each of the pool_grid x pool_grid fields.
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
        pool_grid: int = 1,
    ) -> None:
        check_number("pool_grid", pool_grid, "model.pool_grid 2", least=1, most=7)
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
        if pool_grid > 1:
            self.avgpool = FieldPool(pool_grid)
        self.fc = nn.Identity()
        self.in_channels = in_channels
        self.feature_dim = int(self.inplanes) * pool_grid**2  # the channels of the last stage, of every field

    def _widened(self, channels: int) -> int:
        return round(channels * self._width)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64:  # the first stage follows the stem
            self.inplanes = self._widened(64)
        if blocks == 0:
            return nn.Sequential()
        stage: nn.Sequential = super()._make_layer(block, self._widened(planes), blocks, stride, dilate)
        return stage
