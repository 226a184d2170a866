"""What is exported: a checkpoint's model, with pictures to try it on, and what timm calls its encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from simclr_lightning.checkpoints import Checkpoint
from simclr_lightning.models.state_dicts import mismatches
from simclr_lightning.simclr import SimCLR

_ROUNDING = 1e-5
"""Largest difference of two ways to compute the same features, relative to the largest; other networks differ by 1."""


class InTimm(NamedTuple):
    """How timm builds a network: its name, arguments, and timm's configuration of it, None where it has none.

    Example:
        >>> InTimm("resnet18", {"in_chans": 1}, None).name
        'resnet18'
    """

    name: str
    arguments: dict[str, Any]
    config: Any


@dataclass(frozen=True, eq=False)
class Trained:
    """A checkpoint's model.

    Attributes:
        checkpoint: that it is from.
        model: in evaluation mode.
        encoder: of the model.
        images: (2, C, H, W), an example of its input.

    Example:
        >>> from pathlib import Path
        >>> model = SimCLR(encoder="resnet18", in_channels=1).eval()
        >>> trained = Trained(Checkpoint(Path("last.ckpt"), {}), model, model.encoder, torch.rand(2, 1, 64, 64))
        >>> trained.in_timm.name, trained.in_timm.arguments
        ('resnet18', {'in_chans': 1})
    """

    checkpoint: Checkpoint
    model: SimCLR
    encoder: nn.Module
    images: Tensor

    @cached_property
    def in_timm(self) -> InTimm | None:
        """How timm builds this very encoder, None where it cannot.

        Names and shapes of all tensors must be the same, and so must the features: torchvision and timm have networks
        of one name that differ in what no tensor shows.
        """
        import timm

        name = str(self.model.hparams["encoder"]).rpartition("/")[2]
        if not timm.is_model(name):
            return None
        config, side = timm.get_pretrained_cfg(name), self.model.hparams["image_size"]
        arguments: dict[str, Any] = {"in_chans": self.images.shape[1]}
        if config is not None and config.fixed_input_size and side is not None:
            arguments["img_size"] = side
        try:
            network = timm.create_model(name, num_classes=0, **arguments).eval()
            if mismatches(network.state_dict(), self.encoder.state_dict()):
                return None
            network.load_state_dict(self.encoder.state_dict())
            with torch.no_grad():
                found, expected = network(self.images), self.encoder(self.images)
        except (AssertionError, RuntimeError, TypeError, ValueError):  # a hyperparameter is no argument of it
            return None
        same = found.shape == expected.shape and (found - expected).abs().max() <= _ROUNDING * expected.abs().max()
        return InTimm(name, arguments, config) if same else None


def literal(value: str | int) -> str:
    r"""Python's spelling of a value: what comes from a checkpoint or is the name of a file cannot become code.

    Example:
        >>> print(literal('a"b\n'))
        "a\"b\n"
    """
    return json.dumps(value, ensure_ascii=False)  # JSON's escapes of rare characters are not Python's
