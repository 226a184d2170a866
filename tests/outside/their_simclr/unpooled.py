"""An encoder whose features are a map, not pooled."""

import torch
from torch import Tensor, nn

from simclr_lightning import SimCLR


class Unpooled(nn.Module):
    """(N, C, S, S) to (N, channels * 16), whatever S."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.feature_dim = 16 * channels
        self.net = nn.Sequential(nn.Conv2d(in_channels, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_max_pool2d(self.net(images), 4).flatten(1)


class MapSimCLR(SimCLR):
    """SimCLR with that encoder."""

    def __init__(self, *args: object, channels: int = 4, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def build_encoder(self) -> nn.Module:
        return Unpooled(self.hparams["in_channels"], self.hparams["channels"])
