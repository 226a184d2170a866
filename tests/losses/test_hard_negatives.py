"""Hard and debiased negatives against a float64 loop over the papers' formulas, and what is told about them."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from tests.losses import loops

from simclr_lightning.errors import InputError
from simclr_lightning.losses import HardNegativeNTXent, NTXentLoss


@pytest.mark.parametrize(("beta", "tau_plus"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.0), (1.0, 0.1), (2.0, 0.3)])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5])
@pytest.mark.parametrize(("views", "pictures"), [(2, 2), (2, 17), (3, 5), (4, 6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_loss_and_gradient_equal_a_loop(
    views: int, pictures: int, temperature: float, beta: float, tau_plus: float, dtype: torch.dtype, tolerance: float
) -> None:
    projections = torch.randn(views, pictures, 8, dtype=dtype, requires_grad=True)
    expected, _ = loops.hard_negatives(projections, temperature, beta, tau_plus)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    loss = HardNegativeNTXent(temperature, beta=beta, tau_plus=tau_plus)(projections)
    (gradient,) = torch.autograd.grad(loss, projections)
    assert loss.dtype == dtype
    assert abs(loss - expected) <= tolerance / temperature
    assert (gradient - expected_gradient).norm() <= tolerance / temperature * expected_gradient.norm() + 1e-12


@pytest.mark.parametrize("pictures", [2, 300])
def test_without_beta_and_tau_it_is_nt_xent(pictures: int) -> None:
    projections = torch.randn(2, pictures, 8, requires_grad=True)
    expected = NTXentLoss(0.1)(projections)
    loss = HardNegativeNTXent(0.1, beta=0.0, tau_plus=0.0)(projections)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for one, other in zip(*(torch.autograd.grad(value, projections) for value in (loss, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1])
def test_chance_and_floor(beta: float, tau_plus: float) -> None:
    loss = HardNegativeNTXent(1.0, beta=beta, tau_plus=tau_plus)
    chance, floor = loss.expected(pictures=8, views=3)
    assert math.isclose(loss(torch.ones(3, 8, 4)), chance, rel_tol=1e-5)
    assert math.isclose(loss(torch.eye(8).expand(3, 8, 8)), floor, rel_tol=1e-5)


def test_a_clamp_that_binds_often_is_told_once() -> None:
    projections = torch.eye(8).expand(2, 8, 8)  # pairs are alike, and nothing else
    loss = HardNegativeNTXent(0.1, tau_plus=0.5)
    loss(projections)
    with pytest.warns(UserWarning, match=r"100% of the pairs.*\n?.*tau_plus = 0.5 is too large"):
        loss.metrics(projections)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.metrics(projections)


def test_a_clamp_that_hardly_binds_is_not_told() -> None:
    projections = torch.randn(2, 64, 8)
    loss = HardNegativeNTXent(0.5, tau_plus=0.1)
    loss(projections)
    assert loops.hard_negatives(projections, 0.5, 1.0, 0.1)[1] < 0.1
    loss.metrics(projections)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"beta": -0.5}, "beta must be a number of at least 0, got -0.5"),
        ({"beta": math.nan}, "beta must be"),
        ({"tau_plus": 1.0}, "tau_plus must be at least 0 and below 1, got 1.0"),
        ({"tau_plus": -0.1}, "tau_plus must be"),
        ({"temperature": 0.0}, "temperature must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        HardNegativeNTXent(**arguments)


def test_a_beta_below_float32_is_none() -> None:
    projections = torch.randn(2, 6, 4, requires_grad=True)
    losses = [HardNegativeNTXent(beta=beta, tau_plus=0.1)(projections) for beta in (1e-51, 0.0)]
    assert torch.equal(*losses)
    losses[0].backward()
    assert projections.grad is not None
    assert projections.grad.isfinite().all()
