"""What do NT-Xent and its gradient cost as the batch grows, and how much memory?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from runner import OURS

from gpu.check import Check
from gpu.timing import Timing, timed
from losses import CONTESTANTS, LossFunction

PLAIN, TEMPERATURE = "masked cross-entropy", 0.1
MOST = 16384
"""Views beyond which the others' memory is not tried; masked cross-entropy may run out of it."""


def run(check: Check) -> None:
    for views in check.sized((512, 2048, 8192, 16384, 65536), (16, 32)):
        found: dict[str, Timing] = {}
        for name in (OURS, PLAIN, "lightly"):
            if views > MOST and name == "lightly":
                continue
            with check.guarded(f"{views} views, {name}"):
                step = _step(CONTESTANTS[name](TEMPERATURE), views, check)
                found[name] = timing = timed(step, check.device, repeats=_repeats(check, views))
                most = 2.0 if name == OURS and views == 8192 else None
                check.figure(f"{views} views, {name}", timing.ms, "ms", at_most=most, **timing.details())
                if name == OURS and timing.peak is not None:
                    most = 100.0 if views == 8192 else None
                    check.figure(f"{views} views, {name}: peak memory", timing.peak, "MiB", at_most=most)
        if OURS in found and PLAIN in found:
            ratio = found[OURS].ms / found[PLAIN].ms
            check.figure(f"{views} views: ours to {PLAIN}", ratio, "times", at_most=1.0)
    for views in check.sized((512, 8192), (16,)):
        for name, note in ((OURS, "in float32 all the same"), (PLAIN, "products in bfloat16: less exact")):
            title = f"{views} views, {name}, under bf16 autocast"
            with check.guarded(title), torch.autocast(check.device.type, torch.bfloat16):
                step = _step(CONTESTANTS[name](TEMPERATURE), views, check)
                timing = timed(step, check.device, repeats=check.sized(20, 2))
                check.figure(title, timing.ms, "ms", note=note, **timing.details())
    for views in check.sized((512, 2048, 8192, MOST), (16,)):  # last: it may take long to compile
        with check.guarded(f"{views} views, {PLAIN}, compiled"):
            plain = CONTESTANTS[PLAIN](TEMPERATURE)
            loss = plain if check.rehearse else torch.compile(plain, dynamic=False)
            timing = timed(_step(loss, views, check), check.device, repeats=_repeats(check, views))
            check.figure(f"{views} views, {PLAIN}, compiled", timing.ms, "ms", **timing.details())


def _repeats(check: Check, views: int) -> int:
    return check.sized(20 if views < 65536 else 3, 2)


def _step(loss: LossFunction, views: int, check: Check) -> Callable[[], None]:
    torch.manual_seed(0)
    first, second = (torch.randn(views // 2, 128, device=check.device, requires_grad=True) for _ in range(2))

    def step() -> None:
        first.grad = second.grad = None
        loss(first, second).backward()

    return step
