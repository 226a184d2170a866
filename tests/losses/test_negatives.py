"""The similarity matrix is visited tile by tile: the tiles make no difference, and a large one is never in memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simclr_lightning.losses import contrastive_metrics, log_negatives, negatives, nt_xent, tiles, watch

TEMPERATURES = (0.0125, 0.1)  # with and without a running maximum


def cut(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change how a matrix is cut on a CPU."""
    monkeypatch.setattr(tiles, "CPU", tiles.CPU._replace(**changes))


@pytest.fixture(params=["kept", "computed again", "accelerator", "accelerator, tiles, kept", "accelerator, tiles"])
def every_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exponentials (or similarities) of the forward pass are kept for the backward pass, or are not."""
    path = request.param
    if not path.startswith("accelerator"):
        cut(monkeypatch, kept=0 if path == "computed again" else 2**40)
        return

    def as_there(views: Tensor, *, bounded: bool) -> tiles.Device:
        device = tiles.ACCELERATOR if bounded else tiles.ACCELERATOR_UNBOUNDED
        changes: dict[str, Any] = {"side": tiles.CPU.side, "whole": 0, "kept": 2**40 if path.endswith("kept") else 0}
        return device._replace(**changes) if "tiles" in path else device

    monkeypatch.setattr(negatives, "fitting", as_there)


def loss_and_gradient(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, ...]:
    inputs = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = nt_xent(*inputs, temperature=temperature)
    return loss.detach(), *torch.autograd.grad(loss, inputs)


def algorithm_1(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent of float64 projections with all similarities at once, arranged so that nothing cancels, for autograd."""
    views = torch.nn.functional.normalize(torch.cat([first, second]))
    similarities = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool)
    other = itself.roll(len(first), 0)
    gap = similarities.masked_fill(itself | other, -math.inf).logsumexp(1) - similarities[other]
    return torch.logaddexp(gap, torch.zeros_like(gap)).mean()


def expected(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, ...]:
    inputs = first.double().requires_grad_(), second.double().requires_grad_()
    loss = algorithm_1(*inputs, temperature)
    return loss.detach(), *torch.autograd.grad(loss, inputs)


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth).norm() / truth.norm())


@pytest.mark.usefixtures("every_path")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("pictures", [255, 256, 257, 600])
def test_tiles_of_the_usual_size_equal_algorithm_1(pictures: int, temperature: float) -> None:
    first, second = torch.randn(2, pictures, 8, dtype=torch.float64)
    found = loss_and_gradient(first, second, temperature)
    for value, truth in zip(found, expected(first, second, temperature), strict=True):
        assert relative_error(value, truth) < 1e-12


