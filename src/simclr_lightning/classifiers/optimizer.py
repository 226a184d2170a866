"""The optimizers of classifiers."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn
from torch.optim import Optimizer

from simclr_lightning.optim import build_optimizer, check_optimizer, parameter_groups

ClassifierOptimizer = Literal["sgd", "lars"]


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
    check_optimizer(optimizer, get_args(ClassifierOptimizer))
    groups = [group for group in (weights, others) if group["params"]]
    if optimizer == "lars":
        linear = {**weights, "params": [last.weight], "adapt": False}
        weights["params"] = [weight for weight in weights["params"] if weight is not last.weight]
        groups = [weights, others, linear]
    return build_optimizer(
        optimizer, groups, learning_rate=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient
    )
