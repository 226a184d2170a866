"""How much memory a network keeps for its backward pass, found out without computing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, chain
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm


class Activations(NamedTuple):
    """Bytes of a forward and backward pass, parameters and their gradients left out.

    Attributes:
        kept: by autograd between the two.
        most: at any time, with the gradients of what is kept: backward frees one after the other, the last one first,
            and needs the gradient of a result and that of an argument meanwhile.

    Example:
        >>> Activations.of([100, 10, 10])
        Activations(kept=120, most=300)
    """

    kept: int
    most: int

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Activations:
        """From the sizes of what is kept, in the order of the forward pass."""
        return cls(
            sum(sizes), max((held + 2 * own for own, held in zip(sizes, accumulate(sizes), strict=True)), default=0)
        )


def activations_of(module: nn.Module, shape: Sequence[int], dtype: torch.dtype | None = None) -> Activations | None:
    """What a network needs between its forward and its backward pass, and during the latter.

    The network runs once on torch's device ``meta``, which knows shapes and no values: nothing is computed, no memory
    taken, no random number drawn, and no statistics of BatchNorm change. Tensors that share memory count once.

    Args:
        module: of one argument.
        shape: of its argument, in channels_last where that has four dimensions.
        dtype: in which parameters and argument are taken to be; None: that of the parameters.

    Returns:
        None where the network cannot run so, because it looks at values for instance, or its parameters are split over
        processes.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        >>> activations_of(layers, (10, 3, 16, 16)).kept == 4 * 10 * (3 + 8) * 16 * 16  # argument and result
        True
    """
    state = dict(chain(module.named_parameters(), module.named_buffers()))
    if any(isinstance(tensor, DTensor) for tensor in state.values()):
        return None
    shadows = {name: _shadow(tensor, dtype) for name, tensor in state.items()}
    floats = [own.dtype for own in shadows.values() if own.is_floating_point()]
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    argument = torch.empty(shape, dtype=dtype or next(iter(floats), None), device="meta", memory_format=layout)
    own = {tensor.untyped_storage()._cdata for tensor in shadows.values()}
    kept: dict[int, torch.UntypedStorage] = {}  # which live on, so that no number is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.compiler.set_stance("force_eager"),
            _without_communication(module),
            patch.object(nn.functional, "scaled_dot_product_attention", _attention),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            output = functional_call(module, shadows, (argument,))
    except Exception:  # whatever somebody's network does not like about tensors without values
        return None
    if not isinstance(output, Tensor):
        return None
    return Activations.of([storage.nbytes() for storage in kept.values()])


def _shadow(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor of the same shape and layout without values."""
    dtype = dtype if tensor.is_floating_point() and dtype is not None else tensor.dtype
    return torch.empty_like(tensor, device="meta", dtype=dtype, requires_grad=tensor.requires_grad)


class _Attention(torch.autograd.Function):
    """Keeps what fused attention keeps; on the device meta torch would take the path that keeps every score."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return cast("Tensor", _Attention.apply(query, key, value))


@contextmanager
def _without_communication(module: nn.Module) -> Iterator[None]:
    """Let SyncBatchNorm, which keeps as much as BatchNorm, not ask other processes."""
    shared = [own for own in module.modules() if isinstance(own, nn.SyncBatchNorm)]
    for own in shared:
        own.forward = partial(_BatchNorm.forward, own)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for own in shared:
            del own.forward
