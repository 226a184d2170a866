"""A checkpoint's weights, completely or not at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch import Tensor


def fitting_weights(model: LightningModule, path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, if they fit a model exactly.

    Args:
        model: of the same architecture; it is not changed.
        path: a Lightning checkpoint, which is read with ``weights_only=True``.

    Returns:
        What the model's ``load_state_dict`` takes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no Lightning checkpoint, or a tensor is missing, superfluous or of another shape: the
            message names them.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: give the path of a .ckpt file (--ckpt_path).")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a Lightning checkpoint: it has no state_dict.")
    model.on_load_checkpoint(checkpoint)
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    mismatches = _mismatches(model.state_dict(), weights)
    if mismatches:
        raise ValueError(
            f"The checkpoint {path} does not fit the model {type(model).__name__}: {'; '.join(mismatches)}. Build the "
            "model with the arguments it was trained with (the config.yaml of its run)."
        )
    return weights


def _mismatches(model: dict[str, Tensor], checkpoint: dict[str, Tensor]) -> list[str]:
    shapes = [
        f"{name} ({tuple(checkpoint[name].shape)} instead of {tuple(model[name].shape)})"
        for name in model.keys() & checkpoint.keys()
        if model[name].shape != checkpoint[name].shape
    ]
    kinds: dict[str, Collection[str]] = {
        "missing from the checkpoint": model.keys() - checkpoint.keys(),
        "unknown to the model": checkpoint.keys() - model.keys(),
        "of another shape": shapes,
    }
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: Collection[str], most: int = 10) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest
