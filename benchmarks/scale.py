"""What will a step take on more devices, with a larger batch, of more pictures? docs/scale.md has the formulas.

    python benchmarks/scale.py

The formulas of docs/scale.md are functions here. One to eight gloo processes on this machine, with a thread each, take
steps: the loss alone, with 8,192 views in all and with 512 of each process, and a whole step of SimCLR under DDP. Two
rates are fitted to the losses and to all-reduces; everything else is counted. The tables set what is predicted beside
what is measured, and the last one is predictions alone: nobody has run those. Time is that of the CPU of one process:
processes that share two cores wait for one another. Memory is the peak above what is resident before a step.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import report
import torch
import torch.distributed as dist
from runner import parse, parser
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from simclr_lightning import SimCLR
from simclr_lightning.callbacks.dry_run import PeakMemory
from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.order import WindowOrder
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.losses.tiles import loss_bytes
from simclr_lightning.models.saved_activations import activations_of
from simclr_lightning.views import ViewBatch

DIMENSION = 128
MIB = 2**20
SIDE, PICTURES = 32, 32  # of the views, and of each process, in a whole step
NETWORK: dict[str, Any] = {"encoder": "resnet10", "width": 0.5, "stem": "pooled"}


class Shape(NamedTuple):
    """A step: processes, pictures of each, views of each picture, dimension of the projections."""

    processes: int
    pictures: int
    views: int = 2
    dimension: int = DIMENSION

    @property
    def rows(self) -> int:
        """Views of one process."""
        return self.views * self.pictures

    @property
    def columns(self) -> int:
        """Views of all processes."""
        return self.rows * self.processes


def gathered_bytes(shape: Shape) -> int:
    """Bytes that the loss of a process receives in a step: projections, and one number a view on the way back."""
    return 4 * (shape.dimension + 1) * (shape.columns - shape.rows)


def gathered_bytes_with_gradients(shape: Shape) -> int:
    """The same of a loss that sends gradients of the projections of all back, by a ring all-reduce."""
    ring = 2 * (shape.processes - 1) / shape.processes
    return int(4 * shape.dimension * ((shape.columns - shape.rows) + ring * shape.columns))


def gradient_bytes(parameters: int, processes: int) -> int:
    """Bytes that DDP sends from each process in a step, by a ring all-reduce of float32."""
    return int(4 * parameters * 2 * (processes - 1) / processes)


def loss_flops(shape: Shape) -> float:
    """Additions and multiplications of the loss of a process, forward and backward, nothing kept in between.

    Of its own views against each other half of the matrix is computed, and a product each way follows; against those of
    other processes all of it, and one product.
    """
    own, foreign = shape.rows**2, shape.rows * (shape.columns - shape.rows)
    return float(shape.dimension * (4 * own + 6 * foreign))


class Rates(NamedTuple):
    """What is fitted: operations of the loss a second, and seconds of an all-reduced byte."""

    flops: float
    seconds_a_byte: float


class Link(NamedTuple):
    """Between processes: bytes a second that each of them sends, and seconds of an exchange of nothing."""

    speed: float
    latency: float


def step_seconds(shape: Shape, encoder: float, parameters: int, flops: float, link: Link) -> float:
    """Seconds of a step where nothing overlaps: encoder, loss, its three exchanges, and the gradients' one."""
    sent = gathered_bytes(shape) + gradient_bytes(parameters, shape.processes)
    waits = 0.0 if shape.processes == 1 else 4 * link.latency
    return encoder + loss_flops(shape) / flops + sent / link.speed + waits


def order_bytes(pictures: float, *, packed: bool = False) -> tuple[float, float]:
    """Bytes that the sampler of one process holds during an epoch, and at most.

    It draws an order from numbers in theirs, and copies it once. Of packed pictures it also holds which are in each
    chunk, and needs most when it sorts these, once.
    """
    return (16 * pictures, 50 * pictures) if packed else (8 * pictures, 16 * pictures)


