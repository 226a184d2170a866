"""The loss on a device: as few kernels as a plain one, far less traffic, and not one wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.simulated.device import NAME, Record, recorded
from torch import Tensor

from simclr_lightning.losses import ContrastiveLoss, DecoupledNTXent, HardNegativeNTXent, NTXentLoss, SupConNTXent

Loss = Callable[[Tensor], Tensor]
VIEWS = [512, 2048, 4096, 8192]


def plain(projections: Tensor) -> Tensor:
    """Cross-entropy of all similarities at once, with the similarity of a view to itself masked."""
    views = torch.nn.functional.normalize(projections.flatten(0, 1), dim=1)
    similarities = views @ views.T / 0.1
    number = len(views)
    places = torch.arange(number, device=views.device)
    masked = similarities.masked_fill(torch.eye(number, dtype=torch.bool, device=views.device), float("-inf"))
    return torch.nn.functional.cross_entropy(masked, (places + number // 2) % number)


def record_of(loss: Loss, projections: Tensor) -> tuple[Record, Tensor, Tensor]:
    """What happened in both passes; the loss and its gradient, on the host."""
    rows = projections.to(NAME).requires_grad_()
    with recorded() as record:
        value = loss(rows)
        (gradient,) = torch.autograd.grad(value, rows)
    return record, value.detach().cpu(), gradient.cpu()


@pytest.mark.parametrize("views", VIEWS)
def test_kernels_and_bytes_beside_a_plain_loss(views: int) -> None:
    projections = torch.randn(2, views // 2, 16)
    (ours, *found), (theirs, *expected) = (record_of(loss, projections) for loss in (NTXentLoss(0.1), plain))
    for value, other in zip(found, expected, strict=True):
        assert (value - other).norm() / other.norm() < 2e-5
    assert not ours.waits
    assert not ours.copies
    assert ours.bytes < theirs.bytes / 2
    if views <= 4096:
        assert ours.count <= theirs.count
    else:  # in time it is nothing: each of them works on 64 MiB
        assert ours.count <= 61


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.0125, 0.1])
@pytest.mark.parametrize("count", [2, 3])
def test_it_equals_the_loss_of_the_cpu(dtype: torch.dtype, normalize: bool, temperature: float, count: int) -> None:
    projections = torch.randn(count, 5, 16).to(dtype)
    projections[0, 0] = 0  # without a direction
    loss = NTXentLoss(temperature, normalize=normalize)
    record, value, gradient = record_of(loss, projections)
    rows = projections.clone().requires_grad_()
    expected = loss(rows)
    (slope,) = torch.autograd.grad(expected, rows)
    assert not record.waits
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    assert value.dtype == expected.dtype
    assert gradient.dtype == dtype
    assert (value - expected).abs() <= expected.abs() * tolerance
    assert (gradient - slope).norm() <= slope.norm() * tolerance


@pytest.mark.parametrize("pictures", [8, 700])
@pytest.mark.parametrize("given", [(), ("groups",), ("groups", "large"), ("targets",)])
@pytest.mark.parametrize(
    "loss",
    [
        NTXentLoss(0.2),
        DecoupledNTXent(0.2, mises_fisher_sigma=0.5),
        HardNegativeNTXent(0.2, tau_plus=0.02),
        HardNegativeNTXent(0.2, beta=0.0, tau_plus=0.02),
        SupConNTXent(0.2),
    ],
    ids=str,
)
def test_no_loss_waits(loss: ContrastiveLoss, given: tuple[str, ...], pictures: int) -> None:
    if not set(given) <= set(loss.takes):
        pytest.skip("of another loss")
    projections, numbers = torch.randn(4, pictures, 16), torch.arange(pictures) // 3
    told = {"groups": numbers, "targets": numbers, "large": 2}
    on_host = {name: told[name] for name in given}
    on_device = {name: value.to(NAME) if isinstance(value, Tensor) else value for name, value in on_host.items()}
    record, value, gradient = record_of(lambda rows: loss(rows, **on_device), projections)
    rows = projections.clone().requires_grad_()
    expected = loss(rows, **on_host)
    (slope,) = torch.autograd.grad(expected, rows)
    assert not record.waits
    assert (value - expected).abs() <= 2e-5 * expected.abs()
    assert (gradient - slope).norm() <= 2e-5 * slope.norm()


def test_a_projection_that_is_not_a_number_stays_one() -> None:
    projections = torch.randn(2, 4, 8)
    projections[1, 2, 3] = float("nan")
    assert record_of(NTXentLoss(), projections)[1].isnan()
