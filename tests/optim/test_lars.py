from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simclr_lightning.optim import LARS, parameter_groups, warmup_cosine

Array = NDArray[np.float64]
SHAPES = [(4, 3), (2, 3, 3, 3), (5,), (3, 2), (6, 1), ()]


class ReferenceLARS:
    """The paper's rule in float64, one tensor at a time, in plain numpy."""

    def __init__(self, weights: list[Array], momentum: float, nesterov: bool = False, eta: float = 1e-3) -> None:
        self.weights = [weight.copy() for weight in weights]
        self.buffers = [np.zeros_like(weight) for weight in weights]
        self.momentum, self.nesterov, self.eta = momentum, nesterov, eta

    def step(self, gradients: list[Array | None], rate: float, decays: list[float], adapts: list[bool]) -> None:
        for i, gradient in enumerate(gradients):
            if gradient is None:
                continue
            decayed = gradient + decays[i] * self.weights[i]
            weight_norm = math.sqrt(float((self.weights[i] ** 2).sum()))
            gradient_norm = math.sqrt(float((decayed**2).sum()))
            trust = 1.0
            if adapts[i] and weight_norm > 0 and gradient_norm > 0:
                trust = self.eta * weight_norm / gradient_norm
            scaled = rate * trust * decayed
            self.buffers[i] = self.momentum * self.buffers[i] + scaled
            move = self.momentum * self.buffers[i] + scaled if self.nesterov else self.buffers[i]
            self.weights[i] = self.weights[i] - move


def random_gradients(generator: np.random.Generator, step: int) -> list[Array | None]:
    """Gradients of the six tensors; now and then zero or missing."""
    gradients: list[Array | None] = [np.asarray(generator.normal(size=shape)) for shape in SHAPES]
    if step % 7 == 3:
        gradients[0] = np.zeros(SHAPES[0])
    if step % 6 == 1:
        gradients[4] = np.zeros(SHAPES[4])  # without decay, so that its norm is zero
    if step % 5 == 2:
        gradients[1] = None
    return gradients


def initial_weights() -> list[Array]:
    generator = np.random.default_rng(0)
    weights = [np.asarray(generator.normal(size=shape)) for shape in SHAPES]
    weights[3] = np.zeros(SHAPES[3])  # moves from zero with a trust of 1
    return weights


def as_parameters(weights: list[Array], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(weight, dtype=dtype)) for weight in weights]


