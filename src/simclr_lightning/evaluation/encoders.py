"""The encoder of any checkpoint of ours."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from simclr_lightning.checkpoints import load_model, read_checkpoint
from simclr_lightning.evaluation.finetune import FineTune
from simclr_lightning.evaluation.linear import LinearEvaluation
from simclr_lightning.evaluation.supervised import Supervised
from simclr_lightning.simclr import SimCLR


def encoder_of(path: str | Path, model_class: type[SimCLR] = SimCLR) -> nn.Module:
    """Load the encoder from a checkpoint of SimCLR, LinearEvaluation, FineTune or Supervised: all of it, or nothing.

    Args:
        path: the checkpoint, which is read without running code in it.
        model_class: class of the pre-trained model, where it is not SimCLR.

    Returns:
        The encoder, from pictures (N, C, H, W) to features (N, F), in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
        ValueError: if it is of another class, or a tensor is missing, superfluous or of another shape.
    """
    checkpoint = read_checkpoint(path)
    wrote = checkpoint.get("classifier") if isinstance(checkpoint, dict) else None
    if wrote is None:
        return load_model(model_class, path).encoder.eval()
    try:
        match wrote:
            case "LinearEvaluation" | "FineTune":
                classifier_class = LinearEvaluation if wrote == "LinearEvaluation" else FineTune
                return classifier_class.load_from_checkpoint(
                    path, map_location="cpu", weights_only=True, model_class=model_class
                ).encoder.eval()
            case "Supervised":
                return Supervised.load_from_checkpoint(path, map_location="cpu", weights_only=True).encoder.eval()
    except RuntimeError as error:  # torch names the tensors
        raise ValueError(f"The checkpoint {path} does not fit the {wrote} that it describes. {error}") from error
    raise ValueError(
        f"{path} is a checkpoint of {wrote}, none of the package's own classes: load it in Python, "
        f"{wrote}.load_from_checkpoint({str(path)!r}).encoder."
    )
