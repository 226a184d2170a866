"""What does NT-Xent over the batches of several processes cost?

    python benchmarks/gather.py --views 2048 8192

Two processes on this machine with gloo and one thread each hold half of the views; the loss is that of all of them,
forward and backward. Time is wall time inside the processes, that of the slowest, since they wait for each other; with
fewer idle cores than processes it says nothing. On one machine computation dominates, not communication. The second
table holds the views fixed and lets the number of processes grow, for ours. solo-learn has no gather in its SimCLR.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from runner import OURS, Contest, Figures, parse, parser, run
from torch.multiprocessing.spawn import spawn

from losses import CONTESTANTS

DIMENSION = 128
TEMPERATURE = 0.1


class Job(NamedTuple):
    """Which loss, on how many processes, for how many views in all."""

    contestant: str
    processes: int
    views: int


def measure(make_job: Callable[[int], Job], case: int, seconds: float) -> Figures:
    """Start the processes and take the slowest of each."""
    job = make_job(case)
    CONTESTANTS[job.contestant](TEMPERATURE)  # an ImportError if it is not installed
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (folder, job, seconds), job.processes)  # type: ignore[no-untyped-call]
        figures = [json.loads(Path(folder, str(rank)).read_text()) for rank in range(job.processes)]
    return {key: max(own[key] for own in figures) for key in ("cpu", "wall")} | {"memory": None}


def _process(rank: int, folder: str, job: Job, seconds: float) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=job.processes)
    loss = CONTESTANTS[job.contestant](TEMPERATURE)
    first, second = torch.randn(2, job.views // job.processes // 2, DIMENSION).requires_grad_().unbind()

    def step() -> tuple[float, float]:
        dist.barrier()
        start, start_cpu = time.perf_counter(), time.process_time()
        torch.autograd.grad(loss(first, second), [first, second])
        return time.process_time() - start_cpu, time.perf_counter() - start

    step()
    repetitions = torch.tensor(min(200, max(3, seconds // step()[1])), dtype=torch.int64)
    dist.broadcast(repetitions, 0)
    cpu, wall = zip(*(step() for _ in range(int(repetitions))), strict=True)
    Path(folder, str(rank)).write_text(json.dumps({"cpu": statistics.median(cpu), "wall": statistics.median(wall)}))
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that ends as usual


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--views", type=int, nargs="+", default=[2048, 8192], help="of all processes together")
    made.add_argument("--processes", type=int, nargs="+", help="numbers of processes (1 2 4; with --short 1 2)")
    options = parse(made)
    title = "NT-Xent over {} gloo processes, forward and backward: wall time, 128 dimensions"
    contestants = {name: partial(Job, name, 2) for name in CONTESTANTS if name != "solo-learn"}
    growth = {OURS: lambda processes: Job(OURS, processes, options.views[-1])}
    processes = options.processes or ([1, 2] if options.short else [1, 2, 4])
    run(
        options,
        Contest("gather", title.format("two"), contestants, options.views, "views", "wall", measure=measure),
        Contest(
            "gather_processes",
            f"{title.format('some')}, {options.views[-1]} views in all",
            growth,
            processes,
            "processes",
            "wall",
            measure=measure,
        ),
    )


if __name__ == "__main__":
    main()
