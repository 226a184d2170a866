"""Samples of pictures that several processes have encoded, as one would have them."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from simclr_lightning.distributed import gather_rows


def is_due(trainer: Trainer, every_n_epochs: int) -> bool:
    """Whether the epoch that ends is one of every n, or the last.

    Example:
        >>> trainer = Trainer(max_epochs=9, accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> is_due(trainer, every_n_epochs=1), is_due(trainer, every_n_epochs=2)
        (True, False)
    """
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return epoch % every_n_epochs == 0 or last


def in_order(rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of all processes and their places, by the first of these, each picture once.

    Args:
        rows: (n, D) of this process.
        places: (n, ...) int64, the first column being positions in the data set.

    Example:
        >>> rows, places = in_order(torch.tensor([[3.0], [1.0], [3.0]]), torch.tensor([[3], [1], [3]]))
        >>> rows.flatten(), places.flatten()
        (tensor([1., 3.]), tensor([1, 3]))
    """
    rows, places = gather_rows(rows)[0], gather_rows(places)[0]
    order = places[:, 0].argsort(stable=True)
    first = torch.ones(len(order), dtype=torch.bool, device=order.device)
    first[1:] = places[order[1:], 0] != places[order[:-1], 0]  # a sampler repeats some, to serve all alike
    order = order[first]
    return rows[order], places[order]
