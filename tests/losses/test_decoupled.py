"""The decoupled loss against a float64 loop over equation 6 of Yeh et al. 2022, and its errors."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses import loops

from simclr_lightning.errors import InputError
from simclr_lightning.losses import DecoupledNTXent, NTXentLoss


@pytest.mark.parametrize("sigma", [None, 0.5, 2.0])
@pytest.mark.parametrize("temperature", [0.0125, 0.1, 1.0])
@pytest.mark.parametrize(("views", "pictures"), [(2, 2), (2, 17), (3, 5), (4, 6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_loss_and_gradient_equal_a_loop(
    views: int, pictures: int, temperature: float, sigma: float | None, dtype: torch.dtype, tolerance: float
) -> None:
    projections = torch.randn(views, pictures, 8, dtype=dtype, requires_grad=True)
    expected = loops.decoupled(projections, temperature, sigma)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    loss = DecoupledNTXent(temperature, mises_fisher_sigma=sigma)(projections)
    (gradient,) = torch.autograd.grad(loss, projections)
    assert loss.dtype == dtype
    assert abs(loss - expected) <= tolerance * max(1, 1 / temperature)
    assert (gradient - expected_gradient).norm() <= 5 * tolerance * expected_gradient.norm()


def test_a_pair_that_is_found_goes_on_attracting() -> None:
    """What tells it from NT-Xent, whose gradient vanishes."""
    projections = torch.eye(8).expand(2, 8, 8) + 1e-2 * torch.randn(2, 8, 8)
    norms = []
    for loss in (DecoupledNTXent(0.05), NTXentLoss(0.05)):
        inputs = projections.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(inputs), inputs)
        norms.append(float(gradient.norm()))
    assert norms[0] > 1e3 * norms[1]


def test_chance_and_floor() -> None:
    loss = DecoupledNTXent(0.5)
    chance, floor = loss.expected(pictures=8, views=3)
    assert math.isclose(loss(torch.ones(3, 8, 4)), chance - 1 / 0.5 + 1 / 0.5, rel_tol=1e-5)
    assert math.isclose(loss(torch.eye(8).expand(3, 8, 8)), floor, rel_tol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_sigma_is_a_positive_number(sigma: float) -> None:
    with pytest.raises(InputError, match="mises_fisher_sigma must be a positive number"):
        DecoupledNTXent(mises_fisher_sigma=sigma)


def test_one_picture_is_refused() -> None:
    with pytest.raises(InputError, match="One picture has no negatives"):
        DecoupledNTXent()(torch.randn(2, 1, 4))
