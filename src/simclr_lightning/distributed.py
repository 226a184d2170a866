"""The one place that knows about processes: how many there are, and how tensors travel between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together, 1 where torch.distributed was not started.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if _started() else 1


def rank() -> int:
    """Number of this process, in [0, ``world_size()``).

    Example:
        >>> rank()
        0
    """
    return dist.get_rank() if _started() else 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum of ``tensor`` over all processes; the tensor itself on one process.

    Args:
        tensor: any shape, equal on every process. It is not changed.

    Example:
        >>> all_reduce_sum(torch.tensor([1.0, 2.0]))  # of two processes like this one: [2.0, 4.0]
        tensor([1., 2.])
    """
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_processes(values: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Mean of the values of all processes, equal on each of them; the gradient is that of this mean.

    Args:
        values: any shape, which may differ between processes.
        reduction: what the training strategy does with the gradients of the processes: ``mean``
            (DistributedDataParallel and its like) or ``sum``. The derivatives are scaled so that the outcome is exact.

    Returns:
        A scalar ().

    Example:
        >>> mean_over_processes(torch.tensor([1.0, 3.0]))  # of two processes, the other with [5.0]: 3
        tensor(2.)
    """
    return values.mean() if world_size() == 1 else cast("Tensor", _MeanOverProcesses.apply(values, reduction))


class _MeanOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, reduction: str) -> Tensor:
        total, number = all_reduce_sum(torch.stack([values.sum(), values.new_tensor(values.numel())])).unbind()
        ctx.scale = (world_size() if reduction == "mean" else 1) / number
        ctx.shape = values.shape
        return total / number

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient * ctx.scale).expand(ctx.shape), None


def largest_of_processes(number: int, device: torch.device) -> int:
    """Largest of the numbers that the processes have; all must ask. Hosts talk, and no device is waited for.

    Args:
        number: of this process, at least 0.
        device: of this process, for a group of devices alone.

    Example:
        >>> largest_of_processes(3, torch.device("cpu"))  # of two processes, the other with 15: 15
        3
    """
    if world_size() == 1:
        return number
    hosts, device = _hosts(device)
    found = torch.tensor([number], device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=hosts)
    return int(found.item())


def gather_objects(own: dict[str, str], device: torch.device) -> list[dict[str, str]]:
    """Small plain values of all processes, in the order of their ranks; all must ask. Hosts talk.

    Args:
        own: those of this process.
        device: of this process, for a group of devices alone.

    Example:
        >>> gather_objects({"seed": "3"}, torch.device("cpu"))  # of two processes: two dictionaries
        [{'seed': '3'}]
    """
    if world_size() == 1:
        return [own]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, own, group=_hosts(device)[0])
    return found


@contextmanager
def equal_shares(known: bool) -> Iterator[None]:
    """Within it every process has as many rows as the others, so that :func:`row_counts` need not ask them.

    Example:
        >>> with equal_shares(True):
        ...     row_counts(torch.zeros(3, 8))  # of two processes: [3, 3]
        [3]

    Args:
        known: whether that is so, on all processes alike; False changes nothing.
    """
    before = _EQUAL_SHARES.set(known)
    try:
        yield
    finally:
        _EQUAL_SHARES.reset(before)


_EQUAL_SHARES: ContextVar[bool] = ContextVar("equal_shares", default=False)


def row_counts(rows: Tensor) -> list[int]:
    """Number of rows of every process, in the order of their ranks, for :func:`gather_rows`.

    Shares may differ in a stream or in somebody else's loader, so they are asked for unless :func:`equal_shares` says
    otherwise. With several processes the host then waits for the other hosts, not for its device: hosts talk by gloo
    where the default group is one of devices (NCCL).

    Args:
        rows: (n, ...), n may differ between processes.

    Example:
        >>> row_counts(torch.zeros(3, 8))  # of two processes, the other with 5 rows: [3, 5]
        [3]
    """
    if world_size() == 1:
        return [len(rows)]
    if _EQUAL_SHARES.get():
        return [len(rows)] * world_size()
    hosts, device = _hosts(rows.device)
    counts: list[int] = torch.cat(_all_gather(torch.tensor([len(rows)], device=device), hosts)).tolist()
    return counts


def gather_rows(rows: Tensor, counts: list[int] | None = None) -> tuple[Tensor, int]:
    """Concatenate the rows of all processes, in the order of their ranks.

    Gradients do not flow through it, see :func:`gather_with_gradients`. Processes may hold different numbers of rows
    (an uneven last batch), which costs nothing but padding.

    Args:
        rows: (n, D), n may differ between processes, D and dtype may not.
        counts: ``row_counts(rows)`` where it is known already: it is not asked for again.

    Returns:
        The rows of all processes (M, D) and the position of this process's first row among them. On one process these
        are ``rows`` itself, detached, and 0.

    Example:
        >>> everybodys_rows, position = gather_rows(torch.zeros(3, 8))
        >>> everybodys_rows.shape, position
        (torch.Size([3, 8]), 0)
    """
    rows = rows.detach()
    if world_size() == 1:
        return rows, 0
    counts = row_counts(rows) if counts is None else counts
    missing = max(counts) - len(rows)
    padded = (torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows).contiguous()
    blocks = [block[:count] for block, count in zip(_all_gather(padded), counts, strict=True)]
    return torch.cat(blocks), sum(counts[: rank()])


def gather_with_gradients(rows: Tensor, counts: list[int] | None = None) -> tuple[Tensor, int]:
    """:func:`gather_rows` for a loss of one's own: what the losses of all processes want of the rows comes back.

    The gradient of a row is that of the sum of all processes' losses. DistributedDataParallel averages the gradients of
    the parameters, so the training follows the mean of these losses: let each process compute the loss of its own rows
    against all, or all of them the whole loss. All processes must call backward.

    Args:
        rows: (n, D) floats, n may differ between processes, D and dtype may not.
        counts: as for :func:`gather_rows`.

    Returns:
        As :func:`gather_rows`; on one process ``rows`` itself, with its gradient, and 0.

    Example:
        >>> rows = torch.ones(3, 8, requires_grad=True)
        >>> everybodys_rows, position = gather_with_gradients(rows)
        >>> everybodys_rows.square().sum().backward()
        >>> rows.grad[0, 0]
        tensor(2.)
    """
    if world_size() == 1:
        return rows, 0
    counts = row_counts(rows) if counts is None else counts
    return cast("Tensor", _GatherWithGradients.apply(rows, counts)), sum(counts[: rank()])


class _GatherWithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        everybodys, ctx.start = gather_rows(rows, counts)
        ctx.length = len(rows)
        return everybodys

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # Not reduce_scatter, which gloo lacks, and which takes no uneven shares.
        return all_reduce_sum(gradient.contiguous()).narrow(0, ctx.start, ctx.length), None


def _all_gather(tensor: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """The tensors of all processes, which have one shape."""
    # Not all_gather_into_tensor, which newer releases of torch deprecate.
    tensors = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(tensors, tensor, group=group)
    return tensors


_GROUPS_OF_HOSTS: WeakKeyDictionary[Any, dist.ProcessGroup | None] = WeakKeyDictionary()  # of default groups


def _hosts(device: torch.device) -> tuple[dist.ProcessGroup | None, torch.device]:
    """A group in which hosts exchange numbers, and the device where these lie: ``device`` if there is no such group."""
    host = torch.device("cpu")
    if dist.get_backend() in ("gloo", "mpi"):
        return None, host
    world = dist.group.WORLD
    if world not in _GROUPS_OF_HOSTS:
        try:
            hosts = cast("dist.ProcessGroup | None", dist.new_group(backend="gloo"))
        except RuntimeError:  # torch without gloo, or hosts that do not find each other
            hosts = None
        # All of them have it, or none uses it. This one time the host waits for its device.
        found = torch.tensor([hosts is not None], dtype=torch.int32, device=device)
        dist.all_reduce(found, op=dist.ReduceOp.MIN)
        _GROUPS_OF_HOSTS[world] = hosts if found.item() else None
    hosts = _GROUPS_OF_HOSTS[world]
    return hosts, device if hosts is None else host


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()
