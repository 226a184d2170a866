"""The model card of an exported encoder: what somebody must know who has nothing else but the file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from simclr_lightning.checkpoints import Checkpoint, plain_scale
from simclr_lightning.export.formats import Exporter
from simclr_lightning.simclr import SimCLR
from simclr_lightning.versions import version_of

_OF_THE_MACHINE = {
    "cache",
    "compile_encoder",
    "download",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "probe",
    "root",
}
"""Hyperparameters that say nothing of the features, and paths, which are nobody's business."""


def model_card(
    file: str,
    exporter: Exporter,
    loading: str,
    *,
    checkpoint: Checkpoint,
    model: SimCLR,
    input_shape: tuple[int, ...],
    feature_dim: int,
    difference: float,
    notes: str = "",
) -> str:
    """Write the model card, in Markdown.

    What comes from the checkpoint is shown as text: it cannot become markup, nor a control sequence of a terminal.

    Args:
        file: name of the exported file.
        exporter: its format.
        loading: Python that loads the file as ``encoder``.
        checkpoint: that was exported.
        model: the model that it holds.
        input_shape: (C, H, W) of the pictures that the file was checked with.
        feature_dim: length F of the features.
        difference: that was found by the check.
        notes: Markdown that follows the code.

    Example:
        >>> from pathlib import Path
        >>> from simclr_lightning.export.formats import FORMATS
        >>> model = SimCLR(encoder="resnet8", width=0.125, image_size=16)
        >>> checkpoint = Checkpoint(Path("last.ckpt"), {"global_step": 500, "pytorch-lightning_version": "2.6.0"})
        >>> checked = {"input_shape": (3, 16, 16), "feature_dim": 64, "difference": 0.0}
        >>> card = model_card("a.pt2", FORMATS["torch_export"], "...", checkpoint=checkpoint, model=model, **checked)
        >>> card.splitlines()[0], "500 optimizer steps" in card
        ('# a.pt2', True)
    """
    channels, height, width = input_shape
    settings = yaml.safe_dump(_hyperparameters(checkpoint), sort_keys=False, allow_unicode=True).strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", settings)), default=0))  # longer than any within
    parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    packages = ["simclr-lightning", "torch", "torchvision", *exporter.packages]
    versions = ", ".join(f"{package} {version_of(package)}" for package in packages)
    return f"""# {file}

An encoder for pictures, pre-trained without labels by SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709):
{_architecture(model)}, {parameters / 1e6:.2f} million parameters, without the projection head.

* Format: {exporter.meaning}.
* Input: pictures (N, {channels}, {height}, {width}), float32. {_range(checkpoint)}
* Output: features (N, {feature_dim}), float32, not normalised to unit length.
* Checked: loaded as below, it gives the features of the checkpoint on random pictures, within {difference:.0e} of the
  largest one.

## Use

```python
{loading}
features = encoder(torch.rand(1, {channels}, {height}, {width}))  # (1, {feature_dim})
```

{notes}{chr(10) if notes else ""}## Pre-training

{_plain(checkpoint.content["global_step"])} optimizer steps, with these settings:

{fence}yaml
{settings}
{fence}

## Versions

Exported with {versions}; trained with Lightning {_plain(checkpoint.content["pytorch-lightning_version"])}.

## Licence

Not stated yet. Name the licence of the weights here, and the terms of the pictures that they were learned from, before
you pass the file on.
"""


def _architecture(model: SimCLR) -> str:
    if type(model).build_encoder is not SimCLR.build_encoder:
        return f"the {type(model.encoder).__name__} of {type(model).__name__}"
    width, grid = model.hparams["width"], model.hparams["pool_grid"]
    fields = f" with features of {grid} x {grid} fields" if grid != 1 else ""
    return str(model.hparams["encoder"]) + (f" of width {width:g}" if width != 1 else "") + fields


def _range(checkpoint: Checkpoint) -> str:
    return _normalisation(checkpoint) + _black_and_white(checkpoint)


def _black_and_white(checkpoint: Checkpoint) -> str:
    """What became 0 and 1 of pictures whose values are no bytes."""
    scale = plain_scale(checkpoint.data)
    if isinstance(scale, list):
        return f" Of the pictures' own values, {_plain(scale[0])} is 0 and {_plain(scale[1])} is 1; others are clipped."
    return "" if scale is None else " The ends of the range of the pictures' type are 0 and 1."


def _normalisation(checkpoint: Checkpoint) -> str:
    told = checkpoint.clean_pictures
    if told.get("normalize") == "picture":
        return "Each channel of each picture less its own mean, divided by its own standard deviation."
    if "mean" not in told:
        return "The checkpoint does not tell their range; [0, 1] is usual."
    if told["mean"] is None:
        return "Values in [0, 1], neither centred nor scaled."
    mean, std = _plain(told["mean"]), _plain(told.get("std"))
    return f"Values in [0, 1], less the mean {mean}, divided by the standard deviation {std}."


def _plain(value: Any) -> str:
    """A number, numbers or a version in words, without what Markdown, HTML or a terminal would not take as text."""
    return re.sub(r"[^\w\[\](),.+ -]", "", str(value))


def _hyperparameters(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    return {
        part: {
            name: value for name, value in values.items() if not name.startswith("_") and name not in _OF_THE_MACHINE
        }
        for part, values in (("model", checkpoint.hyperparameters), ("data", checkpoint.data))
        if values
    }
