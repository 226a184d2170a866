"""The optimizers of classifiers."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn
from torch.optim import Optimizer

from simclr_lightning.errors import check_number
from simclr_lightning.optim import build_optimizer, check_optimizer, parameter_groups

ClassifierOptimizer = Literal["sgd", "lars"]


def check_classifier(
    num_classes: int | None,
    optimizer: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float = 1e-3,
) -> None:
    """Raise InputError unless a classifier can have so many classes, and be trained so.

    Example:
        >>> check_classifier(1, "sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.0)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: num_classes is 1: choose a number of at least 2 and at most 10,000,000 \
(--model.num_classes).
    """
    check_number("num_classes", num_classes, "model.num_classes", least=2, most=10_000_000)
    numbers = (learning_rate, momentum, weight_decay, trust_coefficient)
    check_optimizer(optimizer, *numbers, choice=get_args(ClassifierOptimizer))


def make_optimizer(
    model: nn.Module,
    last: nn.Linear,
    optimizer: ClassifierOptimizer,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float = 1e-3,
) -> Optimizer:
    """Optimizer of a classifier's trainable parameters.

    Biases and normalisation are neither decayed nor adapted. LARS does not adapt the linear layer either, as in the
    official code: it may start at zero, and would not get away from there.

    Args:
        model: all of it.
        last: its linear layer.
        optimizer: sgd with Nesterov momentum, or lars.
        learning_rate: base rate, which ``LARSWarmup`` scales.
        momentum: 0 for none.
        weight_decay: of the weights.
        trust_coefficient: of lars.

    Raises:
        InputError: if the optimizer is unknown.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        >>> lars = make_optimizer(model, model[1], "lars", learning_rate=0.1, momentum=0.9, weight_decay=1e-6)
        >>> [(len(group["params"]), group["weight_decay"], group["adapt"]) for group in lars.param_groups]
        [(1, 1e-06, True), (2, 0.0, False), (1, 1e-06, False)]
    """
    weights, others = parameter_groups(model, weight_decay=weight_decay)
    check_optimizer(optimizer, choice=get_args(ClassifierOptimizer))
    groups = [group for group in (weights, others) if group["params"]]
    if optimizer == "lars":
        linear = {**weights, "params": [last.weight], "adapt": False}
        weights["params"] = [weight for weight in weights["params"] if weight is not last.weight]
        groups = [weights, others, linear]
    return build_optimizer(
        optimizer, groups, learning_rate=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient
    )
