"""Numbers that tell whether contrastive training is healthy: none of them is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows, largest_of_processes, rank, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.precision import full_precision

_ROWS = 512  # rows of similarities in memory at a time


class ContrastiveMetrics(NamedTuple):
    """Scalars () of the N-way problem: find a picture's second view among the second views of all pictures.

    Example:
        >>> ContrastiveMetrics(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(0.5)).top1
        tensor(1.)

    Attributes:
        top1: share of first views whose most similar second view is their own, in [0, 1].
        top5: share of first views whose own second view is among the five most similar ones.
        entropy: mean entropy of the softmax over the N second views, in nats: at most log N.
    """

    top1: Tensor
    top5: Tensor
    entropy: Tensor


@torch.no_grad()
def contrastive_metrics(
    first: Tensor, second: Tensor, *, temperature: float = 0.1, normalize: bool = True, gather: bool = False
) -> ContrastiveMetrics:
    """Contrastive accuracy and entropy as in Table 5 of the paper and in the official code's metrics.

    Example:
        >>> contrastive_metrics(torch.eye(4), torch.eye(4)).top1
        tensor(1.)

    Args:
        first: (N, D) projections of the first views, any floating dtype.
        second: (N, D) projections of the second views.
        temperature: positive number, that of the loss; it changes the entropy only.
        normalize: whether similarities are cosines.
        gather: whether the second views of all processes are candidates. The means are over this process's rows.
    """
    check_temperature(temperature)
    first, second = first.float(), second.float()
    if normalize:
        first, second = F.normalize(first), F.normalize(second)
    candidates, start = gather_rows(second) if gather else (second, 0)
    top1, top5, entropy = first.new_zeros(3).unbind()
    with full_precision(first.device):
        for top in range(0, len(first), _ROWS):
            logits = first[top : top + _ROWS] @ candidates.T / temperature
            own = logits.diagonal(start + top)[:, None]
            # A tie counts as not found, or an encoder that has collapsed would score 100 %; so does NaN.
            rivals = len(candidates) - 1 - (logits < own).sum(1)
            log_p = logits.log_softmax(1)
            top1 += (rivals < 1).sum()
            top5 += (rivals < 5).sum()
            entropy -= (log_p.exp() * log_p).sum()
    return ContrastiveMetrics(top1 / len(first), top5 / len(first), entropy / len(first))


def chance_loss(pictures: int, views: int = 2) -> float:
    """NT-Xent of views that tell nothing: ``log(2N - 1)``, for N pictures in the global batch and two views of each.

    Example:
        >>> round(chance_loss(256), 3)
        6.236

    Args:
        pictures: in the global batch.
        views: of each picture.
    """
    return math.log(views * (pictures - 1) + 1)


def floor_loss(pictures: int, temperature: float, views: int = 2) -> float:
    """NT-Xent where every pair is identical and all negatives are orthogonal: ``log(1 + (2N - 2) exp(-1 / t))``.

    A loss that stays at this level has not diverged: it is as low as cosine similarities can be expected to bring it.

    Example:
        >>> round(floor_loss(512, 0.5), 3)
        4.937

    Args:
        pictures: in the global batch.
        temperature: positive number.
        views: of each picture.
    """
    return math.log1p(views * (pictures - 1) * math.exp(-1 / temperature))


def check_temperature(temperature: float) -> None:
    """Raise InputError unless ``temperature`` is a positive, finite number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(
            f"temperature must be a positive number, got {temperature}. The paper uses 0.1 on ImageNet and 0.5 on "
            "CIFAR-10."
        )


class DivergedError(InputError):
    """Training has come to NaN or infinity.

    Args:
        message: what was found.
        rows: of the batch that were found so, where they are known.
        elsewhere: whether another process found it, which tells more.

    Example:
        >>> raise DivergedError("The loss is NaN", rows=[3])
        Traceback (most recent call last):
        simclr_lightning.losses.watch.DivergedError: The loss is NaN. Usual causes: a learning rate that is too high \
or has no warm-up, or float16 overflow (try --trainer.precision bf16-mixed or 32-true).
    """

    def __init__(self, message: str, rows: Sequence[int] = (), *, elsewhere: bool = False) -> None:
        super().__init__(
            f"{message}. Usual causes: a learning rate that is too high or has no warm-up, or float16 overflow (try "
            "--trainer.precision bf16-mixed or 32-true)."
        )
        self.rows, self.elsewhere = rows, elsewhere


def raise_together(error: DivergedError | None, what: str, device: torch.device) -> None:
    """Raise what was found here, or in another process: one that goes on alone waits for ever for the one that ended.

    The hosts ask each other; no device is waited for. All processes call it, at moments at which they look at numbers.

    Args:
        error: of this process, None where all is well.
        what: was looked at, such as the weights.
        device: of this process.

    Raises:
        DivergedError: if one of them has an error.

    Example:
        >>> raise_together(None, "the weights", torch.device("cpu"))
    """
    number = largest_of_processes(0 if error is None else rank() + 1, device)
    if error is not None:
        raise error
    if number:
        raise DivergedError(f"{what[0].upper()}{what[1:]} of process {number - 1} are NaN or infinite", elsewhere=True)


def check_finite(projections: Tensor, *, together: bool = False) -> None:
    """Raise DivergedError if a projection is NaN or infinite; the host waits for the device.

    Args:
        projections: (V, N, D).
        together: whether all processes ask, and all of them raise it. Otherwise one of several does not look: it would
            leave the others waiting.
    """
    if not together and world_size() > 1:
        return
    projections, error = projections.detach(), None
    if not math.isfinite(projections.sum()):  # one pass; a NaN or an infinity in a sum never vanishes
        bad_rows = ~projections.isfinite().all(-1).all(0)
        pictures = bad_rows.nonzero().flatten().tolist()
        if pictures:  # else the sum alone overflowed
            error = DivergedError(
                f"The projections of {len(pictures)} of {len(bad_rows)} pictures are NaN or infinite (first at row "
                f"{pictures[0]}): training has diverged",
                pictures,
            )
    raise_together(error, "the projections", projections.device)
