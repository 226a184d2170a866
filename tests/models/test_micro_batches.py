"""Micro-batches: how a batch is split, and what a second forward pass may change (nothing)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning.losses import nt_xent
from simclr_lightning.models.micro_batches import check_micro_batch_size, micro_batches, recomputed

# --- splitting ---


@pytest.mark.parametrize(
    ("pictures", "size", "expected"),
    [
        (6, None, [6]),
        (6, 6, [6]),
        (6, 100, [6]),
        (6, 3, [3, 3]),
        (6, 1, [1] * 6),
        (7, 6, [4, 3]),  # not 6 and 1
        (10, 4, [4, 3, 3]),
        (0, 4, [0]),
    ],
)
def test_batch_is_split_evenly_without_copies(pictures: int, size: int | None, expected: list[int]) -> None:
    batch = torch.rand(2, pictures, 3)
    parts = micro_batches(batch, size, dim=1)
    assert [part.shape[1] for part in parts] == expected
    assert torch.equal(torch.cat(parts, dim=1), batch)
    assert all(part.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr() for part in parts)


@pytest.mark.parametrize("size", [None, 1, 4096])
def test_sensible_sizes_are_accepted(size: int | None) -> None:
    check_micro_batch_size(size)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
def test_other_sizes_are_explained(size: Any) -> None:
    with pytest.raises(ValueError, match=rf"at least 1, got {size!r}: .*--model\.micro_batch_size 256"):
        check_micro_batch_size(size)


# --- recomputing ---


class CountingNoise(nn.Module):
    """A third party's module: noise by random numbers, and a buffer that counts calls."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        self.calls = self.calls + 1  # a new tensor
        return features * torch.rand_like(features) * features.detach().std()


def network(*normalisations: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), *normalisations, nn.ReLU(), nn.Linear(8, 3)).double()


def evaluated(normalisation: nn.Module) -> nn.Module:
    return normalisation.eval()


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "BatchNorm": lambda: network(nn.BatchNorm1d(8)),
    "BatchNorm, cumulative": lambda: network(nn.BatchNorm1d(8, momentum=None)),
    "BatchNorm, not tracked": lambda: network(nn.BatchNorm1d(8, track_running_stats=False)),
    "BatchNorm, evaluated": lambda: network(evaluated(nn.BatchNorm1d(8))),
    "SyncBatchNorm": lambda: network(nn.SyncBatchNorm(8)),
    "dropout": lambda: network(nn.Dropout(0.4), nn.Dropout(0.2)),
    "own module": lambda: network(CountingNoise(), nn.BatchNorm1d(8)),
}


def loss_and_gradients(
    module: nn.Module, batch: Tensor, run: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, list[Tensor]]:
    """Of a function of all outputs together, the batch being split into three."""

    def function(part: Tensor) -> tuple[Tensor, Tensor]:
        outputs = module(part)
        return outputs.detach(), outputs

    torch.manual_seed(1)
    outputs = torch.cat([run(function, part, module)[1] for part in micro_batches(batch, 4)])
    loss = (outputs @ outputs.T).logsumexp(1).sum()
    return loss, list(torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputing_changes_neither_gradients_nor_buffers(name: str) -> None:
    module = NETWORKS[name]()
    plain = copy.deepcopy(module)
    buffers = dict(module.named_buffers())
    batch = torch.randn(11, 5, dtype=torch.float64)
    for _ in range(2):
        loss, gradients = loss_and_gradients(module, batch, recomputed)
        expected_loss, expected = loss_and_gradients(plain, batch, lambda function, part, _: function(part))
        assert torch.equal(loss, expected_loss)
        for gradient, truth in zip(gradients, expected, strict=True):
            assert truth.any()
            assert torch.equal(gradient, truth)
        for key, value in plain.named_buffers():
            assert torch.equal(module.get_buffer(key), value), key
    for key, value in buffers.items():
        if key != "1.calls":  # replaced by its own module
            assert module.get_buffer(key) is value, key


def test_function_runs_again_in_backward_alone() -> None:
    module, calls = network(), []

    def function(part: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(torch.is_grad_enabled())
        outputs = module(part)
        return outputs, outputs

    with torch.no_grad():
        recomputed(function, torch.randn(4, 5, dtype=torch.float64), module)
    assert calls == [False]
    loss = recomputed(function, torch.randn(4, 5, dtype=torch.float64), module)[1].sum()
    assert calls == [False, True]
    torch.autograd.backward(loss)
    assert calls == [False, True, True]


def test_buffers_are_restored_after_an_error_in_the_second_pass() -> None:
    module = network(nn.BatchNorm1d(8))
    mean = module.get_buffer("1.running_mean")
    passes = []

    def function(part: Tensor) -> tuple[Tensor, Tensor]:
        passes.append(1)
        if len(passes) == 2:
            raise RuntimeError("the second pass")
        outputs = module(part)
        return outputs, outputs

    loss = recomputed(function, torch.randn(4, 5, dtype=torch.float64), module)[1].sum()
    with pytest.raises(RuntimeError, match="the second pass"):
        torch.autograd.backward(loss)
    assert module.get_buffer("1.running_mean") is mean


def test_autocast_sums_gradients_of_micro_batches_in_float32() -> None:
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pictures = torch.rand(256, 3, 8, 8)

    def gradient(size: int | None, dtype: torch.dtype) -> Tensor:
        network = copy.deepcopy(module)
        if dtype == torch.float64:
            network = network.double()

        def function(part: Tensor) -> tuple[Tensor, Tensor]:
            outputs = network(part)
            return outputs, outputs

        batch = pictures.to(dtype) if dtype == torch.float64 else pictures
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            parts = [recomputed(function, part, network)[1] for part in micro_batches(batch, size)]
        first, second = torch.cat(parts).chunk(2)
        torch.autograd.backward(nt_xent(first, second))
        return torch.cat([parameter.grad.flatten().double() for parameter in network.parameters()])  # type: ignore[union-attr]

    truth = gradient(None, torch.float64)
    whole = float((gradient(None, torch.bfloat16) - truth).norm() / truth.norm())
    split = float((gradient(4, torch.bfloat16) - truth).norm() / truth.norm())
    assert 1e-3 < whole < 0.2  # bfloat16 itself
    assert split < 1.05 * whole
