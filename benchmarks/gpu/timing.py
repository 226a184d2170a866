"""Times on a device, by its own events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

_HEAD_START = 40_000_000  # cycles, about 20 ms, in which the host queues a step


class Timing(NamedTuple):
    """Milliseconds and MiB of one step, medians of the repeats.

    Attributes:
        ms: on the device, between an event before and one after, the host being ahead: what a step costs where the
            device is what everything waits for. On a CPU the time on the wall.
        host_ms: until the host has queued it.
        least: smallest ``ms``.
        most: largest ``ms``.
        peak: memory above what was allocated before; None on a CPU.
    """

    ms: float
    host_ms: float
    least: float
    most: float
    peak: float | None

    def details(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "ms"}


def timed(step: Callable[[], object], device: torch.device, *, repeats: int = 20, warm_up: int = 3) -> Timing:
    """Warm up, then repeat one step."""
    for _ in range(warm_up):
        step()
    if device.type != "cuda":
        return _on_the_wall(step, repeats)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    times, host = [], []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(_HEAD_START)
        start.record()
        begin = time.perf_counter()
        step()
        host.append(1e3 * (time.perf_counter() - begin))
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    return Timing(statistics.median(times), statistics.median(host), min(times), max(times), peak)


def _on_the_wall(step: Callable[[], object], repeats: int) -> Timing:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    median = statistics.median(times)
    return Timing(median, median, min(times), max(times), None)
