"""How near to its encoder's own time is a whole step of ``Trainer.fit``?

The encoder alone: forward and backward under bf16 autocast, in channels_last, of views that lie ready on the device.
``fit``: pictures or crops on the host at the beginning of a step, views, encoder, head, loss, optimizer, probe and
logging, from the start of one step to that of the next by the device's clock, logged steps included.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from loader import Pictures
from torch import Tensor

from gpu.check import Check
from gpu.timing import timed
from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.views import ImageBatch, ViewRecipe, crop_views

PRECISION = "bf16-mixed"


class StepClock(Callback):
    """Times from the start of a step to that of the next, without a wait between."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self._marks = warm_up, []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if pl_module.device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        self._marks.append(torch.cuda.Event(enable_timing=True))
        self._marks[-1].record()

    def milliseconds(self) -> list[float]:
        marks = self._marks[self.warm_up :]
        if isinstance(marks[0], float):
            return [1e3 * (after - before) for before, after in pairwise(marks)]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) for before, after in pairwise(marks)]


class Profile(Callback):
    """Which kernels the steps after ``first`` spend their time in; afterwards the table is in ``text``."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.text = first, steps, ""
        self._profiler: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.first:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            if pl_module.device.type == "cuda":
                kinds.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=kinds)
            self._profiler.__enter__()
        elif batch_idx == self.first + self.steps:
            self._profiler.__exit__(None, None, None)
            order = "self_device_time_total" if pl_module.device.type == "cuda" else "self_cpu_time_total"
            try:
                averages = self._profiler.key_averages()
                self.text = averages.table(sort_by=order, row_limit=40, max_name_column_width=70)
            except Exception as error:  # steps are measured all the same
                self.text = f"{type(error).__name__}: {error}"


def cifar(check: Check) -> None:
    """ResNet-18 on views of 32 x 32 pixels, from pictures in memory."""
    settings = {"encoder": check.sized("resnet18", "resnet8"), "stem": "cifar", "width": check.sized(1.0, 0.125)}
    small, large = check.sized((256, 1024), (8, 16))
    for number, least in ((small, 0.85), (large, None)):
        name = f"ResNet-18, 32 px, {2 * number} views"
        with check.guarded(name):
            alone = encoder_alone(check, f"{name}: encoder alone", settings, 2 * number, 32)
            whole_fit(check, f"{name}: fit", settings, _in_memory(check, number), alone, least)
            if number == small:
                data = _in_memory(check, number)
                data.on_device = False
                whole_fit(check, f"{name}: fit, pictures on the host", settings, data, alone, None)
    if check.seconds_left() < check.sized(60, 0):
        return
    with check.guarded("ResNet-18, 32 px, compiled"):
        number = check.sized(1024, 8)
        name = f"ResNet-18, 32 px, {2 * number} views, compiled"
        alone = encoder_alone(check, f"{name}: encoder alone", settings, 2 * number, 32, compiled=True)
        compiled = {**settings, "compile_encoder": not check.rehearse}
        whole_fit(check, f"{name}: fit", compiled, _in_memory(check, number), alone, None)


def _in_memory(check: Check, number: int) -> SimCLRDataModule:
    """As many pictures as CIFAR-10 has."""
    pictures = partial(Pictures, check.sized(50_000, 200), as_float=False)
    return SimCLRDataModule(pictures, batch_size=number, views="cifar10", cache=True)


def imagenet(check: Check) -> None:
    """ResNet-50 on views of 224 x 224 pixels, from crops as the loader's workers make them, which lie ready."""
    settings = {"encoder": check.sized("resnet50", "resnet10"), "stem": "imagenet", "width": check.sized(1.0, 0.125)}
    number, side = check.sized(256, 4), check.sized(224, 32)
    name = f"ResNet-50, {side} px, {2 * number} views"
    with check.guarded(name):
        alone = encoder_alone(check, f"{name}: encoder alone", settings, 2 * number, side, repeats=check.sized(10, 2))
        steps = check.sized(60, 12)
        data = ReadyCrops(number, ViewRecipe("imagenet", size=side), steps, pinned=check.device.type == "cuda")
        whole_fit(check, f"{name}: fit", settings, data, alone, 0.95, steps=steps)


