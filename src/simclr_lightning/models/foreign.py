"""Encoders that other packages trained: lightly, lightning-bolts, solo-learn, torchvision and timm.

They name the same tensors differently. What is known of each is in the three constants below; anything else in a file
is an error, because features of weights that were left at random look like features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.models.published import first_convolution, for_channels
from simclr_lightning.models.state_dicts import listed, mismatches, without_numbers

PREFIXES = ("encoder.", "backbone.", "")
"""What the encoder's tensors begin with: in lightning-bolts, old solo-learn and here; in lightly and solo-learn; in the
plain state dicts of torchvision and timm."""

HEADS = ("classifier", "criterion", "head", "online_classifier", "projection", "projection_head", "projector")
"""Other parts of the module that was trained: they are dropped."""

CLASSIFIERS = ("classifier", "fc", "head", "heads")
"""Parts of a network in which its classifier sits; what lies there is dropped where our encoder has an Identity."""


def load_foreign_weights(
    encoder: nn.Module, tensors: Mapping[str, Tensor], path: str | Path, *, to_train: bool = False
) -> None:
    """Load the weights of another package into an encoder of the same architecture, all of them or none.

    The tensors may have torchvision's or timm's names, or those of ``nn.Sequential(*network.children())``. Projection
    heads and classifiers are dropped by name; what was loaded and dropped is logged.

    solo-learn pads the 3x3 stem of its CIFAR ResNets by two pixels instead of one, which no tensor shows: where its
    checkpoint is recognised by its heads, ``encoder.conv1`` is set to do the same.

    Args:
        encoder: from ``build_encoder``; its weights change.
        tensors: state dict of the module that was trained.
        path: of the file that they are from, for messages.
        to_train: whether training goes on from them: then a first convolution of another number of channels is made to
            fit (:func:`~simclr_lightning.models.published.for_channels`), and no padding changes, since a checkpoint of
            that training would not tell it.

    Raises:
        InputError: if a tensor is missing, unknown or of another shape, which is then named, or if nothing matches.

    Example:
        >>> import torch
        >>> encoder = nn.Sequential(nn.Linear(2, 1))
        >>> theirs = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 1)), "projector": nn.Linear(1, 1)})
        >>> load_foreign_weights(encoder, theirs.state_dict(), "peer.ckpt")
        >>> torch.equal(encoder[0].weight, theirs["encoder"][0].weight)
        True
    """
    expected = encoder.state_dict()
    layouts = [(prefix, names) for prefix in PREFIXES for names in (list(expected), _by_position(encoder, expected))]
    prefix, names = max(layouts, key=lambda layout: sum(f"{layout[0]}{name}" in tensors for name in layout[1]))
    names = [f"{prefix}{name}" for name in names]  # as the checkpoint has them, in our order
    if tensors.keys().isdisjoint(names):
        tried = ", ".join(prefix + "*" for prefix in PREFIXES if prefix)
        raise InputError(
            f"{path} has no tensor of the encoder {type(encoder).__name__}: its names were tried as {tried}, and "
            f"without a prefix, but the file has {listed(tensors)}. Name the architecture that it holds (encoder=...)."
        )
    dropped = {name for name in tensors.keys() - set(names) if _is_head(name, prefix, encoder)}
    found = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    if to_train:
        found |= _for_our_channels(encoder, dict(zip(expected, names, strict=True)), found)
    problems = mismatches(dict(zip(names, expected.values(), strict=True)), found)
    problems += [f"{name} holds NaN" for name in without_numbers(found)[:3]]
    if problems:
        raise InputError(
            f"The weights in {path} do not fit the encoder {type(encoder).__name__}: {'; '.join(problems)}. Name "
            "encoder, stem, width and in_channels as they were trained; nothing was loaded."
        )
    encoder.load_state_dict({ours: found[name] for ours, name in zip(expected, names, strict=True)}, strict=True)

    parts = sorted({name.rpartition(".")[0] or name for name in dropped})
    rank_zero_info(f"{path}: loaded {len(names)} tensors {prefix}*; dropped: {', '.join(parts) or 'nothing'}.")
    if not to_train and {"projector", "classifier"} <= {name.partition(".")[0] for name in dropped}:
        _pad_as_solo_learn(encoder)


def _for_our_channels(encoder: nn.Module, names: dict[str, str], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first convolution's weight under its name there, made to fit; nothing where it fits, or is missing."""
    name = first_convolution(encoder)
    theirs = None if name is None else found.get(names[name])
    if name is None or theirs is None or theirs.ndim != 4:
        return {}
    channels = encoder.get_parameter(name).shape[1]
    if theirs.shape[1] == channels:
        return {}
    rank_zero_info(f"{names[name]} is for {theirs.shape[1]} channels and was made to fit {channels}.")
    return {names[name]: for_channels(theirs, channels)}


def _by_position(encoder: nn.Module, names: dict[str, Tensor]) -> list[str]:
    """The names under which ``nn.Sequential(*encoder.children())`` has the same tensors, in the same order."""
    position = {child: str(index) for index, (child, _) in enumerate(encoder.named_children())}
    return [".".join([position.get(child, child), *rest]) for child, *rest in (name.split(".") for name in names)]


def _is_head(name: str, prefix: str, encoder: nn.Module) -> bool:
    if prefix and not name.startswith(prefix):
        return name.partition(".")[0] in HEADS
    layer = name.removeprefix(prefix).rpartition(".")[0]
    place = dict(encoder.named_modules()).get(layer)
    return layer.partition(".")[0] in CLASSIFIERS and isinstance(place, nn.Identity)


def _pad_as_solo_learn(encoder: nn.Module) -> None:
    stem = getattr(encoder, "conv1", None)
    if isinstance(stem, nn.Conv2d) and stem.kernel_size == (3, 3):
        stem.padding = (2, 2)
        rank_zero_info("A CIFAR ResNet of solo-learn: its first convolution pads by 2 pixels, and so does this one.")
