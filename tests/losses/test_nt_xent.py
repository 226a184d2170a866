"""NT-Xent against a float64 loop over Algorithm 1 of the paper, against published figures, and its errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.losses import NTXentLoss, nt_xent


def algorithm_1(first: Tensor, second: Tensor, temperature: float, *, normalize: bool = True) -> Tensor:
    """Loop over the 2N terms of Algorithm 1 in float64, arranged so that nothing cancels, for autograd."""
    views = torch.cat([first, second]).double()
    if normalize:
        views = torch.stack([view / view.norm() if view.any() else torch.zeros_like(view) for view in views])
    terms = []
    for i in range(len(views)):
        other = (i + len(first)) % len(views)
        similarities = views @ views[i] / temperature
        negatives = torch.tensor([j for j in range(len(views)) if j not in (i, other)], dtype=torch.int64)
        if len(negatives) == 0:  # then the positive pair is all there is: log(1)
            terms.append(similarities.sum() * 0)
            continue
        # -log(e^p / (e^p + sum e^n)) = log(1 + e^(log sum e^n - p))
        gap = similarities[negatives].logsumexp(0) - similarities[other]
        terms.append(torch.logaddexp(gap, torch.zeros_like(gap)))
    return torch.stack(terms).mean()


def with_gradient(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient with respect to all inputs, both in float64."""
    gradients = torch.autograd.grad(loss, inputs)
    return loss.detach().double(), torch.cat(gradients).double()


def reference(first: Tensor, second: Tensor, temperature: float, **arguments: Any) -> tuple[Tensor, Tensor]:
    first, second = (tensor.detach().double().requires_grad_() for tensor in (first, second))
    return with_gradient(algorithm_1(first, second, temperature, **arguments), first, second)


def computed(first: Tensor, second: Tensor, **arguments: Any) -> tuple[Tensor, Tensor]:
    first, second = (tensor.detach().clone().requires_grad_() for tensor in (first, second))
    return with_gradient(nt_xent(first, second, **arguments), first, second)


def embeddings(pictures: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    first, second, noise = torch.randn(3, pictures, 16)
    yield "unrelated", first, second
    yield "alike: the loss is nearly zero", first, first + 0.05 * noise
    yield "tied: every pair is one vector", first, first
    yield "collinear: pairs differ in length", first, 3 * first
    yield "collinear: pairs point away from each other", first, -first
    yield "tied: pictures come twice", first[torch.arange(pictures) // 2], second[torch.arange(pictures) // 2]


def tolerance(dtype: torch.dtype, temperature: float) -> tuple[float, float]:
    """Relative errors of loss and gradient: rounding a similarity s changes its exponential by a share s of that."""
    if dtype == torch.float64:
        return 1e-13, 1e-13
    return (1e-5, 1e-5) if temperature >= 0.02 else (2e-5, 4e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("pictures", [1, 2, 3, 17])
def test_loss_and_gradient_equal_algorithm_1(pictures: int, temperature: float, dtype: torch.dtype) -> None:
    loss_tolerance, gradient_tolerance = tolerance(dtype, temperature)
    for name, first, second in embeddings(pictures):
        expected, expected_gradient = reference(first, second, temperature)
        loss, gradient = computed(first.to(dtype), second.to(dtype), temperature=temperature)
        # Below 1e-37 float32 has no digits left.
        assert abs(loss - expected) <= loss_tolerance * expected + 1e-37, name
        error = (gradient - expected_gradient).abs().max()
        # Gradients of opposite vectors nearly cancel.
        factor = 10 if "away" in name else 1
        assert error <= factor * gradient_tolerance * expected_gradient.abs().max() + 1e-36, name


@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
def test_loss_and_gradient_of_a_larger_batch_equal_algorithm_1(temperature: float) -> None:
    loss_tolerance, gradient_tolerance = tolerance(torch.float32, temperature)
    for name, first, second in list(embeddings(256))[:3]:
        expected, expected_gradient = reference(first, second, temperature)
        loss, gradient = computed(first, second, temperature=temperature)
        assert abs(loss / expected - 1) < loss_tolerance, name
        assert (gradient - expected_gradient).abs().max() < gradient_tolerance * expected_gradient.abs().max(), name


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-9), (torch.float16, 2**-12)])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 10.0])
@pytest.mark.parametrize("pictures", [1, 2, 3, 17])
def test_half_precision_inputs_are_computed_in_float32(
    pictures: int, temperature: float, dtype: torch.dtype, rounding: float
) -> None:
    for name, *pair in embeddings(pictures):
        first, second = (tensor.to(dtype) for tensor in pair)
        expected, expected_gradient = reference(first, second, temperature)
        largest = expected_gradient.abs().max()
        if 0 < largest < 1e-30:  # there nothing is left of float32 either
            continue
        inputs = first.requires_grad_(), second.requires_grad_()
        loss = nt_xent(*inputs, temperature=temperature)
        assert loss.dtype == torch.float32
        assert abs(loss.double() - expected) <= 2e-5 * expected, name
        # The gradient comes back in the dtype of the input: the loss is scaled against underflow, as by a GradScaler.
        scale = 1 / float(largest) if pictures > 1 else 1.0
        gradients = torch.autograd.grad(loss, inputs, grad_outputs=torch.tensor(scale))
        assert all(gradient.dtype == dtype for gradient in gradients)
        error = (torch.cat(gradients).double() - scale * expected_gradient).abs().max()
        assert error <= 1.1 * rounding, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_raw_dot_products_equal_algorithm_1(temperature: float, dtype: torch.dtype) -> None:
    loss_tolerance, gradient_tolerance = tolerance(dtype, 0.02)
    first, second = torch.randn(2, 17, 8)
    expected, expected_gradient = reference(first, second, temperature, normalize=False)
    loss, gradient = computed(first.to(dtype), second.to(dtype), temperature=temperature, normalize=False)
    assert abs(loss / expected - 1) < loss_tolerance
    assert (gradient - expected_gradient).abs().max() < gradient_tolerance * expected_gradient.abs().max()


