"""NT-Xent as each package has it, and the losses beyond it: functions of two batches of projections (N, D).

Projections are not yet of unit length. Each contestant takes the temperature and returns the loss function, so that an
import error comes before any timing.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F
from runner import OURS
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Any]
Kind = Callable[[float], LossFunction]

CLASSES = 100  # of the supervised losses: picture i is of class i % CLASSES
SIGMA = 0.5  # of the weighted decoupled loss, as in its paper
BETA, TAU_PLUS = 1.0, 0.1  # of hard negatives, as in the official code
PAIRS_BY_PAIRS = 512  # views up to which a loss whose memory grows with their third power is tried


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


def of_ours(name: str, **arguments: float) -> Kind:
    """One of our losses, as a module."""

    def kind(temperature: float) -> LossFunction:
        from simclr_lightning import losses

        loss: LossFunction = getattr(losses, name)(temperature, **arguments)
        return lambda first, second: loss(torch.stack([first, second]))

    return kind


def supervised(temperature: float) -> LossFunction:
    from simclr_lightning.losses import SupConNTXent

    loss = SupConNTXent(temperature)
    return lambda first, second: loss(torch.stack([first, second]), targets=torch.arange(len(first)) % CLASSES)


def of_lightly(name: str, **arguments: float) -> Kind:
    def kind(temperature: float) -> LossFunction:
        from lightly import loss

        made: LossFunction = getattr(loss, name)(temperature, **arguments)
        return made

    return kind


def of_metric_learning(name: str, classes: int | None = None) -> Kind:
    """It takes all views at once with a label each; without classes every picture is one of its own."""

    def kind(temperature: float) -> LossFunction:
        from pytorch_metric_learning import losses  # type: ignore[import-not-found]

        loss = getattr(losses, name)(temperature)

        def function(first: Tensor, second: Tensor) -> Any:
            if name == "NTXentLoss" and len(first) > PAIRS_BY_PAIRS // 2:
                raise MemoryError("a matrix of all positive by all negative pairs")
            labels = torch.arange(len(first)) % (classes or len(first))
            return loss(torch.cat([first, second]), labels.repeat(2))

        return function

    return kind


def hard_negatives_by_hand(temperature: float) -> LossFunction:
    """The official code's form (Robinson et al. 2021) on whole matrices; no package has this loss."""

    def loss(first: Tensor, second: Tensor) -> Tensor:
        first, second = F.normalize(first), F.normalize(second)
        views, n = torch.cat([first, second]), len(first)
        similarities = views @ views.T / temperature
        own = torch.arange(2 * n, device=views.device)
        hidden = torch.zeros_like(similarities, dtype=torch.bool)
        hidden[own, own] = hidden[own, own.roll(n)] = True
        negatives = similarities.exp().masked_fill(hidden, 0)
        weights = (BETA * similarities).exp().masked_fill(hidden, 0)
        positives = ((first * second).sum(1) / temperature).exp().repeat(2)
        number = 2 * n - 2
        mean = number * (weights * negatives).sum(1) / weights.sum(1)
        estimate = (mean - TAU_PLUS * number * positives) / (1 - TAU_PLUS)
        least = number * math.exp(-1 / temperature)
        return -(positives / (positives + estimate.clamp(min=least))).log().mean()

    return loss


CONTESTANTS: dict[str, Kind] = {
    OURS: ours,
    "lightly": lightly,
    "solo-learn": solo_learn,
    "lightning-bolts": lightning_bolts,
    "masked cross-entropy": masked_cross_entropy,
}

BEYOND: dict[str, dict[str, Kind]] = {
    "NT-Xent": {
        OURS: of_ours("NTXentLoss"),
        "lightly, NTXentLoss": of_lightly("NTXentLoss"),
        "pytorch-metric-learning, NTXentLoss": of_metric_learning("NTXentLoss"),
    },
    "decoupled": {
        f"{OURS}, DecoupledNTXent": of_ours("DecoupledNTXent"),
        "lightly, DCLLoss": of_lightly("DCLLoss"),
    },
    "decoupled, weighted": {
        f"{OURS}, DecoupledNTXent, weighted": of_ours("DecoupledNTXent", mises_fisher_sigma=SIGMA),
        "lightly, DCLWLoss": of_lightly("DCLWLoss", sigma=SIGMA),
    },
    "debiased": {f"{OURS}, HardNegativeNTXent, beta 0": of_ours("HardNegativeNTXent", beta=0.0, tau_plus=TAU_PLUS)},
    "hard negatives": {
        f"{OURS}, HardNegativeNTXent": of_ours("HardNegativeNTXent", beta=BETA, tau_plus=TAU_PLUS),
        "hard negatives by hand": hard_negatives_by_hand,
    },
    "supervised": {
        f"{OURS}, SupConNTXent": supervised,
        "pytorch-metric-learning, SupConLoss": of_metric_learning("SupConLoss", CLASSES),
    },
}
"""Losses by what they compute; the contestants of one kind give the same number."""