@pytest.mark.usefixtures("every_path")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tile", [1, 2, 3, 5, 7, 13, 14])
def test_tiles_of_any_size_equal_algorithm_1(tile: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.randn(2, 7, 4, dtype=torch.float64)
    cut(monkeypatch, side=tile)
    found = loss_and_gradient(first, second, temperature)
    for value, truth in zip(found, expected(first, second, temperature), strict=True):
        assert relative_error(value, truth) < 1e-12


@pytest.mark.usefixtures("every_path")
@pytest.mark.parametrize("noise", [None, 0.3, 0.05], ids=["unrelated", "alike", "very much alike"])
@pytest.mark.parametrize(
    ("temperature", "tolerance"), [(0.02, 2e-5), (0.05, 4e-6), (0.1, 4e-6), (0.5, 4e-6), (10.0, 4e-6)]
)
def test_float32_is_accurate_even_where_the_loss_is_nearly_zero(
    temperature: float, tolerance: float, noise: float | None
) -> None:
    # A rounding error of a similarity of 1 / temperature is an error of its exponential.
    first, second = torch.randn(2, 300, 128)
    if noise is not None:
        second = first + noise * second
    truth = expected(first, second, temperature)
    assert (noise is None or temperature > 0.05) == bool(truth[0] > 1e-3)
    for value, true in zip(loss_and_gradient(first, second, temperature), truth, strict=True):
        assert value.dtype == torch.float32
        assert relative_error(value, true) < tolerance


def saved_numbers(pictures: int) -> int:
    """How many numbers wait for the backward pass."""
    saved: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    first, second = torch.randn(2, pictures, 4, requires_grad=True)
    with saved_tensors_hooks(count, lambda tensor: tensor):
        nt_xent(first, second)
    return sum(saved)


def test_matrix_is_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = 2 * 64 * 4 * 10
    cut(monkeypatch, side=16, kept=128**2)
    assert 128**2 / 2 < saved_numbers(64) < 128**2 / 2 * 1.2 + linear  # the half on and above the diagonal
    assert saved_numbers(65) < linear


@pytest.mark.parametrize(
    ("rows", "columns", "bounded", "number"),
    [(4096, 4096, True, 1), (8192, 8192, True, 3), (1024, 65536, True, 7), (2048, 2048, False, 3)],
)
def test_accelerators_have_few_large_tiles(rows: int, columns: int, bounded: bool, number: int) -> None:
    views, others = torch.empty(rows, 4, device="meta"), torch.empty(columns, 4, device="meta")
    device = tiles.fitting(views, bounded=bounded)
    layout = tiles.Layout(start=(columns - rows) // 2, views=2, bounded=bounded, device=device)
    found = list(tiles.tiles(views, others, layout))
    assert len(found) == number
    areas = [(tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start) for tile in found]
    assert max(areas) <= 2**24
    assert sum(area * (2 if tile.mirror else 1) for area, tile in zip(areas, found, strict=True)) == rows * columns


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers in the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return result


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_large_similarity_matrix_is_never_in_memory(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, dimension = 1024, 16
    inputs = torch.randn(2, pictures, dimension, requires_grad=True).unbind()
    cut(monkeypatch, side=128, kept=(2 * pictures) ** 2 - 1)
    with LargestTensor() as largest:
        loss = nt_xent(*inputs, temperature=temperature)
        torch.autograd.grad(loss, inputs)
    assert largest.numel == 2 * pictures * dimension  # all views: the matrix would be 128 times larger
    assert saved_numbers(pictures) < 10 * 2 * pictures * dimension


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("device", "temperature", "most"),
    [("cpu", 0.0125, 60), ("cpu", 0.1, 60), ("meta", 0.0125, 150), ("meta", 0.1, 95)],
)
def test_peak_memory_of_8192_views(device: str, most: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tiles are cut on that device; in MiB."""
    cut_as_there = {bounded: tiles.fitting(torch.empty(0, device=device), bounded=bounded) for bounded in (True, False)}
    monkeypatch.setattr(negatives, "fitting", lambda views, bounded: cut_as_there[bounded])

    def peak_mib() -> float:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    inputs = torch.randn(2, 4096, 128).requires_grad_().unbind()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again
    before = peak_mib()
    torch.autograd.grad(nt_xent(*inputs, temperature=temperature), inputs)
    assert peak_mib() - before < most  # the matrix alone would take 256


def test_metrics_never_hold_the_similarity_matrix_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ROWS", 64)
    with LargestTensor() as largest:
        contrastive_metrics(*torch.randn(2, 1024, 16))
    assert largest.numel <= 64 * 1024


def sums(views: Tensor, count: int, columns: Tensor | None) -> Tensor:
    """log r of float64 views, with all similarities at once."""
    similarities = views @ (views if columns is None else columns).T
    if columns is None:
        picture = torch.arange(len(views)) % (len(views) // count)
        similarities = similarities.masked_fill(picture[:, None] == picture, -math.inf)
    return similarities.logsumexp(1)


@pytest.mark.usefixtures("every_path")
@pytest.mark.parametrize("bound", [None, 60.0])
@pytest.mark.parametrize("tile", [2, 256])
@pytest.mark.parametrize(("count", "columns"), [(1, 0), (2, 0), (3, 0), (4, 0), (1, 9), (2, 9)])
def test_log_negatives_and_any_derivative_of_it(
    count: int, columns: int, tile: int, bound: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, side=tile)
    views = (2 * torch.randn(count * 5, 4, dtype=torch.float64)).requires_grad_()
    others = torch.randn(columns, 4, dtype=torch.float64, requires_grad=True) if columns else None
    upstream = torch.randn(count * 5, dtype=torch.float64)  # of either sign
    found = log_negatives(views, columns=others, count=count, bound=bound)
    truth = sums(views, count, None if others is None else others.detach())
    torch.testing.assert_close(found, truth)
    (gradient,) = torch.autograd.grad(found, views, upstream)
    (exact,) = torch.autograd.grad(truth, views, upstream)
    torch.testing.assert_close(gradient, exact)


def test_nothing_overflows_where_no_bound_is_known() -> None:
    views = (40 * torch.randn(8, 4)).requires_grad_()  # similarities of thousands
    columns = 40 * torch.randn(6, 4)
    for others in (None, columns):
        found = log_negatives(views, columns=others)
        (gradient,) = torch.autograd.grad(found.sum(), views)
        assert found.isfinite().all()
        assert gradient.isfinite().all()


def test_half_precision_is_summed_in_float32() -> None:
    views = torch.randn(8, 4).bfloat16().requires_grad_()
    found = log_negatives(views)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), sums(views.detach().double(), 2, None), rtol=1e-6, atol=1e-6)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert views.grad is not None
    assert views.grad.dtype == torch.bfloat16


def test_rows_that_cannot_be_views_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 views of each picture as rows .*got \(8, 4\)"):
        log_negatives(torch.randn(8, 4), count=3)
    with pytest.raises(ValueError, match=r"columns \(M, 4\), got \(6, 5\)"):
        log_negatives(torch.randn(8, 4), columns=torch.randn(6, 5))