def test_large_raw_dot_products_do_not_overflow() -> None:
    first, second = 1e4 * torch.randn(2, 17, 8)
    expected, _ = reference(first, second, 0.1, normalize=False)
    loss, gradient = computed(first, second, temperature=0.1, normalize=False)
    assert expected > 1e8
    assert abs(loss / expected - 1) < 1e-6
    assert gradient.isfinite().all()


@pytest.mark.parametrize("temperature", [0.005, 0.1, 10.0])
def test_collapsed_embeddings_are_at_chance_without_gradient(temperature: float) -> None:
    loss, gradient = computed(torch.ones(9, 4), 2 * torch.ones(9, 4), temperature=temperature)
    assert math.isclose(loss, math.log(17), rel_tol=1e-5)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_zero_rows_have_no_similarity_and_no_gradient(temperature: float) -> None:
    first, second = torch.randn(2, 6, 4)
    first[2] = 0
    expected, expected_gradient = reference(first, second, temperature)
    loss, gradient = computed(first, second, temperature=temperature)
    assert abs(loss / expected - 1) < 1e-6
    assert (gradient - expected_gradient).abs().max() < 1e-5 * expected_gradient.abs().max()
    assert not gradient[2].any()
    _, half_gradient = computed(first.half(), second.half(), temperature=temperature)
    assert half_gradient.isfinite().all()


def test_zeros_alone_are_at_chance() -> None:
    loss, gradient = computed(torch.zeros(3, 4), torch.zeros(3, 4))
    assert math.isclose(loss, math.log(5), rel_tol=1e-6)
    assert not gradient.any()


# A widely read walk-through of the loss: four pairs (1, 2), (3, 4), (5, 6), (7, 8).
WALK_THROUGH = torch.tensor(
    [
        [1.0, 0.0, 0.0],
        [0.9, 0.4, 0.0],
        [0.0, 1.0, 0.0],
        [0.1, 0.9, 0.0],
        [0.0, 0.0, 1.0],
        [0.0, 0.1, 0.9],
        [-1.0, 0.0, 0.0],
        [-0.9, -0.4, 0.0],
    ],
    dtype=torch.float64,
)