def set_gradients(parameters: list[nn.Parameter], gradients: list[Array | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=parameter.dtype)


def grouped(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Decayed and adapted; neither; and adapted without decay: the two flags are independent."""
    return [
        {"params": parameters[:2] + parameters[3:4], "weight_decay": 0.1},
        {"params": parameters[2:3] + parameters[5:], "weight_decay": 0.0, "adapt": False},
        {"params": parameters[4:5], "weight_decay": 0.0},
    ]


DECAYS = [0.1, 0.1, 0.0, 0.1, 0.0, 0.0]
ADAPTS = [True, True, False, True, True, False]


def run(parameters: list[nn.Parameter], optimizer: LARS, steps: range) -> None:
    for step in range(steps.stop):
        gradients = random_gradients(np.random.default_rng(step), step)
        if step < steps.start:
            continue
        for group in optimizer.param_groups:
            group["lr"] = 5.0 * warmup_cosine(step, 10, 50)
        set_gradients(parameters, gradients)
        optimizer.step()


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)], ids=["heavy ball", "nesterov", "no momentum"]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_fifty_steps_of_a_changing_rate_equal_the_reference(
    dtype: torch.dtype, tolerance: float, momentum: float, nesterov: bool
) -> None:
    reference = ReferenceLARS(initial_weights(), momentum, nesterov)
    for step in range(50):
        gradients = random_gradients(np.random.default_rng(step), step)
        reference.step(gradients, 5.0 * warmup_cosine(step, 10, 50), DECAYS, ADAPTS)
    parameters = as_parameters(initial_weights(), dtype)
    run(parameters, LARS(grouped(parameters), lr=1.0, momentum=momentum, nesterov=nesterov), range(50))
    for parameter, expected, start in zip(parameters, reference.weights, initial_weights(), strict=True):
        assert np.abs(expected - start).max() > 1e-3
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_resumed_in_the_middle_is_identical() -> None:
    whole = as_parameters(initial_weights(), torch.float32)
    run(whole, LARS(grouped(whole), lr=1.0), range(50))
    first = as_parameters(initial_weights(), torch.float32)
    optimizer = LARS(grouped(first), lr=1.0)
    run(first, optimizer, range(25))
    file = io.BytesIO()
    torch.save({"weights": [parameter.data for parameter in first], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = [nn.Parameter(weight) for weight in saved["weights"]]
    optimizer = LARS(grouped(second), lr=7.0)
    optimizer.load_state_dict(saved["optimizer"])
    run(second, optimizer, range(25, 50))
    for one, other in zip(whole, second, strict=True):
        assert torch.equal(one, other)


def test_first_step_moves_a_tensor_by_a_thousandth_of_its_norm() -> None:
    weight = nn.Parameter(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    weight.grad = 1e6 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    LARS([weight], lr=2.0).step()
    moved = (weight.detach() - before).norm() / before.norm()
    assert moved.item() == pytest.approx(2e-3, rel=1e-5)


def test_adaptation_does_not_depend_on_weight_decay() -> None:
    weight = nn.Parameter(torch.ones(4))
    weight.grad = torch.full((4,), 100.0)
    LARS([weight], lr=1.0, weight_decay=0.0).step()
    torch.testing.assert_close(weight.detach(), torch.full((4,), 1 - 1e-3))


def test_rate_is_inside_the_momentum_buffer() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = LARS([{"params": [weight], "adapt": False}], lr=1.0, momentum=0.5)
    weight.grad = torch.ones(1)
    optimizer.step()  # v = 1, w = -1
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()  # v = 0.5, w = -1.5: torch.optim.SGD would stand still
    assert weight.item() == -1.5


def test_excluded_group_is_plain_momentum_sgd_at_a_constant_rate() -> None:
    ours, theirs = (as_parameters(initial_weights()) for _ in range(2))
    lars = LARS([{"params": ours, "adapt": False}], lr=0.1, weight_decay=0.01, nesterov=True)
    sgd = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for step in range(10):
        gradients = random_gradients(np.random.default_rng(step), step)
        for parameters, optimizer in ((ours, lars), (theirs, sgd)):
            set_gradients(parameters, gradients)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_gradients_are_left_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = torch.full((3, 3), 2.0)
    LARS([weight], lr=1.0, weight_decay=0.1).step()
    assert torch.equal(weight.grad, torch.full((3, 3), 2.0))


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)], ids=["heavy ball", "nesterov", "no momentum"]
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_rate_in_a_tensor_is_that_of_a_number(shape: tuple[int, ...], momentum: float, nesterov: bool) -> None:
    numbers, tensors = as_parameters(initial_weights()), as_parameters(initial_weights())
    run(numbers, LARS(grouped(numbers), lr=1.0, momentum=momentum, nesterov=nesterov), range(12))
    rate = torch.ones(shape, dtype=torch.float64)
    optimizer = LARS(grouped(tensors), lr=rate, momentum=momentum, nesterov=nesterov)
    for step in range(12):
        rate.fill_(5.0 * warmup_cosine(step, 10, 50))
        set_gradients(tensors, random_gradients(np.random.default_rng(step), step))
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert all(torch.equal(one, other) for one, other in zip(numbers, tensors, strict=True))


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_rate_on_the_device_is_multiplied_and_not_read(nesterov: bool) -> None:
    """Compiled, as on a device, the tensor is multiplied, and a graph that read it would be refused."""
    numbers, tensors = as_parameters(initial_weights()), as_parameters(initial_weights())
    run(numbers, LARS(grouped(numbers), lr=1.0, nesterov=nesterov), range(3))
    optimizer = LARS(grouped(tensors), lr=torch.tensor(1.0, dtype=torch.float64), nesterov=nesterov)
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    for number in range(3):
        for group in optimizer.param_groups:
            group["lr"].fill_(5.0 * warmup_cosine(number, 10, 50))
        set_gradients(tensors, random_gradients(np.random.default_rng(number), number))
        step()
    torch.testing.assert_close(numbers, tensors, rtol=1e-12, atol=1e-14)


def test_a_rate_in_a_tensor_follows_a_scheduler_and_a_checkpoint() -> None:
    parameters = as_parameters(initial_weights())
    optimizer = LARS(grouped(parameters), lr=torch.tensor(2.0, dtype=torch.float64))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for step in range(3):
        set_gradients(parameters, random_gradients(np.random.default_rng(step), step))
        optimizer.step()
        scheduler.step()
    assert [group["lr"].item() for group in optimizer.param_groups] == [0.5, 0.5, 0.5]
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    others = as_parameters([parameter.detach().numpy() for parameter in parameters])
    resumed = LARS(grouped(others), lr=torch.tensor(2.0, dtype=torch.float64))
    resumed.load_state_dict(saved["optimizer"])
    for both in ((parameters, optimizer), (others, resumed)):
        set_gradients(both[0], random_gradients(np.random.default_rng(3), 3))
        both[1].step()
    assert all(isinstance(group["lr"], Tensor) for group in resumed.param_groups)
    assert all(torch.equal(one, other) for one, other in zip(parameters, others, strict=True))


def test_gradients_in_another_memory_format_are_those_of_their_weights() -> None:
    weights = torch.randn(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = [nn.Parameter(weight.clone()) for weight in weights]
    strided = [nn.Parameter(weight.to(memory_format=torch.channels_last)) for weight in weights]
    strided[1] = nn.Parameter(weights.transpose(1, 2).contiguous().transpose(1, 2)[1])
    for parameter in (*plain, *strided):
        parameter.grad = gradient.clone()
    for parameters in (plain, strided):
        optimizer = LARS(parameters, lr=1.0, weight_decay=0.1, nesterov=True)
        optimizer.step()
        optimizer.step()
    torch.testing.assert_close(strided, plain, rtol=1e-13, atol=1e-15)
    assert optimizer.state[strided[0]]["momentum_buffer"].is_contiguous(memory_format=torch.channels_last)


def test_group_of_mixed_data_types_equals_separate_optimizers() -> None:
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.float32, torch.float16, torch.float64]
    mixed, alone = (
        [nn.Parameter(torch.tensor(w, dtype=d)) for w, d in zip(initial_weights(), dtypes, strict=True)]
        for _ in range(2)
    )
    optimizers = [LARS(mixed, lr=1.0, weight_decay=0.1)], [LARS([p], lr=1.0, weight_decay=0.1) for p in alone]
    for step in range(3):
        gradients = random_gradients(np.random.default_rng(step), step)
        for parameters, group in zip((mixed, alone), optimizers, strict=True):
            set_gradients(parameters, gradients)
            for optimizer in group:
                optimizer.step()
    for one, other in zip(mixed, alone, strict=True):
        assert torch.equal(one, other)


def test_norm_of_half_precision_weights_does_not_overflow() -> None:
    weight = nn.Parameter(torch.full((100, 100), 1000.0, dtype=torch.float16))  # norm 1e5 > 65504
    weight.grad = torch.ones_like(weight)
    LARS([weight], lr=100.0).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 900.0))


def test_step_reads_no_value_of_the_device() -> None:
    """Tensors on the meta device have no values: reading one, or branching on one, would raise."""
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter)
    with pytest.raises(RuntimeError, match="meta"):
        bool(next(module.parameters()).norm() > 0)
    optimizer = LARS(parameter_groups(module, weight_decay=0.1), lr=0.1)
    optimizer.step()
    assert len(optimizer.state) == 4


def test_not_a_number_is_passed_on_and_not_hidden() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([math.nan, 1.0])
    LARS([weight], lr=1.0).step()
    assert weight.isnan().any()


def test_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = LARS([weight], lr=1.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss: Tensor = weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (weight < 1).all()


def test_sparse_gradient_is_an_error() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"dense gradients, got torch.sparse_coo .* shape \(4, 2\)"):
        LARS(table.parameters(), lr=0.1).step()


def test_complex_parameter_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"real parameters, got one of shape \(2,\) and torch.complex64"):
        LARS([nn.Parameter(torch.zeros(2, dtype=torch.complex64))], lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be finite and at least 0, got -1.0"),
        ({"lr": math.inf}, "lr must be finite"),
        ({"lr": torch.tensor(-1.0)}, "lr must be finite and at least 0, got -1.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1e-6}, "weight_decay must be finite and at least 0, got -1e-06"),
        ({"trust_coefficient": 0.0}, "above 0, got 0.0. To switch adaptation off"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov=True needs a momentum above 0"),
    ],
)
def test_values_out_of_range_are_errors(arguments: dict[str, Any], message: str) -> None:
    parameters = as_parameters(initial_weights())
    with pytest.raises(ValueError, match=message):
        LARS(parameters, **{"lr": 0.1, **arguments})
    with pytest.raises(ValueError, match=message):
        LARS([{"params": parameters, **arguments}], lr=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"lr": torch.ones(2)}, r"lr must be a number, got a tensor of shape \(2,\) and torch.float32"),
        ({"lr": torch.tensor(1)}, r"lr must be a number, got a tensor of shape \(\) and torch.int64"),
        ({"momentum": torch.tensor(0.9)}, r"momentum must be a number, got tensor\(0.9000\)"),
        ({"adapt": 1}, "adapt must be True or False, got 1"),
    ],
)
def test_values_of_the_wrong_type_are_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        LARS([{"params": as_parameters(initial_weights()), **arguments}], lr=0.1)
