"""What is wrong with a checkpoint that can be read, but is none of Lightning, or not of this training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from simclr_lightning.compat import explain_restoring
from simclr_lightning.errors import InputError
from simclr_lightning.models.state_dicts import without_numbers

_LENGTH = 300
"""Characters that are told of another package's error."""

_OF_A_TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks")


def check_numbers(weights: Mapping[str, object], path: str | Path) -> None:
    """Refuse weights that hold NaN.

    Raises:
        InputError: naming the first of them.

    Example:
        >>> import torch
        >>> check_numbers({"bias": torch.zeros(2)}, "last.ckpt")
    """
    names = without_numbers(weights)
    if names:
        raise InputError(
            f"{path} holds NaN in {names[0]}{f' and {len(names) - 1} other tensors' if names[1:] else ''}: the "
            "training diverged before it was written. Name a checkpoint from before, and lower the learning rate."
        )


def lightning_content(content: Any, path: str | Path) -> dict[str, Any]:
    """The content of a file, if it has the form of Lightning's checkpoints.

    Raises:
        InputError: if it has not: the message says what to do with weights alone.

    Example:
        >>> lightning_content({"fc.bias": 0}, "resnet.pth")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: resnet.pth is no checkpoint of Lightning: pytorch-lightning_version is \
missing or broken. Name another one; a training begins from weights alone by --model.init_from resnet.pth.
    """
    wrong = None
    if not isinstance(content, dict):
        wrong = f"it holds a {type(content).__name__}"
    elif not re.match(r"\d+\.\d+", str(content.get("pytorch-lightning_version"))):
        wrong = "pytorch-lightning_version is missing or broken"
    else:
        known: dict[str, type] = {"state_dict": dict, "hyper_parameters": dict, "callbacks": dict, "loops": dict}
        known |= {"optimizer_states": list, "lr_schedulers": list}
        for name, kind in known.items():
            if not isinstance(content.get(name, None if name == "state_dict" else kind()), kind):
                wrong = f"{name} is missing or broken"
    if wrong is not None:
        raise InputError(
            f"{path} is no checkpoint of Lightning: {wrong}. Name another one; a training begins from weights alone by "
            f"--model.init_from {path}."
        )
    return content  # type: ignore[no-any-return]


def explain_misfits(trainer: Trainer) -> None:
    """Let a Trainer say what is wrong with a checkpoint that it cannot restore, instead of what failed within it.

    Args:
        trainer: before it restores anything.

    Example:
        >>> explain_misfits(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    """

    def trains() -> bool:
        return trainer.state.fn == TrainerFn.FITTING

    def check(content: dict[str, Any]) -> None:
        if trains() and trainer.strategy.lightning_restore_optimizer:
            check_training_state(content, len(trainer.optimizers))

    def explain(error: Exception, content: dict[str, Any]) -> InputError | None:
        return misfit(error, content, trainer.ckpt_path, training=trains())

    explain_restoring(trainer, check, explain)


def misfit(error: Exception, content: dict[str, Any], path: object, *, training: bool) -> InputError | None:
    """What to say where a checkpoint could not be restored; None where the error says it itself.

    Args:
        error: of Lightning or torch.
        content: of the checkpoint.
        path: of its file.
        training: whether a training was to go on.

    Example:
        >>> print(misfit(KeyError("optimizer_states"), {"state_dict": {}}, "a.ckpt", training=True))
        a.ckpt holds weights, and no optimizer_states, lr_schedulers, loops, callbacks: no training goes on from it.
        To begin one from its encoder: --model.init_from a.ckpt
    """
    if isinstance(error, InputError | MisconfigurationException):
        return None
    missing = [name for name in _OF_A_TRAINING if name not in content]
    if training and missing:
        return InputError(
            f"{path} holds weights, and no {', '.join(missing)}: no training goes on from it.\nTo begin one from its "
            f"encoder: --model.init_from {path}"
        )
    told = " ".join(f"{type(error).__name__}: {error}".split())
    told = told if len(told) <= _LENGTH else f"{told[:_LENGTH]} ..."
    return InputError(
        f"The checkpoint {path} does not fit: {told}\nName another one, or type the settings that it was trained with "
        "(--config with the config.yaml of its run)."
    )


def check_training_state(content: dict[str, Any], optimizers: int) -> None:
    """Refuse to go on from a state that is not all there, which Lightning would not notice.

    Raises:
        KeyError: for :func:`misfit`, if a part is missing.
        ValueError: if it is of another number of optimizers.

    Example:
        >>> check_training_state({"optimizer_states": []}, 1)
        Traceback (most recent call last):
        KeyError: 'lr_schedulers'
    """
    for name in _OF_A_TRAINING:
        if name not in content:
            raise KeyError(name)
    if not {"epoch_progress", "epoch_loop.batch_progress"} <= content["loops"].get("fit_loop", {}).keys():
        raise KeyError("fit_loop")  # where it was
    if len(content["optimizer_states"]) != optimizers:
        raise ValueError(f"it is of {len(content['optimizer_states'])} optimizers, and {optimizers} are trained")
