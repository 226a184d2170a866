"""What do the views of a batch cost on the device?

256 pairs of 224 pixels, finished from the crops that the loader's workers made, and of 32 pixels from whole pictures;
then what others make of whole pictures, which lie on the device for them, too. torchvision draws once for a batch, so
it goes picture by picture.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import torch
from pipelines import Setting, kornia, torchvision
from runner import OURS
from torch import Tensor

from gpu.check import Check
from gpu.timing import timed
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe, crop_views, fused


def run(check: Check) -> None:
    torch.manual_seed(0)
    pairs = check.sized(256, 4)
    side = check.sized(224, 32)
    recipe = ViewRecipe("imagenet", size=side)
    drawn = torch.randint(0, 256, (16, 3, side // 8, side // 8), dtype=torch.uint8)
    pictures = torch.nn.functional.interpolate(drawn, (side, side), mode="bicubic")
    pictures = pictures[torch.arange(pairs) % len(pictures)]
    indices = torch.arange(pairs)
    crops = crop_views(list(pictures), [recipe], indices, seed=0, epoch=0)
    from_crops = ImageBatch(None, crops, indices, indices, 0).to(check.device)
    whole = ImageBatch(pictures, None, indices, indices, 0).to(check.device)
    small = torch.randint(0, 256, (check.sized(1024, 8), 3, 32, 32), dtype=torch.uint8)
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        most = None if dtype == torch.float32 else 1.5
        _ours(check, f"{pairs} pairs of {side} px from crops, {kind}", recipe, from_crops, dtype, most)
        _ours(check, f"{pairs} pairs of {side} px, {kind}", recipe, whole, dtype, None)
        for number in (pairs, len(small)):
            indices = torch.arange(number)
            batch = ImageBatch(small[:number], None, indices, indices, 0).to(check.device)
            most = 0.5 if dtype == torch.bfloat16 and number == pairs else None
            _ours(check, f"{number} pairs of 32 px, {kind}", ViewRecipe("cifar10"), batch, dtype, most)
    for setting, pixels in (
        (Setting(side, 1.0, 0.5, batched=True), whole.images),
        (Setting(32, 0.5, 0.0, batched=True), small[:pairs].to(check.device)),
    ):
        assert pixels is not None
        title = f"{pairs} pairs of {setting.size} px"
        _theirs(check, f"{title}, kornia", lambda own=setting: kornia(own).views, pixels, check.sized(10, 1))
        make = lambda own=setting: torchvision(own, "tensor").views  # noqa: E731
        _theirs(check, f"{title}, torchvision", make, pixels, 1)


def _ours(
    check: Check, name: str, recipe: ViewRecipe, batch: ImageBatch, dtype: torch.dtype, most: float | None
) -> None:
    engine = ViewEngine(recipe, dtype=dtype)
    with check.guarded(f"{name}, {OURS}"):
        timing = timed(lambda: engine(batch), check.device, repeats=check.sized(20, 2))
        check.figure(f"{name}, {OURS}", timing.ms, "ms", at_most=most, **timing.details())
    with check.guarded(f"{name}, {OURS}, without Triton"), patch.object(fused, "available", lambda device: False):
        timing = timed(lambda: engine(batch), check.device, repeats=check.sized(10, 1))
        check.figure(f"{name}, {OURS}, without Triton", timing.ms, "ms", **timing.details())


def _theirs(
    check: Check, name: str, make: Callable[[], Callable[[Tensor], Tensor]], pictures: Tensor, repeats: int
) -> None:
    with check.guarded(name):
        with torch.device(check.device):  # of their constants
            views = make()
        timing = timed(lambda: views(pictures), check.device, repeats=repeats, warm_up=1)
        check.figure(name, timing.ms, "ms", **timing.details())
