"""Groups of pictures that are no negatives of each other, and local crops that are nobody's negatives or positives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.losses import (
    ContrastiveLoss,
    DecoupledNTXent,
    HardNegativeNTXent,
    NTXentLoss,
    SupConNTXent,
    log_negatives,
    negatives,
    tiles,
)

TEMPERATURE = 0.2


def reference(kind: str, projections: Tensor, groups: list[int], large: int) -> Tensor:
    """Loop over all ordered pairs of views, in float64."""
    pictures = projections.shape[1]
    views = F.normalize(projections.double(), dim=-1)
    terms = []
    for picture in range(pictures):
        others = [other for other in range(pictures) if groups[other] != groups[picture]]
        for anchor in range(len(views)):
            s = torch.stack([views[v, o] @ views[anchor, picture] for v in range(large) for o in others]) / TEMPERATURE
            for positive in range(large):
                if positive == anchor:
                    continue
                own = views[positive, picture] @ views[anchor, picture] / TEMPERATURE
                if kind == "decoupled":
                    terms.append(s.logsumexp(0) - own)
                elif kind == "hard":
                    mean = len(s) * (2 * s).exp().sum() / s.exp().sum()
                    estimate = (mean - 0.05 * len(s) * own.exp()) / 0.95
                    estimate = estimate.clamp(min=len(s) * math.exp(-1 / TEMPERATURE))
                    terms.append(torch.log1p(estimate * (-own).exp()))
                else:
                    terms.append(torch.log1p((s.logsumexp(0) - own).exp()))
    return torch.stack(terms).mean()


LOSSES: dict[str, Callable[[], ContrastiveLoss]] = {
    "nt_xent": lambda: NTXentLoss(TEMPERATURE),
    "decoupled": lambda: DecoupledNTXent(TEMPERATURE),
    "hard": lambda: HardNegativeNTXent(TEMPERATURE, beta=1.0, tau_plus=0.05),
}


@pytest.fixture(params=["kept", "computed again"], autouse=True)
def every_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles, kept for the backward pass or not."""
    kept = 0 if request.param == "computed again" else 2**40
    monkeypatch.setattr(tiles, "CPU", tiles.CPU._replace(side=3, kept=kept))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("groups", [None, [0, 1, 2, 3, 4, 5, 6], [3, 3, 0, 9, 0, 3, 1]])