def encoder_alone(
    check: Check,
    name: str,
    settings: dict[str, Any],
    number: int,
    side: int,
    *,
    compiled: bool = False,
    repeats: int | None = None,
) -> float:
    """Milliseconds of forward and backward."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    model = SimCLR(**settings).to(check.device)
    if compiled and not check.rehearse:
        model.encoder.compile()
    views = torch.rand(number, 3, side, side, device=check.device).bfloat16()
    views = views.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(check.device.type, torch.bfloat16):
            features = model(views)
        features.backward(torch.ones_like(features))

    timing = timed(step, check.device, repeats=repeats or check.sized(30, 2), warm_up=check.sized(5, 1))
    torch.backends.cudnn.benchmark = False
    check.figure(name, timing.ms, "ms", **timing.details())
    return timing.ms


def whole_fit(
    check: Check,
    name: str,
    settings: dict[str, Any],
    data: SimCLRDataModule,
    alone: float,
    least: float | None,
    *,
    steps: int | None = None,
) -> None:
    """Step of ``fit``, and the encoder's own time as a share of it."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    # fifty steps have one that is logged
    steps = steps or check.sized(165, 12)
    clock = StepClock(warm_up=steps - check.sized(50, 4))
    profile = Profile(first=check.sized(4, 0), steps=check.sized(4, 1))
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=check.sized("gpu", "cpu"),
            devices=1,
            precision=PRECISION,
            benchmark=True,
            max_steps=steps,
            max_epochs=-1,
            limit_val_batches=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=CSVLogger(folder),
            callbacks=[
                LARSWarmup(warmup_steps=5, batch_size=data.batch_size),
                OnlineLinearProbe(),
                LearningRateMonitor(),
                clock,
                profile,
            ],
        )
        trainer.fit(SimCLR(**settings), data)
    torch.backends.cudnn.benchmark = False
    times = clock.milliseconds()
    mean, share = statistics.fmean(times), alone / statistics.fmean(times)
    median = statistics.median(times)
    note = f"median {median:.3g} of {len(times)} steps; {1e3 * data.batch_size / mean:,.0f} pictures a second"
    check.figure(name, mean, "ms", note=note, median=median, times=times)
    check.figure(f"{name}: share of the encoder alone", share, "", at_least=least, profile=profile.text)


class ReadyCrops(SimCLRDataModule):
    """A few batches of crops in page-locked memory, served again and again: a loader that is always in time."""

    def __init__(self, number: int, recipe: ViewRecipe, steps: int, *, pinned: bool) -> None:
        super().__init__(_a_few_pictures, batch_size=number, views=recipe, num_workers=0)
        self._steps = steps
        pattern = torch.rand(16, 3, 12, 16)
        drawn = torch.nn.functional.interpolate(pattern, (375, 500), mode="bicubic")
        decoded = list((drawn.clamp(0, 1) * 255).byte())
        indices = torch.arange(number)
        self._batches = []
        for epoch in range(2):
            many = [decoded[place % len(decoded)] for place in range(number)]
            crops = crop_views(many, [recipe], indices, seed=0, epoch=epoch)
            targets = indices % 10
            if pinned:
                crops, targets = tuple(own.pin_memory() for own in crops), targets.pin_memory()
            self._batches.append(ImageBatch(None, crops, targets, indices.pin_memory() if pinned else indices, epoch))

    def train_dataloader(self) -> Any:
        return _Repeated(self._batches, self._steps)


class _Repeated:
    def __init__(self, batches: list[ImageBatch], steps: int) -> None:
        self._batches, self._steps = batches, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[ImageBatch]:
        for step in range(self._steps):
            yield self._batches[step % len(self._batches)]


def _a_few_pictures() -> list[tuple[Tensor, int]]:
    """What the data module believes to serve: ten labels."""
    return [(torch.zeros(3, 8, 8, dtype=torch.uint8), label % 10) for label in range(4096)]
