"""Runs a function in several processes at once, which talk to each other through gloo as those of torchrun would."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

Filter = tuple[Any, str, type[Warning]]  # action, pattern, category


def run_in_processes(
    function: Callable[..., Any], world_size: int, *arguments: object, timeout: float = 300
) -> list[Any]:
    """Call ``function(*arguments)`` in every process of a group; one process is alone, without a group.

    The function belongs to the top level of a test module and finds its own part of the data by
    ``simclr_lightning.distributed``. ``Trainer(strategy="ddp", devices=world_size())`` trains in these processes.
    Warnings that are errors in the calling test are errors there. The processes are forked from one that has imported
    torch, Lightning and this package, and has no threads.

    Args:
        function: what to call.
        world_size: number of processes.
        arguments: can be pickled.
        timeout: seconds that the slowest process may take.

    Returns:
        What each rank returned: tensors and plain values, saved by ``torch.save``.

    Raises:
        AssertionError: if a process raised (its output is told, with the traceback), died or took too long.
    """
    __tracebackhide__ = True  # pytest shows the test
    context = get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "simclr_lightning"])
    filters = [(action, getattr(message, "pattern", ""), kind) for action, message, kind, *_ in warnings.filters]
    with TemporaryDirectory() as folder:
        shared = (world_size, Path(folder), function, arguments, filters, timeout)
        processes = [context.Process(target=_work, args=(rank, *shared)) for rank in range(world_size)]
        try:
            for process in processes:
                process.start()
            running = dict(enumerate(processes))
            deadline = time.monotonic() + timeout
            while running:
                sentinels = [process.sentinel for process in running.values()]
                ended = connection.wait(sentinels, max(0.0, deadline - time.monotonic()))
                assert ended, f"Still running after {timeout} s: {', '.join(f'rank {rank}' for rank in running)}."
                ranks = [rank for rank, process in running.items() if process.sentinel in ended]
                failed = [_ending(rank, code, folder) for rank in ranks if (code := running.pop(rank).exitcode)]
                assert not failed, "\n".join(failed)
        finally:
            for process in processes:
                process.kill()  # the others may wait for the one that failed
                process.join()
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world_size)]


def _ending(rank: int, exitcode: int, folder: str) -> str:
    return f"rank {rank} ended with {exitcode}:\n{Path(folder, f'{rank}.txt').read_text()}"


def _work(
    rank: int,
    world_size: int,
    folder: Path,
    function: Callable[..., Any],
    arguments: tuple[object, ...],
    filters: list[Filter],
    timeout: float,
) -> None:
    """One process. Exceptions are printed, with a traceback, by multiprocessing."""
    output = os.open(folder / f"{rank}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    warnings.resetwarnings()
    for action, pattern, category in filters:
        warnings.filterwarnings(action, pattern, category, append=True)

    if world_size > 1:
        # As torchrun does; a file instead of a port, since ports may be taken. Where the test does not live to kill the
        # process, it ends by itself.
        os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), NODE_RANK="0")
        file, limit = f"file://{folder / 'init'}", timedelta(seconds=timeout + 60)
        dist.init_process_group("gloo", init_method=file, rank=rank, world_size=world_size, timeout=limit)
    torch.save(function(*arguments), folder / f"{rank}.pt")
    if world_size > 1:
        dist.barrier()
        dist.destroy_process_group()
