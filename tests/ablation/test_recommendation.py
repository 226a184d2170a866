"""What is told from chance, on matrices made by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from simclr_lightning.ablation import recommend
from simclr_lightning.ablation.matrix import UNTRAINED, Cell, Matrix
from simclr_lightning.ablation.recommendation import advice, honest_margin

MakeMatrix = Callable[..., Matrix]

# The second seed adds 2 everywhere; what is left of the spread is noise of +-0.5.
CLEAR = {
    ("crop", "crop"): [30.5, 31.5],
    ("crop", "colour"): [49.5, 52.5],
    ("colour", "crop"): [50.5, 51.5],
    ("colour", "colour"): [19.5, 22.5],
}


def test_the_margin_is_tukeys_when_seeds_are_shuffled_among_cells() -> None:
    """Without an effect of the seeds the blocks cost freedom and nothing else: compare by hand."""
    values = np.array([[1.0, 3.0], [4.0, 2.0], [7.0, 5.0], [6.0, 8.0]])
    # All seeds have the mean 4.5, so the noise is what is left of each cell's mean: +-1 everywhere.
    deviation = np.sqrt(8 / 3)
    expected = stats.studentized_range.ppf(0.95, 4, 3) * deviation / np.sqrt(2)
    assert honest_margin(values) == pytest.approx(expected)


def test_an_offset_of_a_seed_does_not_widen_the_margin() -> None:
    values = np.random.default_rng(0).normal(40, 1, (9, 3))
    shifted = values + np.array([0.0, 10.0, -20.0])
    assert honest_margin(shifted) == pytest.approx(honest_margin(values))


def test_two_cells_give_the_paired_t_interval() -> None:
    values = np.array([[40.0, 42.0, 45.0], [37.0, 41.0, 40.0]])
    difference = values[0] - values[1]
    expected = stats.t.ppf(0.975, 2) * difference.std(ddof=1) / np.sqrt(3)
    assert honest_margin(values) == pytest.approx(expected, rel=1e-4)


def test_the_interval_holds_for_all_pairs_at_once() -> None:
    """Without any difference between cells, at most one study in twenty finds one."""
    rng = np.random.default_rng(0)
    studies = rng.normal(size=(2000, 5, 3))
    quantile = stats.studentized_range.ppf(0.95, 5, 8)  # the slow part, the same for all
    found = 0
    for values in studies[:400]:
        noise = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
        margin = quantile * np.sqrt((noise**2).sum() / 8 / 3)
        found += np.ptp(values.mean(1)) > margin
    assert honest_margin(studies[399]) == pytest.approx(margin)
    assert 8 <= found <= 32  # 20 expected


def test_the_next_cell_uses_other_operations(make_matrix: MakeMatrix) -> None:
    found = recommend(make_matrix(CLEAR))
    assert found.best == ("crop", "colour")
    assert found.accuracy == 51.0
    assert found.next == ("crop", "crop")  # (colour, crop) is the same pair in the other order
    assert found.difference == 20.0
    # The noise is +-0.5 in all eight runs, with three degrees of freedom; tables have 6.82 for 4 means and 3 degrees.
    assert found.margin == pytest.approx(6.82 * (8 * 0.25 / 3) ** 0.5 / 2**0.5, rel=1e-3)
    assert found.ties == []
    assert found.distinguishable


def test_noise_that_is_larger_than_the_difference_is_said_to_be(make_matrix: MakeMatrix) -> None:
    noisy = {**CLEAR, ("crop", "crop"): [60.0, 38.0]}
    found = recommend(make_matrix(noisy))
    assert not found.distinguishable
    assert ("crop", "colour") in found.ties or found.best == ("crop", "colour")
    text = advice(make_matrix(noisy), pictures=500)
    assert "Not distinguishable from the best: " in text
    assert "--seeds 4" in text


def test_the_advice_names_difference_and_interval(make_matrix: MakeMatrix) -> None:
    matrix = make_matrix(CLEAR)
    margin = recommend(matrix).margin
    assert margin is not None
    text = advice(matrix, pictures=400)
    assert "Best: crop, then colour, linear accuracy 51.0 %. Next with other operations: crop alone, 31.0 %." in text
    assert f"difference is 20.0 points, its 95 % interval {20 - margin:.1f} to {20 + margin:.1f}" in text
    assert "over 2 seeds and 4 cells" in text
    assert "more than chance" in text
    assert "it is the best here, too" in text
    assert "400 held-out pictures, which alone makes a single figure uncertain by 4.9 points" in text
    assert "untrained" not in text


def test_one_seed_tells_nothing_about_chance(make_matrix: MakeMatrix) -> None:
    matrix = make_matrix({pair: values[:1] for pair, values in CLEAR.items()})
    assert recommend(matrix).margin is None
    assert not recommend(matrix).distinguishable
    text = advice(matrix, pictures=400)
    assert "no telling what is chance" in text
    assert "--seeds 3" in text
    assert "interval " not in text.split("The intervals are")[0]


def test_the_papers_pair_is_placed(make_matrix: MakeMatrix) -> None:
    better = {**CLEAR, ("crop", "crop"): [70.5, 71.5]}
    assert "here it has 51.0 %, 20.0 points less than the best, beyond chance" in advice(
        make_matrix(better), pictures=400
    )
    renamed = {tuple("blur" if name == "colour" else name for name in pair): values for pair, values in CLEAR.items()}
    assert "not part of this study" in advice(make_matrix(renamed), pictures=400)


def test_a_budget_that_teaches_nothing_is_said_to(make_matrix: MakeMatrix) -> None:
    assert "untrained encoder has 50.9 %: this budget teaches too little" in advice(
        make_matrix(CLEAR, untrained=50.9), pictures=400
    )


def test_a_symmetric_matrix_counts_each_pair_once(make_matrix: MakeMatrix) -> None:
    once = {pair: values for pair, values in CLEAR.items() if pair != ("colour", "crop")}
    matrix = make_matrix(once, symmetric=True)
    assert recommend(matrix).margin == honest_margin(np.array(list(once.values())))
    assert "3 cells" in advice(matrix, pictures=400)
    assert Cell(UNTRAINED, UNTRAINED, 0) in matrix.runs()
