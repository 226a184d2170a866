"""Health metrics against slow references in float64, and what the words are said of."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.metrics import (
    HealthMetrics,
    alignment,
    collapse_word,
    effective_rank,
    feature_std,
    floor_word,
    health_metrics,
    mean_cosine,
    neighbour_consistency,
    pair_similarities,
    probe_word,
    uniformity,
)

DTYPES = [torch.float32, torch.float64]


def two_views(dtype: torch.dtype, pictures: int = 9, features: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    pictures_ = torch.randn(1, pictures, features, generator=generator, dtype=torch.float64) + 0.5
    noise = torch.randn(2, pictures, features, generator=generator, dtype=torch.float64)
    return (pictures_ + 0.7 * noise).to(dtype)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def slow(views: Tensor) -> HealthMetrics:
    """By loops over pairs, and singular values by another algorithm."""
    first, second = views.double().tolist()
    rows = first + second
    number, pictures = len(rows), len(first)
    values = torch.linalg.svdvals(views.double().flatten(0, 1)).tolist()
    shares = [value / sum(values) for value in values]
    unit = [[x / math.hypot(*row) for x in row] for row in rows]
    stds = []
    for column in zip(*unit, strict=True):
        mean = sum(column) / number
        stds.append(math.sqrt(sum((x - mean) ** 2 for x in column) / (number - 1)))
    pairs = list(itertools.combinations(range(number), 2))
    cosines = {(a, b): cosine(rows[a], rows[b]) for a, b in itertools.product(range(number), repeat=2)}
    positives = [cosines[row, (row + pictures) % number] for row in range(number)]
    hardest = [
        max(cosines[row, other] for other in range(number) if other % pictures != row % pictures)
        for row in range(number)
    ]
    numbers = (
        math.exp(-sum(share * math.log(share) for share in shares)),
        sum(stds) / len(stds),
        sum(cosines[pair] for pair in pairs) / len(pairs),
        sum(2 - 2 * value for value in positives) / number,
        math.log(sum(math.exp(-2 * (2 - 2 * cosines[pair])) for pair in pairs) / len(pairs)),
        sum(positives) / number,
        sum(hardest) / number,
        sum(negative >= positive for negative, positive in zip(hardest, positives, strict=True)) / number,
    )
    return HealthMetrics(*(torch.tensor(value, dtype=torch.float64) for value in numbers))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 6), (3, 8)])  # more rows than features, and fewer
def test_metrics_are_those_of_loops_in_float64(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    views = two_views(dtype, *shape)
    expected = slow(views)
    assert shape[0] < 9 or 0 < expected.overtaken < 1
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for name, value in health_metrics(views)._asdict().items():
        assert value.dtype == dtype
        assert value.item() == pytest.approx(getattr(expected, name).item(), rel=tolerance, abs=tolerance), name


def test_rows_in_parts_are_as_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    views = two_views(torch.float64)
    expected = health_metrics(views)
    monkeypatch.setattr("simclr_lightning.metrics.health._ROWS", 4)
    assert torch.stack(health_metrics(views)).allclose(torch.stack(expected), rtol=1e-14)


def test_spread_evenly_is_healthy() -> None:
    rows = torch.randn(4000, 32, dtype=torch.float64)
    assert feature_std(rows) * math.sqrt(32) == pytest.approx(1, abs=0.01)
    assert effective_rank(rows) == pytest.approx(32, rel=0.01)
    assert mean_cosine(rows) == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_everything_the_same(value: float) -> None:
    """Also where nothing has a direction: no warning, no NaN but in the rank."""
    found = health_metrics(torch.full((2, 5, 4), value))
    assert [found.std.item(), found.uniformity.item(), found.alignment.item()] == [0, 0, 0]
    assert found.overtaken == 1
    assert found.rank.isnan() if value == 0 else found.rank == pytest.approx(1, abs=1e-5)


def test_rank_counts_so_many_rows_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simclr_lightning.metrics.health.MOST_FEATURES", 2)
    assert effective_rank(torch.eye(5)) == pytest.approx(2)
    assert effective_rank(torch.tensor([[torch.nan, 1.0]])).isnan()


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 1, 5), (2, 4)])
def test_two_views_of_two_pictures_are_needed(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="two views"):
        health_metrics(torch.rand(shape))


def test_parts_of_the_metrics_are_the_functions() -> None:
    first, second = views = two_views(torch.float64)
    found = health_metrics(views)
    assert found.alignment == alignment(first, second)
    assert found.uniformity == uniformity(views.flatten(0, 1))
    assert found[5:] == pair_similarities(first, second)


@pytest.mark.parametrize("k", [1, 3])
def test_consistency_is_that_of_a_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_views(torch.float64, 11)
    shared = 0
    for row in range(11):
        others = [other for other in range(11) if other != row]
        nearest = [
            set(sorted(others, key=lambda other: -cosine(views[row], views[other]))[:k])
            for views in (first.tolist(), second.tolist())
        ]
        shared += len(nearest[0] & nearest[1])
    monkeypatch.setattr("simclr_lightning.metrics.knn._BLOCK_VALUES", 40)  # several blocks
    assert neighbour_consistency(first, second, k=k).item() == pytest.approx(shared / (11 * k))


def test_consistency_needs_neighbours() -> None:
    with pytest.raises(InputError, match="1 to 3"):
        neighbour_consistency(torch.rand(4, 2), torch.rand(4, 2), k=4)
    with pytest.raises(InputError, match="Two views"):
        neighbour_consistency(torch.rand(4, 2), torch.rand(3, 2), k=1)


@pytest.mark.parametrize(
    ("spread", "rank", "start", "name"),
    [
        (0.0, math.nan, 1.0, "complete collapse"),
        (0.009, 1.0, 0.0, "complete collapse"),  # whatever it was
        (0.05, 2.0, 1.0, "complete collapse"),
        (0.05, 30.0, 0.06, None),  # untrained features may be alike
        (0.3, 4.1, 1.0, "dimensional collapse"),
        (0.36, 40.0, 0.82, None),
        (0.94, 20.0, 1.0, None),
    ],
)
def test_words_of_collapse(spread: float, rank: float, start: float, name: str | None) -> None:
    word = collapse_word("features", spread / math.sqrt(128), rank, 128, 512, start)
    assert (word and word.name) == name
    assert name != "complete collapse" or (word is not None and "0.0884 is healthy" in word.text)


def test_few_dimensions_are_no_collapse() -> None:
    assert collapse_word("projections", 0.7, 1.2, dimensions=2, rows=512, start=1.0) is None
    assert collapse_word("features", 0.02, 9.0, dimensions=2048, rows=512, start=1.0) is None


def test_words_of_loss_and_probe() -> None:
    assert floor_word(3.58, 5.541, 3.566) is not None
    assert floor_word(3.5, 5.541, 3.566) is not None, "negatives may be further apart than orthogonal"
    assert floor_word(3.7, 5.541, 3.566) is None
    assert floor_word(1.0, 1.0, 1.0) is None, "a loss that cannot fall"
    assert floor_word(math.nan, 5.541, 3.566) is None, "which is another word"
    assert floor_word(3.5, 5.541, math.nan) is None
    assert probe_word("probe", 0.10, 0.1, 4) is None, "it had no time"
    assert probe_word("probe", 0.15, 0.1, 9) is None
    assert probe_word("probe", 0.95, 0.95, 5) is not None, "it names the commonest class"