@pytest.mark.parametrize(("views", "large"), [(2, 2), (3, 3), (4, 2), (2, 1), (6, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_loss_and_gradient_equal_a_loop(
    kind: str, groups: list[int] | None, views: int, large: int, dtype: torch.dtype, tolerance: float
) -> None:
    projections = torch.randn(views, 7, 8, dtype=dtype, requires_grad=True)
    expected = reference(kind, projections, groups or list(range(7)), large)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    loss = LOSSES[kind]()(projections, groups=None if groups is None else torch.tensor(groups), large=large)
    (gradient,) = torch.autograd.grad(loss, projections)
    assert (loss - expected).abs() <= tolerance * expected.detach().abs().clamp(min=1)
    assert (gradient - expected_gradient).norm() <= tolerance * expected_gradient.norm()


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("pictures", [7, 300])
def test_groups_of_one_change_no_bit(kind: str, pictures: int) -> None:
    projections = torch.randn(2, pictures, 8, requires_grad=True)
    losses = [LOSSES[kind]()(projections, groups=groups) for groups in (None, torch.randperm(pictures))]
    gradients = [torch.autograd.grad(loss, projections)[0] for loss in losses]
    if kind != "hard":  # whose numbers of negatives are float32 then
        assert torch.equal(*losses)
        assert torch.equal(*gradients)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("bound", [None, 5.0])
@pytest.mark.parametrize("powers", [(1.0,), (2.0, 1.0), (0.5,)])
def test_powers_are_sums_of_exponentials_of_multiples(bound: float | None, powers: tuple[float, ...]) -> None:
    views = (F.normalize(torch.randn(10, 4, dtype=torch.float64)) * 5**0.5).requires_grad_()
    log_sums, _ = negatives.log_negatives_and_positives(views, bound=bound, powers=powers)
    weights = torch.randn(len(powers), 10, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((log_sums * weights).sum(), views)
    hidden = torch.eye(10, dtype=torch.bool)
    similarities = (views @ views.T).masked_fill(hidden | hidden.roll(5, 0), -math.inf)
    expected = torch.stack([(power * similarities).logsumexp(1) for power in powers])
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), views)
    torch.testing.assert_close(log_sums, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_what_does_not_fit_is_refused() -> None:
    views = torch.randn(8, 4)
    with pytest.raises(ValueError, match="1 to 2 of 2 views as large ones, got 3"):
        log_negatives(views, large=3)
    with pytest.raises(ValueError, match=r"a group for each of 4 pictures, got \(8,\)"):
        log_negatives(views, groups=torch.arange(8))
    with pytest.raises(ValueError, match="neither large ones nor groups"):
        log_negatives(views, columns=views, groups=torch.arange(4))


@pytest.mark.parametrize("views", [2, 3])
def test_supcon_without_labels_is_nt_xent_of_the_same_groups(views: int) -> None:
    projections = torch.randn(views, 7, 8, dtype=torch.float64, requires_grad=True)
    groups = torch.tensor([3, 3, 0, 9, 0, 3, 1])
    loss = SupConNTXent(TEMPERATURE)(projections, groups=groups)
    # The denominator of SupCon holds all other views of the picture; NT-Xent's one positive: the same for two views.
    views_of = F.normalize(projections, dim=-1)
    terms = []
    for picture in range(7):
        others = [other for other in range(7) if groups[other] != groups[picture]]
        for anchor in range(views):
            s = torch.stack([views_of[v, o] @ views_of[anchor, picture] for v in range(views) for o in others])
            own = [views_of[v, picture] @ views_of[anchor, picture] for v in range(views) if v != anchor]
            total = torch.cat([s, torch.stack(own)]).div(TEMPERATURE).logsumexp(0)
            terms += [total - positive / TEMPERATURE for positive in own]
    expected = torch.stack(terms).mean()
    (gradient,), (expected_gradient,) = (torch.autograd.grad(value, projections) for value in (loss, expected))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    if views == 2:
        torch.testing.assert_close(loss, NTXentLoss(TEMPERATURE)(projections, groups=groups))


def test_supcon_leaves_the_group_out_of_the_denominator_whatever_its_classes() -> None:
    projections = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    groups, targets = [5, 5, 2, 5, 3, 4], [0, 1, 0, 0, -1, 1]
    views = F.normalize(projections, dim=-1).flatten(0, 1)
    terms = []
    for anchor in range(12):
        picture = anchor % 6
        s = views @ views[anchor] / TEMPERATURE
        own = [j for j in range(12) if j != anchor and j % 6 == picture]
        total = torch.stack([s[j] for j in range(12) if groups[j % 6] != groups[picture] or j in own]).logsumexp(0)
        mates = [j for j in range(12) if j in own or (j != anchor and targets[j % 6] == targets[picture] >= 0)]
        terms.append(total - torch.stack([s[j] for j in mates]).mean())
    expected = torch.stack(terms).mean()
    loss = SupConNTXent(TEMPERATURE)(projections, torch.tensor(targets), torch.tensor(groups))
    (gradient,), (expected_gradient,) = (torch.autograd.grad(value, projections) for value in (loss, expected))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("temperature", [0.5, 0.01])  # bounded exponentials, and not
@pytest.mark.parametrize(
    "loss",
    [
        NTXentLoss,
        DecoupledNTXent,
        lambda temperature: DecoupledNTXent(temperature, mises_fisher_sigma=0.5),
        HardNegativeNTXent,
        lambda temperature: HardNegativeNTXent(temperature, tau_plus=0.0),
        lambda temperature: HardNegativeNTXent(temperature, beta=0.0),
        SupConNTXent,
    ],
)
def test_a_batch_of_one_group_has_nothing_to_contrast(
    loss: Callable[[float], ContrastiveLoss], temperature: float
) -> None:
    projections = torch.randn(2, 4, 8, requires_grad=True)
    value = loss(temperature)(projections, groups=torch.full((4,), 3))
    (gradient,) = torch.autograd.grad(value, projections)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_a_picture_whose_group_is_the_rest_of_the_batch_leaves_the_others_a_gradient(kind: str) -> None:
    projections = torch.randn(2, 4, 8, requires_grad=True)
    value = LOSSES[kind]()(projections, groups=torch.tensor([3, 3, 3, 0]))
    (gradient,) = torch.autograd.grad(value, projections)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[:, 3] != 0).any()
