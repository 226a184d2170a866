"""Large batches in little memory: micro-batches of which only the last one keeps its activations.

The contrastive loss needs the projections of the whole batch at once, so gradients cannot be accumulated over smaller
batches. Activations can be computed twice, though: a first pass keeps nothing but the projections, and backward
recomputes the activations of one micro-batch after the other. The gradients are those of the whole batch wherever a
picture is treated without regard to the others. BatchNorm is the exception: it normalises by the statistics of a
micro-batch, as it would in a batch of that size.

Source: Chen et al. 2016, activation checkpointing (arXiv 1604.06174); Gao et al. 2021, the same gradients by two calls
of backward (GradCache, arXiv 2101.06983).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from simclr_lightning.errors import InputError

_Batch = TypeVar("_Batch")


def check_micro_batch_size(size: int | None) -> None:
    """Raise InputError unless ``size`` is None or an int of at least 1.

    Example:
        >>> check_micro_batch_size(0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: micro_batch_size must be a whole number of pictures, at least 1, got 0: ...
    """
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 1):
        return
    raise InputError(
        f"micro_batch_size must be a whole number of pictures, at least 1, got {size!r}: give the largest number that "
        "fits into memory, such as 256 (--model.micro_batch_size 256), or None (null) for whole batches."
    )


def micro_batches(batch: Tensor, size: int | None, dim: int = 0) -> tuple[Tensor, ...]:
    """Split a batch into as few micro-batches as possible, whose sizes differ by one at most.

    Equal sizes rather than full ones and a rest: BatchNorm's statistics of a small rest would be poor.

    Args:
        batch: any shape; it is not copied.
        size: largest length of a micro-batch along ``dim``; None leaves the batch whole.
        dim: dimension of the pictures.

    Returns:
        At least one micro-batch, in order.

    Example:
        >>> [len(part) for part in micro_batches(torch.rand(10, 3), 4)]
        [4, 3, 3]
    """
    number = 1 if size is None else max(1, math.ceil(batch.shape[dim] / size))
    return batch.tensor_split(number, dim)


def encoded_by_size(encode: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> Tensor:
    """Encode views of one or several sizes: all of one size in one pass, as BatchNorm's statistics are of a pass.

    Example:
        >>> views = torch.rand(2, 4, 3, 16, 16), torch.rand(1, 4, 3, 8, 8)
        >>> encoded_by_size(lambda images: images.mean((2, 3)), views).shape
        torch.Size([3, 4, 3])

    Args:
        encode: pictures (M, C, S, S) to features (M, F).
        views: (V_k, N, C, S_k, S_k) each.

    Returns:
        (V, N, F), in the order of the views.
    """
    sizes = dict.fromkeys(own.shape[2:] for own in views)
    if len(sizes) == 1:
        together = views[0] if len(views) == 1 else torch.cat(list(views))
        return torch.unflatten(encode(together.flatten(0, 1)), 0, together.shape[:2])
    found: dict[int, Tensor] = {}
    for size in sizes:
        same = [place for place, own in enumerate(views) if own.shape[2:] == size]
        features = encoded_by_size(encode, [views[place] for place in same])
        parts = torch.split(features, [len(views[place]) for place in same])
        found |= zip(same, parts, strict=True)
    return torch.cat([found[place] for place in range(len(views))])


def recomputed(
    function: Callable[[_Batch], tuple[Tensor, Tensor]], batch: _Batch, module: nn.Module
) -> tuple[Tensor, Tensor]:
    """``function(batch)``, whose activations backward recomputes instead of keeping them; a plain call without grad.

    The second pass draws the same random numbers (dropout), under the same autocast, and leaves the buffers of
    ``module`` alone: running statistics and counters are updated once.

    Args:
        function: what to compute, with ``module`` or parts of it. Backward calls it once more.
        batch: its argument, a tensor or several, kept until then. Copies of it belong into ``function``.
        module: owner of all buffers that ``function`` writes.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> scores, squares = recomputed(lambda rows: (layer(rows), layer(rows) ** 2), torch.rand(4, 3), layer)
        >>> scores.sum().backward()
        >>> scores.shape, layer.bias.grad
        (torch.Size([4, 2]), tensor([4., 4.]))
    """
    outputs: tuple[Tensor, Tensor] = checkpoint(
        function,
        batch,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _copied_buffers(module)),
    )
    # Else autocast would share the weights that it cast, and sum the gradients of micro-batches in low precision.
    torch.clear_autocast_cache()
    return outputs


@contextmanager
def _copied_buffers(module: nn.Module) -> Iterator[None]:
    """Let whatever runs inside write into copies of the buffers, which are dropped afterwards."""
    # Not momentum = 0, which would need to know every kind of normalisation and make torch.compile start anew.
    originals = [
        (owner, name, buffer) for owner in module.modules() for name, buffer in owner.named_buffers(recurse=False)
    ]
    try:
        for owner, name, buffer in originals:
            setattr(owner, name, buffer.clone())
        yield
    finally:
        for owner, name, buffer in originals:
            setattr(owner, name, buffer)
