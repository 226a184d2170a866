"""NT-Xent as each package has it: functions of two batches of projections (N, D), not yet of unit length.

Each contestant takes the temperature and returns the loss function, so that an import error comes before any timing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F
from runner import OURS
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Any]


def ours(temperature: float) -> LossFunction:
    from simclr_lightning.losses import nt_xent

    return partial(nt_xent, temperature=temperature, gather=True)


def lightly(temperature: float) -> LossFunction:
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found]

    loss: LossFunction = NTXentLoss(temperature, gather_distributed=torch.distributed.is_initialized())
    return loss


def solo_learn(temperature: float) -> LossFunction:
    """From its file: the package's own imports need releases of 2021."""
    path = metadata.distribution("solo-learn").locate_file("solo/losses/simclr.py")
    spec = importlib.util.spec_from_file_location("solo_simclr", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda first, second: module.simclr_loss_func(first, second, temperature=temperature)


def lightning_bolts(temperature: float) -> LossFunction:
    """It gathers by itself, and wants unit length, as its training step gives it."""
    from pl_bolts.models.self_supervised.simclr.simclr_module import SimCLR  # type: ignore[import-not-found]

    def loss(first: Tensor, second: Tensor) -> Any:
        return SimCLR.nt_xent_loss(None, F.normalize(first), F.normalize(second), temperature)

    return loss


def masked_cross_entropy(temperature: float) -> LossFunction:
    """What one writes by hand, with care: the mask is set in place, and the gather can be differentiated."""

    def loss(first: Tensor, second: Tensor) -> Tensor:
        first, second = F.normalize(first), F.normalize(second)
        own, rank = torch.cat([first, second]), 0
        everything, n = own, len(first)
        if torch.distributed.is_initialized():
            from torch.distributed.nn.functional import all_gather

            rank = torch.distributed.get_rank()
            everything = torch.cat([*all_gather(first), *all_gather(second)])  # type: ignore[no-untyped-call]
        total = len(everything) // 2
        here = torch.arange(rank * n, (rank + 1) * n, device=own.device)
        logits = own @ everything.T / temperature
        logits[torch.arange(2 * n, device=own.device), torch.cat([here, here + total])] = -torch.inf
        return F.cross_entropy(logits, torch.cat([here + total, here]))

    return loss


CONTESTANTS: dict[str, Callable[[float], LossFunction]] = {
    OURS: ours,
    "lightly": lightly,
    "solo-learn": solo_learn,
    "lightning-bolts": lightning_bolts,
    "masked cross-entropy": masked_cross_entropy,
}
