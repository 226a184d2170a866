"""How loops over pixels in the host's memory are compiled and shared by threads; needs Numba (the extra ``fast``).

Numba compiles at the first call, which takes some seconds, and keeps the result on disk. It needs no compiler. What is
compiled here has its equal for whole batches on any device, which serves where Numba is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch

Array = np.ndarray[Any, Any]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function of NumPy arrays and numbers for the types of each call.

    Pixels are taken to be finite, so sums may be reordered. Python's lock is not held: threads can share a batch.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"contract", "reassoc", "nsz", "nnan", "ninf"},
    }
    try:
        return cast("_Function", numba.njit(function, cache=True, **options))
    except RuntimeError:  # no folder to keep the result in: compiled anew in every process
        return cast("_Function", numba.njit(function, **options))


def in_threads(work: Callable[[slice], None], number: int) -> None:
    """Share the views of a batch between as many threads as torch uses.

    Args:
        work: Does some of them.
        number: How many there are.
    """
    threads = torch.get_num_threads()
    share = max(1, -(-number // threads))
    parts = [slice(first, first + share) for first in range(0, number, share)]
    if len(parts) <= 1:
        work(slice(0, number))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))
