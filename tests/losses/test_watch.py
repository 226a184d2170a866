"""The figures that a contrastive run is watched by."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simclr_lightning.losses import chance_loss, contrastive_metrics, floor_loss, nt_xent, watch


def by_hand(first: Tensor, second: Tensor, temperature: float, *, normalize: bool) -> tuple[float, float, float]:
    """Top-1 and top-5 accuracy and entropy of the N-way problem, one picture after the other in float64."""
    first, second = first.double(), second.double()
    top1 = top5 = entropy = 0.0
    for i, view in enumerate(first):
        similarities = []
        for candidate in second:
            scale = float(view.norm() * candidate.norm()) if normalize else 1.0
            similarities.append(float(view @ candidate) / scale / temperature)
        order = sorted(range(len(similarities)), key=similarities.__getitem__, reverse=True)
        top1 += order[0] == i
        top5 += i in order[:5]
        highest = max(similarities)
        total = sum(math.exp(s - highest) for s in similarities)
        for s in similarities:
            p = math.exp(s - highest) / total
            entropy -= p * math.log(p) if p > 0 else 0.0
    return top1 / len(first), top5 / len(first), entropy / len(first)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("rows", [512, 7])
def test_metrics_equal_a_loop(rows: int, temperature: float, normalize: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ROWS", rows)
    first = torch.randn(40, 8)
    second = first + torch.randn(40, 8)
    metrics = contrastive_metrics(first, second, temperature=temperature, normalize=normalize)
    expected = by_hand(first, second, temperature, normalize=normalize)
    assert 0 < expected[0] < expected[1] < 1  # the case can tell the figures apart
    assert [value.item() for value in metrics] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_candidates_are_the_second_views_alone() -> None:
    # Two pictures with equal first views: among the second views each finds its own, although the other first view is
    # nearer still.
    first = torch.tensor([[1.0, 0.01], [1.0, -0.01]])
    second = torch.tensor([[1.0, 0.5], [1.0, -0.5]])
    assert contrastive_metrics(first, second).top1 == 1


@pytest.mark.parametrize("pictures", [1, 2, 5, 100])
def test_entropy_lies_between_zero_and_the_logarithm_of_the_pictures(pictures: int) -> None:
    hot = contrastive_metrics(*torch.randn(2, pictures, 8), temperature=1e5).entropy
    assert math.isclose(hot, math.log(pictures), rel_tol=1e-5, abs_tol=1e-6)
    cold = contrastive_metrics(torch.eye(pictures), torch.eye(pictures), temperature=0.01).entropy
    assert math.isclose(cold, 0, abs_tol=1e-6)


def test_perfect_pairs_are_found() -> None:
    metrics = contrastive_metrics(torch.eye(20), torch.eye(20))
    assert torch.stack(metrics[:2]).tolist() == [1, 1]


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_collapsed_encoder_finds_nothing(value: float) -> None:
    metrics = contrastive_metrics(torch.full((20, 4), value), torch.full((20, 4), value))
    assert torch.stack(metrics[:2]).tolist() == [0, 0]


def test_one_picture_and_few_pictures() -> None:
    assert torch.stack(contrastive_metrics(*torch.randn(2, 1, 4))).tolist() == [1, 1, 0]
    assert contrastive_metrics(*torch.randn(2, 5, 4)).top5 == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_metrics_are_computed_in_float32(dtype: torch.dtype) -> None:
    first, second = torch.randn(2, 30, 8).to(dtype)
    metrics = contrastive_metrics(first, second)
    assert all(value.dtype == torch.float32 for value in metrics)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert contrastive_metrics(first, second) == metrics
    assert [value.item() for value in metrics] == pytest.approx(by_hand(first, second, 0.1, normalize=True), rel=1e-4)


def test_metrics_carry_no_gradient() -> None:
    assert not any(value.requires_grad for value in contrastive_metrics(*torch.randn(2, 4, 3, requires_grad=True)))


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        contrastive_metrics(torch.ones(2, 3), torch.ones(2, 3), temperature=0)


@pytest.mark.parametrize(
    ("pictures", "temperature", "chance", "floor"),
    [
        (4096, 0.1, 9.011, 0.316),
        (1024, 0.5, 7.624, 5.627),
        (512, 0.5, 6.931, 4.937),
        (256, 0.5, 6.236, 4.249),
        (256, 0.1, 6.236, 0.023),
        (128, 0.1, 5.54, 0.011),
    ],
)
def test_chance_and_floor(pictures: int, temperature: float, chance: float, floor: float) -> None:
    assert chance_loss(pictures) == pytest.approx(chance, abs=6e-4 if chance != 5.54 else 6e-3)
    assert floor_loss(pictures, temperature) == pytest.approx(floor, abs=6e-4)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5])
def test_loss_attains_chance_and_floor(temperature: float) -> None:
    same = torch.ones(12, 4, dtype=torch.float64)
    assert nt_xent(same, same, temperature=temperature).item() == pytest.approx(chance_loss(12), rel=1e-12)
    apart = torch.eye(12, dtype=torch.float64)
    assert nt_xent(apart, apart, temperature=temperature).item() == pytest.approx(
        floor_loss(12, temperature), rel=1e-12
    )
