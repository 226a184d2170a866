"""The optimizer, its parameter groups and its learning rate; nothing here knows of Lightning."""

from simclr_lightning.optim.build import OptimizerName, build_optimizer, check_optimizer
from simclr_lightning.optim.groups import parameter_groups
from simclr_lightning.optim.lars import LARS
from simclr_lightning.optim.schedule import ScalingRule, scaled_learning_rate, warmup_cosine, warmup_steps_for

__all__ = [
    "LARS",
    "OptimizerName",
    "ScalingRule",
    "build_optimizer",
    "check_optimizer",
    "parameter_groups",
    "scaled_learning_rate",
    "warmup_cosine",
    "warmup_steps_for",
]
