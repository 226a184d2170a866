"""The supervised contrastive loss against a float64 loop over equation 2 of Khosla et al. 2020, and its errors."""

from __future__ import annotations

import pytest
import torch
from tests.losses import loops

from simclr_lightning.errors import InputError
from simclr_lightning.losses import NTXentLoss, SupConNTXent

LABELS = {
    "labelled": [0, 1, 0, 2, 1, 0, 2],
    "partly": [0, -1, 0, -1, 1, 0, 5],
    "unlabelled": [-1] * 7,
    "one class": [3] * 7,
    "all different": [6, 5, 4, 3, 2, 1, 0],
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("temperature", [0.0125, 0.1, 1.0])
@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_loss_and_gradient_equal_a_loop(
    labels: str, views: int, temperature: float, dtype: torch.dtype, tolerance: float
) -> None:
    targets = LABELS[labels]
    projections = torch.randn(views, len(targets), 8, dtype=dtype, requires_grad=True)
    expected = loops.supcon(projections, targets, temperature)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    loss = SupConNTXent(temperature)(projections, torch.tensor(targets))
    (gradient,) = torch.autograd.grad(loss, projections)
    assert loss.dtype == dtype
    assert abs(loss - expected) <= tolerance * max(1, 1 / temperature)
    assert (gradient - expected_gradient).norm() <= 5 * tolerance * expected_gradient.norm()


@pytest.mark.parametrize("alike", [False, True])
def test_without_labels_two_views_are_contrasted_as_by_nt_xent(alike: bool) -> None:
    first, noise = torch.randn(2, 9, 16)
    projections = torch.stack([first, first + 1e-2 * noise if alike else noise]).requires_grad_()
    expected = NTXentLoss(0.05)(projections)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    for targets in (None, torch.full((9,), -1)):
        loss = SupConNTXent(0.05)(projections, targets)
        (gradient,) = torch.autograd.grad(loss, projections)
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
        assert (gradient - expected_gradient).norm() < 1e-5 * expected_gradient.norm()


def test_targets_of_other_pictures_are_refused() -> None:
    with pytest.raises(InputError, match=r"a target for each of 4 pictures \(N,\), got \(8,\)"):
        SupConNTXent()(torch.randn(2, 4, 3), torch.zeros(8).long())


def test_second_derivatives_are_refused() -> None:
    projections = torch.randn(2, 4, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(SupConNTXent()(projections, torch.zeros(4).long()), projections, create_graph=True)
