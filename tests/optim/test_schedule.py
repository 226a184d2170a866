from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from simclr_lightning.optim import ScalingRule, scaled_learning_rate, warmup_cosine, warmup_steps_for


def reference_rates(peak: float, warmup: int, total: int) -> NDArray[np.float64]:
    """The schedule of the official code, in float64, for steps 0 to total."""
    steps = np.arange(total + 1, dtype=np.float64)
    rising = steps / max(warmup, 1) * peak
    falling = peak * 0.5 * (1 + np.cos(np.pi * (steps - warmup) / (total - warmup)))
    return np.where(steps < warmup, rising, falling)


@pytest.mark.parametrize(
    ("recipe", "published"),
    [
        pytest.param((1_281_167, 4096, 100, 0.3), (31_279, 3_127, 4.8), id="imagenet"),
        pytest.param((50_000, 512, 1000, 1.0), (97_657, 976, 2.0), id="cifar10"),
    ],
)
def test_whole_table_of_the_published_recipes(
    recipe: tuple[int, int, int, float], published: tuple[int, int, float]
) -> None:
    pictures, batch, epochs, base = recipe
    steps, warmup, peak = published
    assert pictures * epochs // batch + 1 == steps  # the official code's count
    assert warmup_steps_for(10, pictures, batch) == warmup
    assert scaled_learning_rate(base, batch, "linear") == pytest.approx(peak, rel=1e-15)
    rates = np.array([peak * warmup_cosine(step, warmup, steps) for step in range(steps + 1)])
    expected = reference_rates(peak, warmup, steps)
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)
    assert rates[0] == 0
    assert rates[warmup] == rates.max() == peak
    assert rates[steps] == 0
    assert (np.diff(rates[: warmup + 1]) > 0).all()
    assert (np.diff(rates[warmup:]) < 0).all()


def test_single_values_of_the_imagenet_recipe() -> None:
    assert 4.8 * warmup_cosine(1, 3127, 31_279) == pytest.approx(0.00153501758874320)
    assert 4.8 * warmup_cosine(3126, 3127, 31_279) == pytest.approx(4.79846498241126)
    assert 4.8 * warmup_cosine((3127 + 31_279) // 2, 3127, 31_279) == pytest.approx(2.4, rel=1e-3)


def test_without_warm_up_the_first_step_is_the_peak() -> None:
    assert warmup_cosine(0, 0, 10) == 1.0
    assert warmup_cosine(5, 0, 10) == pytest.approx(0.5)


def test_factor_stays_zero_after_the_end() -> None:
    assert [warmup_cosine(step, 2, 10) for step in (10, 11, 1000)] == [0.0, 0.0, 0.0]


def test_run_of_warm_up_alone_rises_to_the_end() -> None:
    assert [warmup_cosine(step, 4, 4) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.0]


@pytest.mark.parametrize(
    ("step", "warmup", "total", "message"),
    [
        (-1, 1, 10, "step must be at least 0, got -1"),
        (0, -1, 10, r"between 0 and total_steps \(10\), got -1"),
        (0, 11, 10, r"between 0 and total_steps \(10\), got 11"),
        (0, 0, 0, "total_steps must be at least 1, got 0"),
    ],
)
def test_schedule_rejects_impossible_counts(step: int, warmup: int, total: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        warmup_cosine(step, warmup, total)


@pytest.mark.parametrize(
    ("batch", "linear", "sqrt"),
    [(256, 0.3, 1.2), (512, 0.6, 1.6970562748), (1024, 1.2, 2.4), (2048, 2.4, 3.3941125497), (4096, 4.8, 4.8)],
)
def test_scaling_gives_the_published_rates(batch: int, linear: float, sqrt: float) -> None:
    assert scaled_learning_rate(0.3, batch) == pytest.approx(linear, rel=1e-12)
    assert scaled_learning_rate(0.075, batch, "sqrt") == pytest.approx(sqrt, rel=1e-10)
    assert scaled_learning_rate(0.3, batch, "none") == 0.3


def test_scaling_rejects_bad_values() -> None:
    with pytest.raises(ValueError, match=r"at least 0, got -0\.1"):
        scaled_learning_rate(-0.1, 256)
    with pytest.raises(ValueError, match="finite"):
        scaled_learning_rate(math.nan, 256)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        scaled_learning_rate(0.3, 0)
    with pytest.raises(ValueError, match="'cubic': choose 'linear', 'sqrt' or 'none'"):
        scaled_learning_rate(0.3, 256, cast("ScalingRule", "cubic"))


def test_warm_up_steps_are_rounded_down() -> None:
    assert warmup_steps_for(1, 1023, 512) == 1
    assert warmup_steps_for(1, 511, 512) == 0
    assert warmup_steps_for(0.5, 1024, 128) == 4
    assert warmup_steps_for(0, 1024, 128) == 0


@pytest.mark.parametrize(
    ("epochs", "pictures", "batch", "message"),
    [
        (-1, 10, 1, "warmup_epochs must be finite and at least 0, got -1"),
        (math.inf, 10, 1, "warmup_epochs must be finite"),
        (1, 0, 1, "num_pictures must be at least 1, got 0"),
        (1, 10, 0, "batch_size must be at least 1, got 0"),
    ],
)
def test_warm_up_steps_reject_bad_values(epochs: float, pictures: int, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        warmup_steps_for(epochs, pictures, batch)
