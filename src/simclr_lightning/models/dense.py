"""Dense features: the map that an encoder pools, for detection and segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from simclr_lightning.errors import InputError

LAST_STAGES = (
    "layer4",  # ResNets, ResNeXt
    "trunk_output",  # RegNet
    "permute",  # Swin, after "features"
    "features",  # ConvNeXt, EfficientNet, MobileNet, DenseNet, VGG
    "conv5",  # ShuffleNet
    "layers",  # MNASNet
    "Mixed_7c",  # Inception
    "inception5b",  # GoogLeNet
    "encoder",  # ViT
)
"""The last stage of torchvision's networks, whose output they pool; timm's have a method for it."""


def feature_map(encoder: nn.Module, images: Tensor, stage: str | None = None) -> Tensor:
    """The encoder's map of features instead of their pooled vector, with its gradient.

    What the encoder does to the map afterwards is left out: ResNets take its mean, others also normalise it. Tokens of
    transformers are laid out as the patches lie in the picture; tokens of no patch (class, register) are left out.

    Cell (i, j) of h x w cells stands for the pixels from (i H / h, j W / w) to ((i + 1) H / h, (j + 1) W / w). Those
    are a ViT's patches; the receptive fields of ResNets are larger, and centred at the upper left corner of their
    cells, since their strided convolutions begin at the first pixel.

    Args:
        encoder: any of ``build_encoder``, or of your own.
        images: (N, C, H, W) float, as the encoder takes them.
        stage: part of the encoder whose output is wanted, as ``encoder.named_modules()`` names it: layer3, blocks.5.
            None: the last one.

    Returns:
        (N, F, h, w), of the dtype that the encoder computes in.

    Raises:
        InputError: if there is no such stage, or what it gives is no map.

    Example:
        >>> import torch
        >>> from simclr_lightning.models import build_encoder
        >>> encoder = build_encoder("resnet18", width=0.25)
        >>> feature_map(encoder, torch.rand(2, 3, 64, 96)).shape
        torch.Size([2, 128, 2, 3])
        >>> feature_map(encoder, torch.rand(2, 3, 64, 96), "layer2").shape
        torch.Size([2, 32, 8, 12])
    """
    if stage is not None:
        return feature_maps(encoder, images, [stage])[stage]
    if hasattr(encoder, "forward_features"):  # timm's
        features: Any = encoder.forward_features
        return _as_map(encoder, features(images), images, "forward_features")
    names = dict(encoder.named_children())
    last = next((name for name in LAST_STAGES if name in names), None)
    if last is None:
        raise InputError(
            f"Which part of the encoder {type(encoder).__name__} gives its last map is not known: name one "
            f"(stage, --stage). It has {', '.join(names) or 'no parts'}."
        )
    return feature_maps(encoder, images, [last])[last]


def feature_maps(encoder: nn.Module, images: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    """The maps of several stages in one pass, as a feature pyramid takes them; see :func:`feature_map`.

    Args:
        encoder: any of ``build_encoder``, or of your own.
        images: (N, C, H, W) float, as the encoder takes them.
        stages: parts of the encoder whose outputs are wanted.

    Returns:
        Stage -> (N, F, h, w).

    Raises:
        InputError: if there is no such stage, or what it gives is no map.

    Example:
        >>> import torch
        >>> from simclr_lightning.models import build_encoder
        >>> maps = feature_maps(build_encoder("resnet10"), torch.rand(2, 3, 64, 64), ["layer2", "layer3", "layer4"])
        >>> [tuple(own.shape[1:]) for own in maps.values()]
        [(128, 8, 8), (256, 4, 4), (512, 2, 2)]
    """
    parts = dict(encoder.named_modules())
    unknown = [stage for stage in stages if not stage or stage not in parts]
    if unknown:
        raise InputError(
            f"The encoder {type(encoder).__name__} has no stage {unknown[0]!r}: choose one of "
            f"{', '.join(name for name, _ in encoder.named_children())}, or a part of these (stage, --stage)."
        )
    found: dict[str, Any] = {}

    def keep(stage: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            # Some networks go on in place: DenseNet's rectifier.
            found[stage] = output.clone() if isinstance(output, Tensor) else output

        return hook

    handles = [parts[stage].register_forward_hook(keep(stage)) for stage in stages]
    try:
        encoder(images)
    finally:
        for handle in handles:
            handle.remove()
    return {stage: _as_map(encoder, found.get(stage), images, stage) for stage in stages}


def _as_map(encoder: Any, output: Any, images: Tensor, stage: str) -> Tensor:
    """What a stage gives as (N, F, h, w), whether it is that, (N, h, w, F), or tokens (N, T, F)."""
    height, width = images.shape[-2:]
    if isinstance(output, Tensor) and output.ndim == 4:
        shape = output.shape
        lies_last = not _alike(shape[2], shape[3], height, width) and _alike(shape[1], shape[2], height, width)
        return output.permute(0, 3, 1, 2) if lies_last else output
    if isinstance(output, Tensor) and output.ndim == 3:
        told = getattr(encoder, "num_prefix_tokens", None)
        for before in (0, 1) if told is None else (told,):
            tokens = output.shape[1] - before
            side = math.sqrt(height * width / max(tokens, 1))  # of a patch, in pixels
            rows, columns = round(height / side), round(width / side)
            if tokens == rows * columns:
                return output[:, before:].transpose(1, 2).reshape(len(output), -1, rows, columns)
    given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise InputError(
        f"The stage {stage} of the encoder {type(encoder).__name__} gives no map (N, F, h, w), and no tokens that lie "
        f"like the pixels of {height} x {width}, but {given}: name another one (stage, --stage)."
    )


def _alike(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether a map has the picture's shape, but for what is rounded."""
    return abs(rows * width - columns * height) < max(height, width)
