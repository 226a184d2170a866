"""Optimizers by name, with the arguments that a recipe tells."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch.optim import Optimizer

from simclr_lightning.errors import InputError, check_number
from simclr_lightning.optim.lars import LARS

OptimizerName = Literal["lars", "sgd", "adamw"]
"""The paper's optimizer, SGD with Nesterov momentum, or AdamW."""


def check_optimizer(
    name: str,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    *,
    choice: tuple[str, ...] = get_args(OptimizerName),
) -> None:
    """Raise InputError unless ``name`` is one of ``choice`` and the numbers are in their ranges.

    Example:
        >>> check_optimizer("adam")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: optimizer is 'adam': choose lars, sgd, adamw (--model.optimizer).
        >>> check_optimizer("sgd", momentum=1.5)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: momentum is 1.5: choose a number of at least 0 and below 1 \
(--model.momentum 0.9).
    """
    if name not in choice:
        raise InputError(f"optimizer is {name!r}: choose {', '.join(choice)}", "model.optimizer")
    check_number("learning_rate", learning_rate, "model.learning_rate 0.1", above=0)
    check_number("momentum", momentum, "model.momentum 0.9", least=0, below=1)
    check_number("weight_decay", weight_decay, "model.weight_decay 1e-6", least=0)
    check_number("trust_coefficient", trust_coefficient, "model.trust_coefficient 0.001", above=0)


def build_optimizer(
    name: OptimizerName,
    groups: list[dict[str, Any]],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    trust_coefficient: float = 1e-3,
) -> Optimizer:
    """Optimizer of some parameter groups, such as those of :func:`~simclr_lightning.optim.parameter_groups`.

    Example:
        >>> build_optimizer("sgd", [{"params": [torch.zeros(2, requires_grad=True)]}], learning_rate=0.1).defaults["lr"]
        0.1

    Args:
        name: lars (Chen et al. 2020, section 2.2), sgd (Nesterov momentum) or adamw.
        groups: of parameters.
        learning_rate: base rate, which ``LARSWarmup`` scales.
        momentum: of lars and sgd; 0 for none.
        trust_coefficient: of lars.

    Raises:
        InputError: if the name is unknown.
    """
    check_optimizer(name)
    match name:
        case "lars":
            return LARS(groups, lr=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient)
        case "sgd":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate)
