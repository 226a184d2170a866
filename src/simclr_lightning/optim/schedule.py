"""The learning rate as pure functions of numbers."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from simclr_lightning.errors import InputError

ScalingRule: TypeAlias = Literal["linear", "sqrt", "none"]
"""By what of the batch a base learning rate is multiplied: batch / 256, its square root, or nothing."""


def warmup_cosine(step: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up from 0, then one half period of a cosine down to 0.

    Args:
        step: optimizer steps taken so far, at least 0: the factor for the first step is that of step 0. No whole number
            where steps before were of another size.
        warmup_steps: the step at which the factor reaches 1; 0 for no warm-up.
        total_steps: the step at which the factor reaches 0; it stays 0 afterwards.

    Returns:
        The factor of the peak learning rate, in [0, 1].

    Raises:
        InputError: if a count is out of range, or the warm-up is longer than the run.

    Example:
        >>> [round(warmup_cosine(step, warmup_steps=2, total_steps=6), 3) for step in range(7)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]

    Source: Chen et al. (2020), arXiv:2002.05709, section 2.2 and the schedule of the official code.
    """
    if step < 0:
        raise InputError(f"step must be at least 0, got {step}.")
    if total_steps < 1:
        raise InputError(f"total_steps must be at least 1, got {total_steps}.")
    if not 0 <= warmup_steps <= total_steps:
        raise InputError(f"warmup_steps must be between 0 and total_steps ({total_steps}), got {warmup_steps}.")
    if step >= total_steps:
        return 0.0
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))


def scaled_learning_rate(base: float, batch_size: int, rule: ScalingRule = "linear") -> float:
    """The peak learning rate for a global batch.

    Args:
        base: the rate that is typed. The paper's are 0.3 for ``linear`` and 0.075 for ``sqrt``: both give 4.8 at a
            batch of 4096.
        batch_size: pictures per optimizer step over all processes and accumulated micro-batches.
        rule: ``linear``: base * batch_size / 256; ``sqrt``: base * sqrt(batch_size), better for small batches and short
            runs; ``none``: base itself.

    Returns:
        The peak learning rate.

    Raises:
        InputError: if a value is out of range or the rule is unknown.

    Example:
        >>> scaled_learning_rate(0.3, 4096), round(scaled_learning_rate(0.075, 4096, "sqrt"), 6)
        (4.8, 4.8)

    Source: Chen et al. (2020), arXiv:2002.05709, section 2.2 and appendix B.1.
    """
    if not (base >= 0 and math.isfinite(base)):
        raise InputError(f"the base learning rate must be finite and at least 0, got {base}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    match rule:
        case "linear":
            return base * batch_size / 256
        case "sqrt":
            return base * math.sqrt(batch_size)
        case "none":
            return base
    raise InputError(f"unknown learning rate scaling {rule!r}: choose 'linear', 'sqrt' or 'none'.")


def warmup_steps_for(warmup_epochs: float, num_pictures: int, batch_size: int) -> int:
    """Warm-up epochs in optimizer steps, rounded down as in the official code.

    Args:
        warmup_epochs: passes over the data, may be a fraction.
        num_pictures: training pictures, over all processes.
        batch_size: pictures per optimizer step over all processes and accumulated micro-batches.

    Returns:
        The number of steps.

    Example:
        >>> warmup_steps_for(10, num_pictures=1_281_167, batch_size=4096)  # ImageNet
        3127

    Raises:
        InputError: if a value is out of range.
    """
    if not (warmup_epochs >= 0 and math.isfinite(warmup_epochs)):
        raise InputError(f"warmup_epochs must be finite and at least 0, got {warmup_epochs}.")
    if num_pictures < 1:
        raise InputError(f"num_pictures must be at least 1, got {num_pictures}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    return int(warmup_epochs * num_pictures // batch_size)
