"""Parameters that are split over processes: pieces, and norms of the whole.

FSDP2 (``torch.distributed.fsdp.fully_shard``) and tensor parallelism leave every parameter its name and its shape, as a
DTensor. The older FSDP and DeepSpeed flatten many parameters into one vector, which tells no layers apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from simclr_lightning.errors import InputError

FSDP2 = (
    "--trainer.strategy ModelParallelStrategy --trainer.strategy.data_parallel_size DEVICES "
    "--trainer.strategy.tensor_parallel_size 1"
)
"""How to ask for it."""


def piece_of(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: the tensor itself, unless it is a DTensor. Memory is shared.

    Example:
        >>> piece_of(torch.ones(2))
        tensor([1., 1.])
    """
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor, split over processes as ``other`` of the same shape is.

    Example:
        >>> placed_like(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])
    """
    if isinstance(tensor, DTensor) and isinstance(other, DTensor) and tensor.placements != other.placements:
        return tensor.redistribute(other.device_mesh, other.placements)
    return tensor


def split_over(tensor: Tensor) -> tuple[dist.ProcessGroup, ...]:
    """Groups of processes over which a tensor is split; none where every process holds all of it.

    Example:
        >>> split_over(torch.ones(2))
        ()
    """
    if not isinstance(tensor, DTensor):
        return ()
    places = enumerate(tensor.placements)
    return tuple(tensor.device_mesh.get_group(dimension) for dimension, place in places if place.is_shard())


def whole_norms(pieces: list[Tensor], dtype: torch.dtype, groups: tuple[dist.ProcessGroup, ...] = ()) -> Tensor:
    """Euclidean norms of whole tensors. The processes exchange them all at once, and none reads a value.

    Args:
        pieces: what this process holds of n tensors of one device, possibly nothing.
        dtype: in which the squares are summed.
        groups: of processes over which all of the tensors are split.

    Returns:
        (n,), equal on every process.

    Example:
        >>> whole_norms([torch.tensor([3.0, 4.0]), torch.ones(2, 2)], torch.float32)
        tensor([5., 2.])
    """
    norms = torch.stack(torch._foreach_norm(pieces, 2, dtype))
    if not groups:
        return norms
    squares = norms.square()
    for group in groups:
        dist.all_reduce(squares, group=group)
    return squares.sqrt()


def refuse_flattened(parameters: Iterable[Tensor]) -> None:
    """Raise InputError if a parameter is a part of the vector to which the older FSDP flattens all.

    Example:
        >>> refuse_flattened([torch.ones(2)])
    """
    if any(getattr(parameter, "_fsdp_flattened", False) for parameter in parameters):  # torch's mark
        raise InputError(
            "FSDP flattens all parameters into one vector, so that weights, which alone are decayed and adapted, "
            f"cannot be told from biases and normalisation: use DDP (--trainer.strategy ddp) or FSDP2 ({FSDP2})."
        )
