"""What a classifier starts from: a pre-trained model, or the description of one."""

from __future__ import annotations

import inspect
from contextvars import Context
from pathlib import Path
from typing import Any

from simclr_lightning.checkpoints import load_model
from simclr_lightning.simclr import SimCLR

Architecture = dict[str, Any]
"""``model_class``, the import path of a SimCLR class, and its ``hyperparameters``: primitives, for checkpoints."""


def architecture_of(model: SimCLR) -> Architecture:
    """Describe a model, so that one without its weights can be built again."""
    hyperparameters = {name: value for name, value in model.hparams.items() if not name.startswith("_")}
    return {"model_class": _import_path(type(model)), "hyperparameters": hyperparameters}


def starting_model(
    checkpoint: str | Path | None, architecture: Architecture | None, model_class: type[SimCLR]
) -> SimCLR:
    """Load the model of a checkpoint, or build the one that is described, with random weights.

    Args:
        checkpoint: of pre-training. It is not read where there is an architecture.
        architecture: what a classifier's own checkpoint keeps, from which the weights then come.
        model_class: class of the model; nothing is imported because a file names it.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        pickle.UnpicklingError: if it holds more than tensors and plain values.
        ValueError: if neither is given, or the checkpoint or the architecture is not of this class, or not complete.
    """
    if architecture is not None:
        path = _import_path(model_class)
        if architecture["model_class"] != path:
            raise ValueError(
                f"The encoder is that of {architecture['model_class']}, not of {path}: name its class, as "
                f"load_from_checkpoint(path, model_class={architecture['model_class'].rpartition('.')[2]}) or "
                f"--model.model_class {architecture['model_class']}."
            )
        accepted = inspect.signature(model_class).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        # Those of a base class are among them; load_from_checkpoint, too, passes on what the class accepts.
        settings = architecture["hyperparameters"].items()
        return _unobserved(model_class, **{name: value for name, value in settings if takes_all or name in accepted})
    if checkpoint is None:
        raise ValueError(
            "Which encoder? Name the checkpoint of a pre-trained model: --model.checkpoint "
            "runs/simclr/version_0/checkpoints/last.ckpt. To train one from scratch: --model Supervised."
        )
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {str(checkpoint)!r}: name that of a pre-trained model, such as --model.checkpoint "
            "runs/simclr/version_0/checkpoints/last.ckpt."
        )
    return _unobserved(load_model, model_class, checkpoint)


def _unobserved(make: Any, *arguments: Any, **options: Any) -> SimCLR:
    """Make a model inside of another one's constructor.

    LightningCLI hands the hyperparameters that it parsed for the outer model, by a context variable, to every model
    that is made meanwhile; the inner one has its own.
    """
    model: SimCLR = Context().run(make, *arguments, **options)
    return model


def _import_path(model_class: type) -> str:
    return f"{model_class.__module__}.{model_class.__qualname__}"
