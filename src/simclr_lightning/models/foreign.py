"""Encoders that other packages trained: lightly, lightning-bolts, solo-learn, torchvision and timm.

They name the same tensors differently. What is known of each is in the three constants below; anything else in a file
is an error, because features of weights that were left at random look like features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from simclr_lightning.checkpoints import listed, mismatches, read_checkpoint

PREFIXES = ("encoder.", "backbone.", "")
"""What the encoder's tensors begin with: in lightning-bolts, old solo-learn and here; in lightly and solo-learn; in the
plain state dicts of torchvision and timm."""

HEADS = ("classifier", "criterion", "head", "online_classifier", "projection", "projection_head", "projector")
"""Other parts of the module that was trained: they are dropped."""

CLASSIFIERS = ("classifier", "fc", "head", "heads")
"""Parts of a network in which its classifier sits; what lies there is dropped where our encoder has an Identity."""


def load_foreign_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load the weights of another package's checkpoint into an encoder of the same architecture, all of them or none.

    It may be a Lightning checkpoint, or a plain state dict, as a ``.safetensors`` file too. The tensors may have
    torchvision's or timm's names, or those of ``nn.Sequential(*network.children())``. Projection heads and classifiers
    are dropped by name; what was loaded and dropped is logged.

    solo-learn pads the 3x3 stem of its CIFAR ResNets by two pixels instead of one, which no tensor shows: where its
    checkpoint is recognised by its heads, ``encoder.conv1`` is set to do the same.

    Args:
        encoder: from ``build_encoder``; its weights change.
        path: the file, which is read without running code in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the package safetensors is needed and missing.
        pickle.UnpicklingError: if the file holds more than tensors and plain values.
        ValueError: if a tensor is missing, unknown or of another shape, which is then named, or if nothing matches.
    """
    tensors = _tensors(path)
    expected = encoder.state_dict()
    layouts = [(prefix, names) for prefix in PREFIXES for names in (list(expected), _by_position(encoder, expected))]
    prefix, names = max(layouts, key=lambda layout: sum(f"{layout[0]}{name}" in tensors for name in layout[1]))
    names = [f"{prefix}{name}" for name in names]  # as the checkpoint has them, in our order
    if tensors.keys().isdisjoint(names):
        tried = ", ".join(prefix + "*" for prefix in PREFIXES if prefix)
        raise ValueError(
            f"{path} has no tensor of the encoder {type(encoder).__name__}: its names were tried as {tried}, and "
            f"without a prefix, but the file has {listed(tensors)}. Name the architecture that it holds (encoder=...)."
        )
    dropped = {name for name in tensors.keys() - set(names) if _is_head(name, prefix, encoder)}
    found = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    problems = mismatches(dict(zip(names, expected.values(), strict=True)), found)
    if problems:
        raise ValueError(
            f"The weights in {path} do not fit the encoder {type(encoder).__name__}: {'; '.join(problems)}. Name "
            "encoder, stem, width and in_channels as they were trained; nothing was loaded."
        )
    encoder.load_state_dict({ours: found[name] for ours, name in zip(expected, names, strict=True)}, strict=True)

    parts = sorted({name.rpartition(".")[0] or name for name in dropped})
    rank_zero_info(f"{path}: loaded {len(names)} tensors {prefix}*; dropped: {', '.join(parts) or 'nothing'}.")
    if {"projector", "classifier"} <= {name.partition(".")[0] for name in dropped}:
        _pad_as_solo_learn(encoder)


def _tensors(path: str | Path) -> dict[str, Tensor]:
    if Path(path).suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise ImportError(f"{path} needs the package safetensors: pip install safetensors") from error
        return load_file(path)
    content: Any = read_checkpoint(path)
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds neither a state dict of tensors nor a checkpoint with one under state_dict.")
    return content


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
