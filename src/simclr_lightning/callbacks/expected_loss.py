"""Between which values the loss of a training is to be expected."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer

from simclr_lightning.losses import ContrastiveLoss


class ExpectedLoss(NamedTuple):
    """What a loss says of the batches of a training.

    Attributes:
        negatives: views of other pictures that each view is contrasted with, on average.
        bounds: loss at chance and at its floor; None where the loss does not know them.

    Example:
        >>> ExpectedLoss(254, (5.541, 3.566)).negatives
        254
    """

    negatives: int
    bounds: tuple[float, float] | None


def expected_loss(trainer: Trainer, pl_module: LightningModule) -> ExpectedLoss | None:
    """Ask the module's loss, for the batches of the data module.

    Args:
        trainer: its data module tells ``batch_size``, and ``recipes`` and ``groups`` where it has them.
        pl_module: its ``loss`` is asked.

    Returns:
        None where there is no such loss, or nobody tells the size of the batch.

    Example:
        >>> expected_loss(Trainer(accelerator="cpu", logger=False), LightningModule())
    """
    loss = getattr(pl_module, "loss", None)
    data: Any = getattr(trainer, "datamodule", None)
    batch_size = getattr(data, "batch_size", None)
    if batch_size is None or not isinstance(loss, ContrastiveLoss):
        return None
    pictures = batch_size if loss.gather else batch_size // trainer.world_size
    groups: Any = getattr(data, "groups", None)
    together = 0 if groups is None else round((pictures - 1) * groups.lost_share)
    recipes: Any = getattr(data, "recipes", ())
    views = (
        sum(recipe.count for recipe in recipes if recipe.size == recipes[0].size) or 2
    )  # local crops are no negatives
    # Whoever says nothing of more views than two is asked for two alone.
    told = {"views": views} if "views" in inspect.signature(loss.expected).parameters else {}
    bounds = loss.expected(pictures - together, **told) if told or views == 2 else None
    return ExpectedLoss(views * (pictures - 1 - together), bounds)
