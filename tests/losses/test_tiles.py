"""The similarity matrix is visited tile by tile: the tiles make no difference, and no more is ever in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simclr_lightning.losses import contrastive_metrics, diagnostics, nt_xent, tiles

TEMPERATURES = (0.0125, 0.1)  # with and without a running maximum


def loss_and_gradient(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, ...]:
    inputs = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = nt_xent(*inputs, temperature=temperature)
    return loss, *torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("pictures", [511, 512, 513, 600])
def test_several_tiles_equal_one(pictures: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.randn(2, pictures, 8, dtype=torch.float64)
    several = loss_and_gradient(first, second, temperature)
    monkeypatch.setattr(tiles, "_TILE", 2 * pictures)
    for value, expected in zip(several, loss_and_gradient(first, second, temperature), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tile", [1, 2, 3, 5, 7, 13, 14])
def test_tiles_of_any_size_equal_one(tile: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.randn(2, 7, 4, dtype=torch.float64)
    one = loss_and_gradient(first, second, temperature)
    monkeypatch.setattr(tiles, "_TILE", tile)
    for value, expected in zip(loss_and_gradient(first, second, temperature), one, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-15)


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
def test_similarity_matrix_is_never_in_memory(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, dimension = 1024, 16
    inputs = torch.randn(2, pictures, dimension, requires_grad=True).unbind()
    saved: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    monkeypatch.setattr(tiles, "_TILE", 128)
    with LargestTensor() as largest, saved_tensors_hooks(count, lambda tensor: tensor):
        loss = nt_xent(*inputs, temperature=temperature)
        torch.autograd.grad(loss, inputs)
    assert largest.numel == 2 * pictures * dimension  # all views: the matrix would be 128 times larger
    assert 0 < sum(saved) < 10 * 2 * pictures * dimension


def test_metrics_never_hold_the_similarity_matrix_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "_ROWS", 64)
    with LargestTensor() as largest:
        contrastive_metrics(*torch.randn(2, 1024, 16))
    assert largest.numel <= 64 * 1024
