"""Classes and groups of pictures, over all processes, on their device: nothing here makes the host wait for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows


def numbered(labels: Tensor, *, gather: bool) -> tuple[Tensor, Tensor]:
    """Numbers of the classes of this process's pictures, and how many pictures each of all numbers has.

    Example:
        >>> numbered(torch.tensor([7, -1, 7, 3, -1]), gather=False)
        (tensor([3, 1, 3, 2, 0]), tensor([1, 1, 1, 2, 0]))

    Args:
        labels: (N,) int64, equal where pictures belong together; a negative one stands for a class of its own.
        gather: whether pictures of other processes belong to the classes, too.

    Returns:
        (N,) int64 in [0, M), M the number of all pictures, and (M,) int64.
    """
    everybodys, start = gather_rows(labels[:, None]) if gather else (labels[:, None], 0)
    everybodys = everybodys[:, 0]
    alone = -1 - torch.arange(len(everybodys), device=labels.device)
    ordered, places = torch.where(everybodys < 0, alone, everybodys).sort()  # unique() would wait
    classes = F.pad((ordered[1:] != ordered[:-1]).long(), (1, 0)).cumsum(0)
    classes = torch.empty_like(places).scatter_(0, places, classes)
    members = torch.zeros_like(classes).index_add_(0, classes, torch.ones_like(classes))
    return classes[start : start + len(labels)], members
