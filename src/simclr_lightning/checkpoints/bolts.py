"""What a checkpoint of lightning-bolts tells of its encoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from simclr_lightning.checkpoints.file import Checkpoint
from simclr_lightning.errors import InputError
from simclr_lightning.models import Stem, resolve_stem

_STEMS: dict[tuple[bool, bool], Stem] = {
    (True, True): "imagenet",
    (False, False): "cifar",
    (False, True): "pooled",
    (True, False): "imagenet",  # whose max-pool is then taken away, as their command does for STL-10
}


class BoltsEncoder(NamedTuple):
    """The encoder of a ``SimCLR`` of lightning-bolts.

    Attributes:
        name: resnet18 or resnet50.
        stem: its first layers.
        pooled: whether the stem that has a max-pool here has one there.

    Example:
        >>> told = {"arch": "resnet18", "first_conv": False, "maxpool1": False, "hidden_mlp": 512}
        >>> BoltsEncoder.of(Checkpoint("bolts.ckpt", {"state_dict": {}, "hyper_parameters": told}))
        BoltsEncoder(name='resnet18', stem='cifar', pooled=True)
    """

    name: str
    stem: Stem
    pooled: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> BoltsEncoder | None:
        """What a checkpoint tells; None if it is of somebody else.

        Example:
            >>> BoltsEncoder.of(Checkpoint("other.ckpt", {"hyper_parameters": {"arch": "resnet18"}}))
        """
        told = checkpoint.hyperparameters
        if not {"arch", "first_conv", "maxpool1", "hidden_mlp"} <= told.keys():
            return None
        layers = bool(told["first_conv"]), bool(told["maxpool1"])
        return cls(str(told["arch"]), _STEMS[layers], layers != (True, False))

    def check(self, path: object, encoder: str, stem: Stem, image_size: int | None) -> None:
        """Raise InputError if another stem is named than the weights were trained with, which no tensor shows.

        Example:
            >>> BoltsEncoder("resnet18", "cifar", True).check("bolts.ckpt", "resnet18", "pooled", None)
            Traceback (most recent call last):
            simclr_lightning.errors.InputError: bolts.ckpt was trained with the stem cifar, and pooled is named: leave \
encoder and stem out, the file tells them.
        """
        named = resolve_stem(stem, image_size)
        if encoder == self.name and named != self.stem:
            raise InputError(
                f"{path} was trained with the stem {self.stem}, and {named} is named: leave encoder and stem out, the "
                "file tells them."
            )

    def finish(self, network: nn.Module) -> None:
        """Take the max-pool away where there was none.

        Example:
            >>> from simclr_lightning.models import build_encoder
            >>> network = build_encoder("resnet18")
            >>> BoltsEncoder("resnet18", "imagenet", False).finish(network)
            >>> network.maxpool
            Identity()
        """
        if not self.pooled:
            network.maxpool = nn.Identity()