def test_walk_through_vectors_are_those_whose_figures_are_known() -> None:
    norms = WALK_THROUGH.norm(dim=1).tolist()
    assert norms == pytest.approx([1, 0.984886, 1, 0.905539, 1, 0.905539, 1, 0.984886], abs=5e-7)
    cosines = WALK_THROUGH[0] @ (WALK_THROUGH / WALK_THROUGH.norm(dim=1, keepdim=True)).T
    assert [cosines[other].item() for other in (1, 3, 7)] == pytest.approx([0.913812, 0.110432, -0.913812], abs=5e-7)
    assert (cosines[1:] / 0.1).exp().sum().item() == pytest.approx(9309.233872, abs=5e-7)
    assert (WALK_THROUGH[1:] @ WALK_THROUGH[0] / 0.1).exp().sum().item() == pytest.approx(8108.802378, abs=5e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("temperature", "normalized", "raw"),
    [(0.1, 0.00447818, 0.00506008), (0.07, 0.00059975, 0.00061674), (0.5, 0.60483131, 0.65184822)],
)
def test_walk_through(temperature: float, normalized: float, raw: float, dtype: torch.dtype) -> None:
    first, second = WALK_THROUGH[0::2].to(dtype), WALK_THROUGH[1::2].to(dtype)
    digits = 5e-9 if dtype == torch.float64 else 2e-7
    assert nt_xent(first, second, temperature=temperature).item() == pytest.approx(normalized, abs=digits)
    official = nt_xent(first, second, temperature=temperature, official_scale=True)
    assert official.item() == pytest.approx(2 * normalized, abs=2 * digits)
    dot_products = nt_xent(first, second, temperature=temperature, normalize=False)
    assert dot_products.item() == pytest.approx(raw, abs=digits)


def test_walk_through_is_the_mean_of_the_known_terms() -> None:
    unit = WALK_THROUGH / WALK_THROUGH.norm(dim=1, keepdim=True)
    similarities = (unit @ unit.T / 0.1).fill_diagonal_(-math.inf)
    pairs = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    terms = similarities.logsumexp(1) - similarities[torch.arange(8), pairs]
    published = [0.000647, 0.022949, 0.003088, 0.007822, 0.000290, 0.000493, 0.000358, 0.000179]
    assert terms.tolist() == pytest.approx(published, abs=5e-7)
    assert nt_xent(WALK_THROUGH[0::2], WALK_THROUGH[1::2]).item() == pytest.approx(terms.mean().item(), abs=1e-15)


def test_official_scale_doubles_loss_and_gradient() -> None:
    first, second = torch.randn(2, 5, 4)
    loss, gradient = computed(first, second)
    official_loss, official_gradient = computed(first, second, official_scale=True)
    assert official_loss == 2 * loss
    assert torch.equal(official_gradient, 2 * gradient)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype, temperature: float) -> None:
    first, second = torch.randn(2, 40, 16)
    loss, gradient = computed(first, second, temperature=temperature)
    with torch.autocast("cpu", dtype=dtype):
        autocast_loss, autocast_gradient = computed(first, second, temperature=temperature)
    assert torch.equal(autocast_loss, loss)
    assert torch.equal(autocast_gradient, gradient)


@pytest.mark.parametrize("temperature", [0.0125, 0.3])  # with and without a running maximum
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(temperature: float, normalize: bool) -> None:
    first, second = torch.randn(2, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *pair: nt_xent(*pair, temperature=temperature, normalize=normalize, official_scale=True),
        (first.requires_grad_(), second.requires_grad_()),
    )


