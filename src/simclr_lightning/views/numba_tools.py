"""What the compiled views share: how Numba compiles a function, and threads for the views of a batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch

Array = np.ndarray[Any, Any]

_Function = TypeVar("_Function", bound=Callable[..., Any])

ZERO, ONE, THREE = (np.float32(number) for number in (0, 1, 3))  # literals would make float64 of everything


def compiled(function: _Function) -> _Function:
    """Compile a function of NumPy arrays and numbers for the types of each call.

    Pixels are taken to be finite, so sums may be reordered. Python's lock is not held: threads can share a batch. What
    Numba keeps on disk is compiled anew when the file of the function changes, not when a function of another file does
    that it calls: whatever calls each other stands in one file.

    Example:
        >>> compiled(lambda pixels: pixels.sum())(np.ones(3))
        3.0
    """
    fastmath = {"contract", "reassoc", "nsz", "nnan", "ninf"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return cast("_Function", numba.njit(function, cache=True, **options))
    except RuntimeError:  # no folder to keep the result in: compiled anew in every process
        return cast("_Function", numba.njit(function, **options))


def in_threads(work: Callable[[slice], None], number: int) -> None:
    """Share a number of views between as many threads as torch uses.

    Example:
        >>> in_threads(print, 0)
        slice(0, 0, None)
    """
    threads = torch.get_num_threads()
    share = max(1, -(-number // threads))
    parts = [slice(first, first + share) for first in range(0, number, share)]
    if len(parts) <= 1:
        work(slice(0, number))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))