def _process(rank: int, folder: str, world: int, total: int, repetitions: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    numbers = torch.ones(4 * MIB)  # 16 MiB
    shapes = dict.fromkeys((Shape(world, total // world // 2), Shape(world, total // 32)))
    found = {
        "losses": [_loss(shape, repetitions) for shape in shapes],
        "step": _step(world, repetitions),
        "all-reduce": 0.0 if world == 1 else _measured(lambda: dist.all_reduce(numbers), repetitions)["cpu"],
    }
    Path(folder, str(rank)).write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort a process that ends as usual


def _measured(step: Callable[[], object], repetitions: int) -> dict[str, float]:
    """Median of the CPU time of this process, and its peak of memory."""
    step()
    memory, seconds = PeakMemory(torch.device("cpu")), []
    for _ in range(repetitions):
        dist.barrier()
        begun = time.process_time()
        step()
        seconds.append(time.process_time() - begun)
    return {"cpu": statistics.median(seconds), "memory": float(memory.grown() or 0)}


def _loss(shape: Shape, repetitions: int) -> dict[str, Any]:
    projections = torch.randn(shape.views, shape.pictures, shape.dimension, requires_grad=True)
    loss = NTXentLoss(temperature=0.1)
    received = 0

    def counting(tensors: list[Tensor], tensor: Tensor, group: Any = None) -> Any:
        nonlocal received
        received += sum(own.numel() * own.element_size() for own in tensors) - tensor.numel() * tensor.element_size()
        return all_gather(tensors, tensor, group=group)

    batch = ViewBatch((projections.detach(),), torch.zeros(shape.pictures), torch.arange(1), equal_shares=True)

    def step() -> None:
        torch.autograd.grad(loss.of_batch(projections, batch), projections)

    all_gather = dist.all_gather
    with mock.patch.object(dist, "all_gather", counting):
        step()
    return {"shape": shape, "received": received, **_measured(step, repetitions)}


class _Whole(nn.Module):
    """Loss of a step, under DDP's hooks."""

    def __init__(self, model: SimCLR) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ViewBatch) -> Tensor:
        return self.model.contrast(batch, check=False).loss


def _step(world: int, repetitions: int) -> dict[str, Any]:
    model = SimCLR(**NETWORK, image_size=SIDE)
    batch = ViewBatch.of(*torch.rand(2, PICTURES, 3, SIDE, SIDE))._replace(equal_shares=True)
    whole: nn.Module = _Whole(model)
    whole = whole if world == 1 else DistributedDataParallel(whole)

    def step() -> None:
        whole.zero_grad()
        whole(batch).backward()

    def encoder() -> None:
        model.zero_grad()
        model.project(model(batch.views[0].flatten(0, 1))).sum().backward()

    parameters = sum(own.numel() for own in model.parameters())
    activations = activations_of(model.encoder, (2 * PICTURES, 3, SIDE, SIDE))
    loss = loss_bytes(2 * PICTURES, 2 * PICTURES * world, DIMENSION, torch.device("cpu"))
    predicted = (0 if activations is None else activations.most) + loss + 4 * parameters
    whole_step, alone = _measured(step, repetitions), _measured(encoder, repetitions)
    return {**whole_step, "encoder": alone["cpu"], "parameters": parameters, "predicted memory": predicted}


def held_of_an_epoch(pictures: int, *, packed: bool) -> tuple[float, float]:
    """What the sampler holds in an epoch of so many pictures, and at most, in bytes; measured."""
    tracemalloc.start()
    shared: dict[str, Any] = {"num_replicas": 1, "rank": 0, "shuffle": True, "drop_last": True}
    order = {"order": WindowOrder(np.arange(pictures) // 4096, window=16)} if packed else {}
    sampler = GlobalBatchSampler(range(pictures), 64, **shared, **order)
    keys = iter(sampler)
    next(keys)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return float(held), float(most)


def measure(processes: int, total: int, repetitions: int) -> dict[str, Any]:
    """One run; of the processes the median."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_process, (folder, processes, total, repetitions), processes)  # type: ignore[no-untyped-call]
        found = [json.loads(Path(folder, str(rank)).read_text()) for rank in range(processes)]
    first: dict[str, Any] = found[0]
    for number, own in enumerate(first["losses"]):
        own |= {key: statistics.median(each["losses"][number][key] for each in found) for key in ("cpu", "memory")}
    first["step"] |= {
        key: statistics.median(each["step"][key] for each in found) for key in ("cpu", "memory", "encoder")
    }
    first["all-reduce"] = statistics.median(each["all-reduce"] for each in found)
    return first


def fitted(runs: dict[int, dict[str, Any]]) -> Rates:
    """Rates by which the predictions of all losses, and of all all-reduces, are right in the geometric mean."""
    losses = [own for run in runs.values() for own in run["losses"]]
    flops = statistics.geometric_mean(loss_flops(Shape(*own["shape"])) / own["cpu"] for own in losses)
    exchanged = {world: run["all-reduce"] for world, run in runs.items() if world > 1}
    each = [spent / gradient_bytes(4 * MIB, world) for world, spent in exchanged.items()]
    return Rates(flops, statistics.geometric_mean(each) if each else 0.0)


def compared(runs: dict[int, dict[str, Any]], rates: Rates) -> list[list[str]]:
    """Rows of the table: predicted beside measured."""
    rows = []
    for world, run in runs.items():
        for own in run["losses"]:
            shape = Shape(*own["shape"])
            told = [loss_flops(shape) / rates.flops, own["cpu"], _predicted_loss_bytes(shape), own["memory"]]
            bytes_of_it = [f"{gathered_bytes(shape):,}", f"{own['received']:,}"]
            rows.append([f"loss, {shape.columns:,} views", str(world), *_told(*told), *bytes_of_it])
        own, shape = run["step"], Shape(world, PICTURES)
        sent = gradient_bytes(own["parameters"], world)
        seconds = runs[1]["step"]["encoder"] + loss_flops(shape) / rates.flops + sent * rates.seconds_a_byte
        told = [seconds, own["cpu"], own["predicted memory"], own["memory"]]
        rows.append([f"step, {PICTURES} pictures each", str(world), *_told(*told), "", ""])
    return rows


def _predicted_loss_bytes(shape: Shape) -> int:
    return loss_bytes(shape.rows, shape.columns, shape.dimension, torch.device("cpu"))


def _told(seconds: float, measured: float, predicted: float, memory: float) -> list[str]:
    times = [f"{1e3 * value:,.3g}" for value in (seconds, measured)]
    return [*times, *(f"{value / MIB:,.1f}" for value in (predicted, memory))]


def predictions() -> list[list[str]]:
    """Rows of steps that nobody has run: bytes, operations and memory of a process, time of the exchange."""
    resnet50 = 28_000_000  # with its head
    links = {"10 Gbit/s": Link(1.25e9, 5e-5), "400 Gbit/s": Link(5e10, 1e-5)}
    rows = []
    cases = {"64 devices x 64 pictures": Shape(64, 64), "64 devices x 1,024 pictures": Shape(64, 1024)}
    cases |= {"1 device x 65,536 pictures": Shape(1, 65_536), "64 devices x 64 pictures, 8 views": Shape(64, 64, 8)}
    for name, shape in cases.items():
        sent = gathered_bytes(shape), gradient_bytes(resnet50, shape.processes)
        waits = 4 * (shape.processes > 1)
        times = [sum(sent) / link.speed + waits * link.latency for link in links.values()]
        memory = loss_bytes(shape.rows, shape.columns, shape.dimension, torch.device("cuda"))
        told = [f"{shape.columns:,}", *(f"{value / 1e6:,.1f}" for value in sent), f"{loss_flops(shape) / 1e9:,.3g}"]
        rows.append([name, *told, f"{memory / MIB:,.0f}", *(f"{1e3 * value:,.3g}" for value in times)])
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--processes", type=int, nargs="+", help="numbers of processes (1 2 4 8; with --short 1 2)")
    made.add_argument("--views", type=int, help="of all processes (8192; with --short 256)")
    options = parse(made)
    processes = options.processes or ([1, 2] if options.short else [1, 2, 4, 8])
    total, repetitions = options.views or (256 if options.short else 8192), 3 if options.short else 7
    runs = {world: measure(world, total, repetitions) for world in processes}
    rates = fitted(runs)
    header = ["what", "processes", "ms predicted", "ms measured", "MiB predicted", "MiB measured"]
    note = (
        f"One thread each, {rates.flops / 1e9:.3g} GFLOP/s of the loss and {rates.seconds_a_byte * 1e9:.3g} ns a byte"
    )
    note += " of an all-reduce fitted to these runs. CPU time and memory of a process, medians."
    data = {"runs": list(runs.values()), "rates": rates._asdict()}
    rows = compared(runs, rates)
    columns = [*header, "bytes gathered, predicted", "counted"]
    report.write(options.out, "scale", "A step on some processes: predicted and measured", note, columns, rows, data)
    sizes = (10_000, 100_000) if options.short else (100_000, 1_000_000, 10_000_000)
    held = {(size, packed): held_of_an_epoch(size, packed=packed) for size in sizes for packed in (False, True)}
    rows = []
    for (size, packed), found in held.items():
        order = "packed, 16 chunks of 4,096 at a time" if packed else "uniform"
        numbers = [*order_bytes(size, packed=packed), *found]
        rows.append([f"{size:,}", order, *(f"{value / size:.1f}" for value in numbers)])
    rows += [
        ["10^9, a prediction", order, *(f"{value / 1e9:.0f}" for value in order_bytes(1e9, packed=packed)), "", ""]
        for order, packed in (("uniform", False), ("packed", True))
    ]
    header = ["pictures", "order", "bytes a picture held", "at most", "measured: held", "at most"]
    note = "Bytes of numpy's arrays for each picture, in each process, by tracemalloc."
    listed = [{"pictures": size, "packed": packed, "bytes": found} for (size, packed), found in held.items()]
    report.write(options.out, "scale_order", "The order of an epoch", note, header, rows, listed)
    header = ["a prediction", "views", "MB gathered", "MB of gradients", "GFLOP of the loss", "MiB of the loss"]
    note = (
        "Of one process, ResNet-50 with its head; nothing of this was run. Times of the exchange, nothing overlapped."
    )
    columns = [*header, "ms at 10 Gbit/s", "ms at 400 Gbit/s"]
    title = "Steps that nobody has run"
    report.write(options.out, "scale_predictions", title, note, columns, predictions(), predictions())


if __name__ == "__main__":
    main()