def test_second_derivative_is_refused() -> None:
    first, second = torch.randn(2, 3, 4, dtype=torch.float64)
    inputs = first.requires_grad_(), second.requires_grad_()
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.autograd.grad(nt_xent(*inputs), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.autograd.gradgradcheck(nt_xent, inputs)


def test_gradient_reaches_one_view_alone() -> None:
    first, second = torch.randn(2, 5, 4)
    _, gradient = computed(first, second)
    (second_gradient,) = torch.autograd.grad(nt_xent(first, second.requires_grad_()), second)
    torch.testing.assert_close(second_gradient.double(), gradient[5:])


def test_gradient_may_be_taken_twice_with_a_retained_graph() -> None:
    first, second = torch.randn(2, 5, 4)
    loss = nt_xent(first.requires_grad_(), second)
    (once,) = torch.autograd.grad(loss, first, retain_graph=True)
    (again,) = torch.autograd.grad(loss, first)
    assert torch.equal(once, again)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature must be a positive number, got .*paper uses 0.1"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        NTXentLoss(temperature)


@pytest.mark.parametrize(
    ("first", "second"),
    [((4, 3), (3, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((2, 4, 3), (2, 4, 3))],
)
def test_shapes_must_be_equal_matrices(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(N, D\), one row a picture, got \(.*\) and \("):
        nt_xent(torch.ones(first), torch.ones(second))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_projections_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one picture, in at least one dimension"):
        nt_xent(torch.ones(shape), torch.ones(shape))


@pytest.mark.parametrize("dtypes", [(torch.int64, torch.int64), (torch.float32, torch.float64)])
def test_dtypes_must_be_floating_and_equal(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    with pytest.raises(TypeError, match=f"floating-point tensors of one dtype, got {dtypes[0]} and {dtypes[1]}"):
        nt_xent(torch.ones(2, 3, dtype=dtypes[0]), torch.ones(2, 3, dtype=dtypes[1]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_projections_must_be_finite(bad: float) -> None:
    first, second = torch.randn(2, 5, 3)
    first[4, 0] = bad
    second[2, 1] = bad
    with pytest.raises(
        ValueError, match=r"projections of 2 of 5 pictures .* \(first at row 2\): training has diverged"
    ):
        nt_xent(first, second)


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float32, 3e38), (torch.float16, 6e4)])
def test_large_projections_are_finite_even_if_their_sum_is_not(dtype: torch.dtype, largest: float) -> None:
    first = torch.full((5, 3), largest, dtype=dtype)
    assert not first.sum().isfinite()
    assert nt_xent(first, first).isfinite()


def test_gradient_reduction_must_be_known() -> None:
    with pytest.raises(ValueError, match="gradient_reduction must be 'mean' or 'sum', got 'avg'"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), gradient_reduction="avg")  # type: ignore[arg-type]


def test_gather_changes_nothing_on_one_process() -> None:
    first, second = torch.randn(2, 5, 4)
    loss, gradient = computed(first, second)
    for reduction in ("mean", "sum"):
        gathered_loss, gathered_gradient = computed(first, second, gather=True, gradient_reduction=reduction)
        assert torch.equal(gathered_loss, loss)
        assert torch.equal(gathered_gradient, gradient)


def test_module_and_function_compute_the_same() -> None:
    arguments: dict[str, Any] = {
        "temperature": 0.3,
        "normalize": False,
        "official_scale": True,
        "gather": False,
        "gradient_reduction": "sum",
    }
    first, second = torch.randn(2, 5, 4)
    assert torch.equal(NTXentLoss(**arguments)(torch.stack([first, second])), nt_xent(first, second, **arguments))
    assert NTXentLoss(**arguments).config()["init_args"] == arguments


@pytest.mark.parametrize("temperature", [0.0125, 0.3])  # with and without a running maximum
@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_views_are_contrasted_pair_by_pair(views: int, temperature: float, dtype: torch.dtype) -> None:
    projections = torch.randn(views, 5, 4, dtype=torch.float64).to(dtype).requires_grad_()
    loss = NTXentLoss(temperature)(projections)
    (gradient,) = torch.autograd.grad(loss, projections)
    exact = projections.detach().double().requires_grad_()
    z = torch.nn.functional.normalize(exact, dim=-1)
    terms = []
    for u in range(views):
        for i in range(5):
            others = [z[v, j] @ z[u, i] / temperature for v in range(views) for j in range(5) if j != i]
            for v in range(views):
                if v != u:
                    positive = z[v, i] @ z[u, i] / temperature
                    terms.append(torch.stack([positive, *others]).logsumexp(0) - positive)
    truth = torch.stack(terms).mean()
    (exact_gradient,) = torch.autograd.grad(truth, exact)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(loss.double(), truth, rtol=tolerance, atol=tolerance)
    assert (gradient.double() - exact_gradient).norm() / exact_gradient.norm() < tolerance


@pytest.mark.parametrize("views", [2, 4])
def test_expected_losses_are_those_of_collapse_and_of_orthogonal_pictures(views: int) -> None:
    for official_scale in (False, True):
        loss = NTXentLoss(0.5, official_scale=official_scale)
        chance, floor = loss.expected(6, views)
        assert loss(torch.ones(views, 6, 8)).item() == pytest.approx(chance)
        assert loss(torch.eye(6, 8).expand(views, 6, 8)).item() == pytest.approx(floor)


def test_one_view_is_refused() -> None:
    with pytest.raises(InputError, match="two or more views"):
        NTXentLoss()(torch.randn(1, 4, 3))


def test_module_gathers_by_default_and_prints_what_decides_the_loss() -> None:
    assert NTXentLoss().gather
    assert "temperature=0.3, normalize=True, gather=False" in repr(NTXentLoss(0.3, gather=False))
