"""From a checkpoint to its model: loaded completely or not at all, and of a class that the program has imported."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextvars import Context
from pathlib import Path
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from simclr_lightning.checkpoints.file import Checkpoint, read_checkpoint, upgraded
from simclr_lightning.checkpoints.misfit import check_numbers
from simclr_lightning.compat import INSTANTIATOR
from simclr_lightning.errors import InputError
from simclr_lightning.models.state_dicts import mismatches, without_numbers

Model = TypeVar("Model", bound=LightningModule)

Architecture = dict[str, Any]
"""``model_class``, the import path of a class, and its ``hyperparameters``: primitives, for checkpoints."""


def load_model(model_class: type[Model], checkpoint: Checkpoint | str | Path) -> Model:
    """Build the model that a checkpoint of :class:`~simclr_lightning.SimCLR` or a subclass describes, and load it.

    Args:
        model_class: class of the model.
        checkpoint: of it, from the command line or from Python.

    Returns:
        The model, on the CPU.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it cannot be read, does not tell its hyperparameters, is one of another class, or if a tensor is
            missing, superfluous or of another shape: the message names them.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> model = SimCLR("resnet8", width=0.125)
        >>> content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
        >>> load_model(SimCLR, Checkpoint(Path("last.ckpt"), content)).feature_dim
        32
    """
    checkpoint = as_read(checkpoint)
    path, hyperparameters, name = checkpoint.path, checkpoint.hyperparameters, model_class.__name__
    if not {"encoder", "projection_layers"} <= hyperparameters.keys():  # which SimCLR.__init__ saves
        raise InputError(
            f"{path} does not tell its architecture, as the checkpoints of {name} do. If another program wrote it, "
            "name what it holds: load_encoder(path, encoder='resnet50'), with stem, width and in_channels where they "
            "are not the usual ones."
        )
    origin = checkpoint.class_path
    if origin is not None and not _names(origin, model_class):
        raise InputError(
            f"{path} is a checkpoint of {origin}, not of {name}: load it with that class (simclr export --model "
            f"{origin}). Nothing is imported because a file names it."
        )
    return load_module(model_class, checkpoint)


def load_module(
    model_class: type[Model], checkpoint: Checkpoint | str | Path, *, strict: bool | None = None, **arguments: Any
) -> Model:
    """Build the module that a checkpoint describes, of a class that need not be SimCLR, and load it.

    Args:
        model_class: its class; what the file says of it is not followed.
        checkpoint: of it, from the command line or from Python.
        strict: whether all tensors must be there, and no others; None: as the model says (``strict_loading``).
        arguments: of the constructor, instead of those in the checkpoint.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it cannot be read, names a function or a class that would have to be run or imported, or a tensor
            is missing, superfluous or of another shape: the message names them.

    Example:
        >>> from simclr_lightning import Supervised
        >>> model = Supervised("resnet8", width=0.125, num_classes=3)
        >>> content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
        >>> load_module(Supervised, Checkpoint(Path("last.ckpt"), content)).hparams["num_classes"]
        3
    """
    checkpoint = as_read(checkpoint)
    told = {**checkpoint.hyperparameters, **arguments}
    instantiator = told.get(INSTANTIATOR)
    if instantiator not in (None, "lightning.pytorch.cli.instantiate_module"):
        raise InputError(
            f"{checkpoint.path} names a function {instantiator}, which would build the model. It is not called: "
            "nothing is imported or run because a file names it."
        )
    check_numbers(checkpoint.state_dict, checkpoint.path)
    model = build_model(model_class, told)
    model.configure_model()
    content = {**checkpoint.content, "state_dict": dict(checkpoint.state_dict)}  # which the model may change
    model.on_load_checkpoint(content)
    problems = load_weights(
        model, content["state_dict"], strict=bool(model.strict_loading if strict is None else strict)
    )
    if problems:
        raise InputError(
            f"The checkpoint {checkpoint.path} does not fit the model {model_class.__name__} that its hyperparameters "
            f"describe; it must be loaded with the class that wrote it. {problems}"
        )
    return model


def architecture_of(model: LightningModule) -> Architecture:
    """Describe a model, so that one without its weights can be built again, for whom its loss does not matter.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> architecture_of(SimCLR("resnet8", width=0.125))["model_class"]
        'simclr_lightning.simclr.SimCLR'
    """
    # The command line would make an object of a class path.
    told = model.hparams.items()
    hyperparameters = {name: value for name, value in told if name != "loss" and not name.startswith("_")}
    return {"model_class": import_path(type(model)), "hyperparameters": hyperparameters}


def build_described(model_class: type[Model], architecture: Architecture) -> Model:
    """Build a model that :func:`architecture_of` has described, with the weights that its constructor gives it.

    Args:
        model_class: its class: nothing is imported because a file names it.
        architecture: from a checkpoint.

    Raises:
        InputError: if it is of another class.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> build_described(SimCLR, architecture_of(SimCLR("resnet8", width=0.125))).feature_dim
        32
    """
    path, described = import_path(model_class), architecture["model_class"]
    if described != path:
        raise InputError(
            f"The encoder is that of {described}, not of {path}: name its class, as load_from_checkpoint(path, "
            f"model_class={described.rpartition('.')[2]}) or --model.model_class {described}."
        )
    return build_model(model_class, upgraded(architecture["hyperparameters"]))


def build_model(model_class: type[Model], hyperparameters: Mapping[str, Any]) -> Model:
    """Build a model from what a checkpoint tells, with the weights that its constructor gives it.

    Args:
        model_class: its class. What its constructor does not take is left out: the arguments of a base class, say.
        hyperparameters: arguments, and what else is saved with them.

    Raises:
        InputError: if an argument names a class that is not imported.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> build_model(SimCLR, {"encoder": "resnet8", "width": 0.125, "argument_of_a_base_class": 1}).feature_dim
        32
    """
    parameters = inspect.signature(model_class).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    arguments = {
        name: value
        for name, value in hyperparameters.items()
        if not name.startswith("_") and (takes_all or name in parameters)
    }

    def build() -> Model:
        nested = {name: value for name, value in arguments.items() if name != "loss" and isinstance(value, dict)}
        if INSTANTIATOR not in hyperparameters or not nested:
            return model_class(**arguments)
        for class_path in _class_paths(nested):
            if _imported(class_path) is None:
                raise InputError(
                    f"The checkpoint names the class {class_path}, and nothing is imported because a file names it: "
                    f"import {class_path.rpartition('.')[0]} first."
                )
        parser = ArgumentParser(exit_on_error=False)  # as the command line made objects of nested arguments
        parser.add_class_arguments(model_class, "model", fail_untyped=False)
        return parser.instantiate(parser.parse_object({"model": arguments})).model  # type: ignore[no-any-return]

    # In a context of its own: LightningCLI hands the hyperparameters that it parsed for a model, by a context variable,
    # to every other one that is made in its constructor.
    return Context().run(build)


def fitting_weights(model: LightningModule, checkpoint: Checkpoint | str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, if they fit a model exactly.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> model = SimCLR("resnet8", width=0.125)
        >>> weights = fitting_weights(model, Checkpoint(Path("last.ckpt"), {"state_dict": model.state_dict()}))
        >>> weights.keys() == model.state_dict().keys()
        True

    Args:
        model: of the same architecture; it keeps its own weights.
        checkpoint: of Lightning.

    Returns:
        What the model's ``load_state_dict`` takes.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it cannot be read, is no Lightning checkpoint, or a tensor is missing, superfluous or of another
            shape: the message names them.
    """
    checkpoint = as_read(checkpoint)
    if "state_dict" not in checkpoint.content:
        raise InputError(f"{checkpoint.path} is not a Lightning checkpoint: it has no state_dict.")
    content = {**checkpoint.content, "state_dict": dict(checkpoint.state_dict)}  # which the model may change
    model.on_load_checkpoint(content)
    weights: dict[str, Tensor] = content["state_dict"]
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    problems = load_weights(model, weights)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in own:
                tensor.copy_(own[name])
    if problems:
        raise InputError(
            f"The checkpoint {checkpoint.path} does not fit the model {type(model).__name__}: {problems}. Build the "
            "model with the arguments it was trained with (the config.yaml of its run)."
        )
    return weights


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> str:
    """Load a state dict, and say what keeps it from fitting: an empty text where it does.

    Example:
        >>> load_weights(nn.Linear(2, 1), {"weight": torch.zeros(1, 2)})
        'missing from the checkpoint: bias'
    """
    try:
        module.load_state_dict(weights, strict=strict)
    except RuntimeError as error:  # torch names the tensors, on a line each
        return "; ".join(mismatches(module.state_dict(), weights)) or str(error).splitlines()[0]
    diverged = without_numbers(weights)
    return f"NaN in {', '.join(diverged[:3])}: the training diverged" if diverged else ""


def as_read(checkpoint: Checkpoint | str | Path) -> Checkpoint:
    """Read the checkpoint of a path.

    Example:
        >>> checkpoint = Checkpoint(Path("last.ckpt"), {"state_dict": {}})
        >>> as_read(checkpoint) is checkpoint
        True
    """
    return checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)


def import_path(kind: type) -> str:
    """Module and name of a class.

    Example:
        >>> import_path(Path)
        'pathlib.Path'
    """
    return f"{kind.__module__}.{kind.__qualname__}"


def _names(class_path: str, kind: type) -> bool:
    """Whether a path leads to a class, among what was imported; a script that was run may have become a module."""
    package, _, name = class_path.rpartition(".")
    return _imported(class_path) is kind or (package == "__main__" and name == kind.__name__)


def _imported(class_path: str) -> Any:
    package, _, name = class_path.rpartition(".")
    return getattr(sys.modules.get(package), name, None)


def _class_paths(value: Any) -> Iterator[str]:
    """Every class that is named in nested arguments."""
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _class_paths(item)
