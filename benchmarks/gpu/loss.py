"""What do NT-Xent and its gradient cost as the batch grows, and how much memory?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from runner import OURS

from gpu.check import Check
from gpu.timing import Timing, timed
from losses import CONTESTANTS, LossFunction

PLAIN, TEMPERATURE = "masked cross-entropy", 0.1


def run(check: Check) -> None:
    compiled = f"{PLAIN}, compiled"
    contestants: dict[str, Callable[[float], LossFunction]] = {
        OURS: CONTESTANTS[OURS],
        PLAIN: CONTESTANTS[PLAIN],
        compiled: lambda temperature: torch.compile(CONTESTANTS[PLAIN](temperature)),
        "lightly": CONTESTANTS["lightly"],
    }
    if check.rehearse:  # it takes a minute, and nothing of it belongs to this script
        contestants[compiled] = CONTESTANTS[PLAIN]
    for views in check.sized((512, 2048, 8192, 16384, 65536), (16, 32)):
        found: dict[str, Timing] = {}
        for name, make in contestants.items():
            if views > 16384 and name not in (OURS, PLAIN):
                continue
            with check.guarded(f"{views} views, {name}"):
                found[name] = timing = timed(_step(make, views, check), check.device, repeats=_repeats(check, views))
                aims: dict[str, Any] = {"at_most": 2.0} if name == OURS and views == 8192 else {}
                check.figure(f"{views} views, {name}", timing.ms, "ms", **aims, **timing.details())
                if name == OURS and timing.peak is not None:
                    most = 100.0 if views == 8192 else None
                    check.figure(f"{views} views, {name}: peak memory", timing.peak, "MiB", at_most=most)
        if OURS in found and PLAIN in found:
            ratio = found[OURS].ms / found[PLAIN].ms
            check.figure(f"{views} views: ours to {PLAIN}", ratio, "times", at_most=1.0)
    with check.guarded("bf16 autocast"):
        for views in check.sized((512, 8192), (16,)):
            for name in (OURS, PLAIN):
                step = _step(contestants[name], views, check)
                with torch.autocast(check.device.type, torch.bfloat16):
                    timing = timed(step, check.device, repeats=check.sized(20, 2))
                note = "float32 all the same" if name == OURS else "its products in bfloat16: less exact"
                title = f"{views} views, {name}, under bf16 autocast"
                check.figure(title, timing.ms, "ms", note=note, **timing.details())


def _repeats(check: Check, views: int) -> int:
    return check.sized(20 if views < 65536 else 3, 2)


def _step(make: Callable[[float], LossFunction], views: int, check: Check) -> Callable[[], None]:
    loss = make(TEMPERATURE)
    torch.manual_seed(0)
    first, second = (torch.randn(views // 2, 128, device=check.device, requires_grad=True) for _ in range(2))

    def step() -> None:
        first.grad = second.grad = None
        loss(first, second).backward()

    return step
