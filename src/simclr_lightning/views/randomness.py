"""Counter-based random numbers: a picture's views depend on (seed, epoch, index, view), and on nothing else.

A generator's state would tie a view to the batch, process and worker that it was drawn in. A hash of the counters does
not: any split of the batch over devices, and a run resumed anywhere, sees the same views. The hash is SplitMix64's
(Steele et al. 2014), applied once for every counter; Philox and Threefry (Salmon et al. 2011) are the same idea.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: SplitMix64's increment


def uniforms(seed: int, epoch: int, indices: Tensor, count: int) -> Tensor:
    """Random numbers for both views of every picture.

    Args:
        seed: Seed of the run.
        epoch: Epoch, so that the views differ from one to the next.
        indices: (N,) int64 positions in the data set.
        count: Random numbers per view. Column k does not depend on ``count``.

    Returns:
        (2, N, count) float64 in [0, 1), on the CPU.
    """
    streams = torch.arange(count)
    return _fraction(mix(view_keys(seed, epoch, indices)[..., None], streams))


def view_keys(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """One 64-bit key per view: the hash of seed, epoch, index and view.

    Args:
        seed: Seed of the run.
        epoch: Epoch.
        indices: (N,) int64 positions in the data set.

    Returns:
        (2, N) int64.
    """
    key = torch.zeros((), dtype=torch.int64)
    for counter in (torch.tensor(_signed(seed)), torch.tensor(epoch), indices.cpu(), torch.arange(2)[:, None]):
        key = mix(key, counter)
    return key


def pixel_noise(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise for whole pictures, on the device of the keys.

    Args:
        keys: (M,) int64, one key per picture.
        shape: Shape of a picture.

    Returns:
        (M, *shape) float32.
    """
    bits = mix(keys[:, None], torch.arange(math.prod(shape), device=keys.device))
    odd = ((bits >> 39) & 0x1FFFFFE) + 1  # 24 random bits, then a one: odd numbers below 2^25, never 0
    # (odd - 2^24) / 2^24 is exact in float32, symmetric about 0 and strictly inside (-1, 1).
    return (torch.erfinv((odd - 2**24).float() / 2**24) * math.sqrt(2)).view(-1, *shape)


def mix(key: Tensor, counter: Tensor) -> Tensor:
    """Fold a counter into a key.

    Args:
        key: int64 keys of any shape.
        counter: int64 counters that broadcast against the keys.

    Returns:
        int64 keys, every bit of which depends on every bit of both inputs.
    """
    z = key + (counter + 1) * _signed(_GOLDEN)  # int64 arithmetic wraps around: it is arithmetic modulo 2^64
    z = (z ^ _shift_right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift_right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift_right(z, 31)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)  # int64's own shift copies the sign: mask it away


def _fraction(bits: Tensor) -> Tensor:
    return _shift_right(bits, 11).double() * 2.0**-53  # the upper 53 bits: every float64 step of 2^-53 in [0, 1)


def _signed(number: int) -> int:
    """The int64 with the lower 64 bits of a Python integer."""
    return (number + 2**63) % 2**64 - 2**63
