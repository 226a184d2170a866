"""Checkpoints: read without running code that is in them, loaded completely or not at all."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

Model = TypeVar("Model", bound=LightningModule)


def read_checkpoint(path: str | Path) -> Any:
    """Read a file of ``torch.save``, on the CPU, if it holds nothing but tensors and plain values.

    Raises:
        FileNotFoundError: if there is no such file.
        pickle.UnpicklingError: if it holds objects of other classes, which are named, or is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: give the path of a .ckpt file (--ckpt_path).")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        if not classes:
            raise pickle.UnpicklingError(f"{path} is not a file that torch.load can read safely: {error}") from error
        raise pickle.UnpicklingError(
            f"{path} holds objects of {', '.join(classes)}. It is read with weights_only=True, which refuses them: to "
            "load them is to run code that the file names. If you trust its origin, keep the weights alone, in an "
            f"environment that has these classes: torch.save({{'state_dict': torch.load({str(path)!r}, "
            "weights_only=False)['state_dict']}, 'weights.ckpt')"
        ) from error


def load_model(model_class: type[Model], path: str | Path) -> Model:
    """Build the model that a checkpoint of :class:`~simclr_lightning.SimCLR` or a subclass describes, and load it.

    Args:
        model_class: class of the model.
        path: a checkpoint of it, from the command line or from Python.

    Returns:
        The model, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
        ValueError: if it does not tell its hyperparameters, is one of another class, or if a tensor is missing,
            superfluous or of another shape: the message names them.
    """
    checkpoint = read_checkpoint(path)
    hyperparameters = checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
    if not {"encoder", "projection_layers"} <= hyperparameters.keys():  # which SimCLR.__init__ saves
        raise ValueError(
            f"{path} does not tell its architecture, as the checkpoints of {model_class.__name__} do. If another "
            "program wrote it, name what it holds: load_encoder(path, encoder='resnet50'), with stem, width and "
            "in_channels where they are not the usual ones."
        )
    origin = hyperparameters.get("_class_path", model_class.__name__)  # only the command line leaves it there
    if origin.rpartition(".")[2] != model_class.__name__:
        raise ValueError(
            f"{path} is a checkpoint of {origin}, not of {model_class.__name__}: load it with that class "
            f"(simclr export --model {origin})."
        )
    try:
        model = model_class.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:  # torch names the tensors
        raise ValueError(
            f"The checkpoint {path} does not fit the model {model_class.__name__} that its hyperparameters describe; "
            f"it must be loaded with the class that wrote it. {error}"
        ) from error
    return model


def mismatches(model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> list[str]:
    """What keeps a checkpoint's weights from fitting a model: one clause for each kind of trouble, with names.

    Args:
        model: state dict of the model.
        checkpoint: state dict to load.

    Returns:
        An empty list where names and shapes are the same.
    """
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
    return [f"{kind}: {listed(names)}" for kind, names in kinds.items() if names]


def listed(names: Collection[str], most: int = 10) -> str:
    """The first names in alphabetical order, and how many there are besides."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest


def run_of(path: str | Path) -> Path | None:
    """Folder of the run that a checkpoint is from, None unless it lies in a folder named ``checkpoints``."""
    folder = Path(path).parent
    if folder.resolve().name != "checkpoints":
        return None
    return (folder if folder.name else folder.resolve()).parent
