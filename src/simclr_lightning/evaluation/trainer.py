"""A Trainer that can also judge what a model has learned."""

from __future__ import annotations

from lightning.pytorch import Trainer

from simclr_lightning.evaluation.compare import evaluate
from simclr_lightning.evaluation.label_curve import label_curve


class SimCLRTrainer(Trainer):
    """Lightning's Trainer, with two commands that judge encoders beside ``fit`` and ``test``.

    On the command line they are ``simclr evaluate`` and ``simclr label_curve``. They are the functions of these names,
    of which the Trainer itself is the first argument.

    Example:
        >>> SimCLRTrainer.evaluate is evaluate
        True
    """

    evaluate = evaluate
    label_curve = label_curve
