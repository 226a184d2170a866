"""An encoder that keeps its weights and statistics while the head learns, whatever the optimizer and the strategy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from simclr_lightning.compat import trainer_of
from simclr_lightning.errors import InputError


def check_freeze_epochs(epochs: float, layers: int | None = None) -> None:
    """Raise InputError unless ``epochs`` is a finite number of at least 0, and something learns meanwhile.

    Args:
        epochs: in which the encoder is frozen.
        layers: of the head; None where they are more than none.

    Example:
        >>> check_freeze_epochs(-1)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: freeze_epochs is -1: choose 0 (never), or more (--model.freeze_epochs 1).
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not (epochs >= 0 and math.isfinite(epochs)):
        raise InputError(f"freeze_epochs is {epochs!r}: choose 0 (never), or more", "model.freeze_epochs 1")
    if epochs and layers == 0:
        raise InputError(
            f"freeze_epochs is {epochs} and projection_layers is 0: without a head nothing would learn meanwhile",
            "model.freeze_epochs 0",
            "model.projection_layers 2",
        )


def freeze(model: LightningModule, encoder: nn.Module, batch_idx: int, *, was: bool) -> bool:
    """Keep an encoder in evaluation mode within the first ``freeze_epochs``, and let it train when they end.

    Whether they have ended is a function of the training's progress alone, also after a resume. Data without a length
    have whole epochs only. Without a Trainer there is no progress, and nothing is frozen.

    Args:
        model: in training; ``freeze_epochs`` is a hyperparameter of it.
        encoder: its statistics stay in evaluation mode; for its weights, see :func:`with_unused`.
        batch_idx: of the coming batch in its epoch.
        was: whether the encoder was frozen for the batch before.

    Returns:
        Whether it is frozen now.

    Example:
        >>> freeze(LightningModule(), nn.BatchNorm2d(3), batch_idx=0, was=False)
        False
    """
    frozen = _is_frozen(model, batch_idx)
    if frozen:
        encoder.eval()
    elif was:
        encoder.train()
    return frozen


def _is_frozen(model: LightningModule, batch_idx: int) -> bool:
    epochs = model.hparams.get("freeze_epochs", 0)
    trainer = trainer_of(model)
    if not epochs or trainer is None:
        return False
    batches = trainer.num_training_batches
    part = batch_idx / batches if batches and math.isfinite(batches) else 0.0
    return bool(model.current_epoch + part < epochs)


def with_unused(outputs: dict[str, Tensor], parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """A step's outputs, whose loss' backward pass reaches parameters that it does not depend on, without a gradient.

    ``DistributedDataParallel`` waits for every parameter, and makes zeros for those without a gradient:
    :func:`without_gradients` drops these afterwards.

    Args:
        outputs: with a ``loss`` ().
        parameters: of any shapes.

    Example:
        >>> weight, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(2))
        >>> with_unused({"loss": weight.sum()}, [other])["loss"].backward()
        >>> weight.grad, other.grad
        (tensor([1.]), None)
    """
    return {**outputs, "loss": _WithUnused.apply(outputs["loss"], *parameters)}


def without_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Drop gradients, so that no optimizer decays or moves these parameters, nor clipping counts them.

    Example:
        >>> weight = nn.Parameter(torch.ones(1))
        >>> weight.sum().backward()
        >>> without_gradients([weight])
        >>> weight.grad is None
        True
    """
    for parameter in parameters:
        parameter.grad = None


class _WithUnused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.count = len(parameters)
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.count
