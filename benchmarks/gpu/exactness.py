"""Is it right? Loss, gradient, LARS and views on the device against float64 on the CPU.

Under every setting of ``torch.set_float32_matmul_precision``: "high" and "medium" let products of float32 be computed
from 10 or 7 bits of each number, which shows as a gradient error of 5e-4 or 4e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import torch
from loss_accuracy import gradient, projections, truth
from torch import Tensor, nn

from gpu.check import Check
from simclr_lightning.losses import nt_xent
from simclr_lightning.optim import LARS, parameter_groups
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe, crop_views, draw_parameters, fused

CASES = (("unrelated", 0.1), ("unrelated", 0.5), ("alike", 0.1), ("alike", 0.05))
ROUNDING, VIEW_ROUNDING, BF16 = 1e-5, 3e-5, 2**-8
"""Relative errors of a gradient and of weights; differences of pixels of float32 and of bfloat16 in [0, 1]."""


def run(check: Check) -> None:
    truths = _truths(check)
    reason = fused.obstacle(check.device)
    check.must("views by Triton", check.rehearse or reason is None, reason or "")
    for setting in ("highest", "high", "medium"):
        with _matmul_precision(setting):
            with check.guarded(f"loss, {setting}"):
                _loss(check, setting, truths)
            with check.guarded(f"LARS, {setting}"):
                _lars(check, setting)
            with check.guarded(f"views, {setting}"):
                _views(check, setting)


@contextmanager
def _matmul_precision(setting: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Truth(NamedTuple):
    """Loss and gradient of projections (2, N, D), in float64 on the CPU."""

    views: str
    temperature: float
    projections: Tensor
    loss: float
    gradient: Tensor


def _truths(check: Check) -> list[Truth]:
    """Also of more views than one tile takes."""
    found = []
    sizes = [(case, check.sized(512, 32)) for case in CASES] + [(CASES[0], check.sized(3072, 64))]
    for (views, temperature), pictures in sizes:
        both, loss = projections(views, pictures), truth(temperature)
        found.append(Truth(views, temperature, both, float(loss(*both.unbind())), gradient(loss, both)))
    return found


def _loss(check: Check, setting: str, truths: list[Truth]) -> None:
    for views, temperature, both, expected_loss, expected in truths:
        own = both.float().to(check.device)
        for amp in (False, True):
            with torch.autocast(check.device.type, torch.bfloat16, enabled=amp):
                found = gradient(lambda a, b, t=temperature: nt_xent(a, b, temperature=t), own).cpu()
                loss = float(nt_xent(*own.unbind(), temperature=temperature))
            error = float((found - expected).norm() / expected.norm())
            off = abs(loss / expected_loss - 1)
            name = f"gradient, {setting}{', bf16 autocast' * amp}: {2 * len(both[0])} views, {views}, {temperature:g}"
            check.must(
                name, error < ROUNDING and off < ROUNDING, f"{error:.0e}; loss {off:.0e}", error=error, loss_error=off
            )


def _lars(check: Check, setting: str) -> None:
    """Five steps of the paper's formula, in float64, tensor by tensor."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(640, 128)).to(check.device)
    groups = parameter_groups(network, weight_decay=1e-2)
    expected = [[own.detach().cpu().double() for own in group["params"]] for group in groups]
    buffers = [[torch.zeros_like(own) for own in group] for group in expected]
    optimizer = LARS(groups, lr=0.3)
    for number in range(5):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = rate = 0.3 + 0.1 * number
        for group, weights, moving in zip(groups, expected, buffers, strict=True):
            for own, weight, buffer in zip(group["params"], weights, moving, strict=True):
                own.grad = torch.randn_like(own)
                change = own.grad.cpu().double() + group["weight_decay"] * weight
                trust = float(1e-3 * weight.norm() / change.norm()) if group["adapt"] and weight.norm() > 0 else 1.0
                buffer.mul_(0.9).add_(change, alpha=rate * trust)
                weight.sub_(buffer)
        optimizer.step()
    pairs = [
        (own.detach().cpu().double(), weight)
        for group, weights in zip(groups, expected, strict=True)
        for own, weight in zip(group["params"], weights, strict=True)
    ]
    error = max(float((own - weight).norm() / weight.norm()) for own, weight in pairs)
    check.must(f"LARS, {setting}", error < ROUNDING, f"{error:.0e}", error=error)


def _views(check: Check, setting: str) -> None:
    """torchvision's operations in float64, a picture at a time."""
    from tests.views.reference import reference_view

    torch.manual_seed(0)
    number = check.sized(8, 2)
    for name, recipe, side in (
        ("32 pixels", ViewRecipe("cifar10"), 32),
        ("bilinear, normalised", ViewRecipe("cifar10", interpolation="bilinear", mean=(0.5,) * 3, std=(0.2,) * 3), 32),
        ("blurred", ViewRecipe("imagenet", size=check.sized(224, 32)), check.sized(256, 40)),
        ("noise, rotation", ViewRecipe("imagenet", size=48, rotation=15.0, noise=0.05, blur=0.0), 48),
    ):
        images = torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8)
        images[:, :, : side // 4] = images[:, :1, : side // 4]  # grey pixels, whose hue is decided by ties
        indices, size = torch.arange(number), torch.tensor([side, side])
        drawn = draw_parameters(recipe, indices, size, seed=7, epoch=3)
        exact = images.double() / 255
        expected = torch.stack(
            [torch.stack([reference_view(exact[n], recipe, drawn, v, n) for n in range(number)]) for v in (0, 1)]
        )
        batch = ImageBatch(images, None, torch.full((number,), -1), indices, 3).to(check.device)
        _compare(check, f"views, {setting}: {name}", recipe, batch, expected)
        if recipe.rotation:
            continue  # drawn after the crop, and of the crops' bytes: not the same picture
        crops = crop_views(list(images), [recipe], indices, seed=7, epoch=3)
        flat = crops[0].pixels.double() / 255
        whole = draw_parameters(recipe, indices, size, seed=7, epoch=3)
        whole = whole._replace(
            boxes=torch.tensor([0, 0, recipe.size, recipe.size]).expand_as(whole.boxes), flip=whole.flip & False
        )
        expected = torch.stack(
            [torch.stack([reference_view(flat[v, n], recipe, whole, v, n) for n in range(number)]) for v in (0, 1)]
        )
        batch = ImageBatch(None, crops, torch.full((number,), -1), indices, 3).to(check.device)
        _compare(check, f"views, {setting}: {name}, from crops", recipe, batch, expected)


def _compare(check: Check, name: str, recipe: ViewRecipe, batch: ImageBatch, expected: Tensor) -> None:
    """By Triton, where it is used, and by torch's operators; in float32 and in bfloat16, in the encoder's format."""
    kinds = ("", ", without Triton") if fused.available(check.device) else ("",)
    for kind in kinds:
        for dtype in (torch.float32, torch.bfloat16):
            with patch.object(fused, "available", lambda device, kind=kind: not kind and len(kinds) > 1):
                found = ViewEngine(recipe, 7, dtype=dtype)(batch)[0]
            difference = float((found.cpu().double() - expected).abs().max())
            most = VIEW_ROUNDING if dtype == torch.float32 else BF16 * max(1.0, float(expected.abs().max()))
            ordered = check.rehearse or found.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
            note = f"{difference:.0e} at most" + ("" if ordered else ", not channels_last")
            title = f"{name}{kind}{', bfloat16' * (dtype == torch.bfloat16)}"
            check.must(title, difference < most and ordered and found.dtype == dtype, note, difference=difference)
