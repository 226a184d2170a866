"""A checkpoint's weights, completely or not at all."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule
from torch import Tensor

from simclr_lightning.checkpoints import mismatches, read_checkpoint


def fitting_weights(model: LightningModule, path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, if they fit a model exactly.

    Args:
        model: of the same architecture; it is not changed.
        path: a Lightning checkpoint, which is read with ``weights_only=True``.

    Returns:
        What the model's ``load_state_dict`` takes.

    Raises:
        FileNotFoundError: if there is no such file.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
        ValueError: if it is no Lightning checkpoint, or a tensor is missing, superfluous or of another shape: the
            message names them.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a Lightning checkpoint: it has no state_dict.")
    model.on_load_checkpoint(checkpoint)
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    problems = mismatches(model.state_dict(), weights)
    if problems:
        raise ValueError(
            f"The checkpoint {path} does not fit the model {type(model).__name__}: {'; '.join(problems)}. Build the "
            "model with the arguments it was trained with (the config.yaml of its run)."
        )
    return weights
