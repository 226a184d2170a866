"""The simulated device finds what it is there to find, and says nothing of clean code."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.simulated.device import NAME, SimulatedTensor, recorded
from torch import Tensor, nn

DEVICE = NAME


def values(*shape: int) -> Tensor:
    return torch.rand(*shape, device=DEVICE)


def mask() -> Tensor:
    return values(3) > 0.5


WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool((x > 0).all()),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu", torch.float64),
    "copy_ to the host": lambda x: torch.empty(3).copy_(x),
    "to the device": lambda x: torch.ones(3).to(DEVICE),
    "copy_ to the device": lambda x: x.copy_(torch.ones(3)),
    "torch.tensor": lambda x: torch.tensor([1.0, 2.0], device=DEVICE),
    "torch.as_tensor": lambda x: torch.as_tensor([1.0, 2.0], device=DEVICE),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "pageable": lambda x: torch.ones(100_000).to(DEVICE, non_blocking=True),
    "mask": lambda x: x[x > 0.5],
    "assignment by mask": lambda x: x.__setitem__(x > -1, torch.ones(3, device=DEVICE)),
    "index on the host": lambda x: x[torch.tensor([0, 2])],
    "list": lambda x: x[[0, 2]],
    "masked_select": lambda x: x.masked_select(x > 0.5),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0.5),
    "argwhere": lambda x: torch.argwhere(x > 0.5),
    "unique": lambda x: torch.unique(x, sorted=True),
    "bincount": lambda x: x.long().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long() + 1),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "Cholesky": lambda x: torch.linalg.cholesky(torch.eye(3, device=DEVICE)),
    "synchronize": lambda x: torch.simgpu.synchronize(),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("planted", WAITS)
def test_a_planted_wait_is_found_with_file_and_line(planted: str) -> None:
    x = values(3)
    with recorded() as record:
        WAITS[planted](x)
    assert record.waits
    assert {Path(wait.where.partition(":")[0]).name for wait in record.waits} == {Path(__file__).name}
    lines = {int(wait.where.partition(":")[2]) for wait in record.waits}
    assert lines == {WAITS[planted].__code__.co_firstlineno}


CLEAN: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x * 2 + 1).exp().sum() / torch.tensor(3.0),
    "factories": lambda x: (torch.zeros(3, device=DEVICE), torch.arange(3, device=DEVICE), torch.full_like(x, 2.0)),
    "filled by mask": lambda x: x.masked_fill_(x > 0.5, 0.0),
    "assigned a number by mask": lambda x: x.__setitem__(x > 0.5, 0.0),
    "where": lambda x: torch.where(x > 0.5, x, 0.0),
    "slices": lambda x: x[1:] + x[:-1],
    "indices on the device": lambda x: x[torch.arange(2, device=DEVICE)],
    "gather": lambda x: x.gather(0, torch.arange(2, device=DEVICE)),
    "topk": lambda x: x.topk(2),
    "fixed repeats": lambda x: x.repeat_interleave(2),
    "small and not waited for": lambda x: torch.ones(3).to(DEVICE, non_blocking=True),
    "pinned": lambda x: torch.ones(100_000).pin_memory().to(DEVICE, non_blocking=True),
    "loss": lambda x: F.cross_entropy(values(4, 3), torch.arange(4, device=DEVICE) % 3, ignore_index=-1),
    "norm": lambda x: F.normalize(x[None]) @ x,
    "lists": lambda x: torch._foreach_add_([x, x], 1.0),
}


@pytest.mark.parametrize("clean", CLEAN)
def test_clean_code_is_not_blamed(clean: str) -> None:
    x = values(3)
    with recorded() as record:
        CLEAN[clean](x)
    assert record.waits == []


MIXED: dict[str, Callable[[Tensor], object]] = {
    "addition": lambda x: x + torch.ones(3),
    "product": lambda x: torch.ones(3, 3) @ x,
    "stack": lambda x: torch.stack([x.sum(), torch.tensor(0.0)]),
    "in place": lambda x: torch.ones(3).add_(x),
    "where": lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, x),
    "lists": lambda x: torch._foreach_add_([x], [torch.ones(3)]),
}


@pytest.mark.parametrize("mixed", MIXED)
def test_tensors_on_different_devices_raise(mixed: str) -> None:
    with pytest.raises(RuntimeError, match=r"on the same device.*test_device.py:\d+"):
        MIXED[mixed](values(3))


def test_values_are_real_and_gradients_flow() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    twin = copy.deepcopy(network).to(DEVICE)
    images = torch.rand(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    ours, theirs = network(images).square().mean(), twin(images.to(DEVICE)).square().mean()
    ours.backward()
    theirs.backward()
    assert theirs.device.type == NAME
    assert torch.equal(ours, theirs.cpu())
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert isinstance(other, nn.Parameter)
        assert parameter.grad is not None
        assert other.grad is not None
        assert torch.equal(parameter.grad, other.grad.cpu())


def test_memory_formats_are_kept() -> None:
    images = values(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (images * 2).is_contiguous(memory_format=torch.channels_last)


def test_autocast_computes_products_in_the_lower_type_and_losses_in_float32() -> None:
    layer = nn.Linear(3, 2).to(DEVICE)
    with torch.autocast(NAME, dtype=torch.bfloat16):
        scores = layer(values(4, 3))
        loss = F.cross_entropy(scores, torch.zeros(4, dtype=torch.long, device=DEVICE))
    assert (scores.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    loss.backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_kernels_and_bytes_are_counted_by_operator_and_place() -> None:
    x, y = values(1000), values(1000)
    with recorded() as record:
        z = x + y
        z.mul_(2)
        z[:500].zero_()
    assert dict(record.kernels) == {"add": 1, "mul_": 1, "zero_": 1}
    assert record.bytes == 3 * 4000 + 2 * 4000 + 2000
    assert all(Path(place.partition(":")[0]).name == Path(__file__).name for place in record.places)
    assert record.places.total() == record.count == 3


def test_views_cost_nothing_and_what_is_expanded_is_read_once() -> None:
    x = values(10)
    with recorded() as record:
        y = x.view(2, 5).t()[1:].expand(3, 4, 2)
    assert record.count == record.bytes == 0
    with recorded() as record:
        y.clone()
    assert record.bytes == (8 + 24) * 4


def test_lists_are_one_kernel_where_torch_fuses_them() -> None:
    weights = [values(3, 4), values(5)]
    with recorded() as record:
        torch._foreach_mul_(weights, [torch.ones_like(weight) for weight in weights])
        torch._foreach_mul(weights, [weight.sum() for weight in weights])  # of other shapes
    assert record.kernels["_foreach_mul_"] == 1
    assert record.kernels["_foreach_mul (slow path)"] == 2


def test_copies_tell_their_way_and_size() -> None:
    with recorded() as record:
        values(3).cpu()
        torch.ones(5).to(DEVICE, non_blocking=True)
    assert [(copy.direction, copy.bytes, copy.waits) for copy in record.copies] == [
        ("to_host", 12, True),
        ("to_device", 20, False),
    ]


def test_recording_ends_with_its_block_and_blocks_lie_in_blocks() -> None:
    with recorded() as outer:
        values(3)
        with recorded() as inner:
            values(3)
    values(3)
    assert (outer.count, inner.count) == (2, 1)


def test_what_it_cannot_do_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="keeps its shape"):
        values(3).unsqueeze_(0)


def test_a_state_is_saved_as_that_of_a_device() -> None:
    layer = nn.Linear(3, 2).to(DEVICE)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert torch.equal(saved["weight"], layer.weight.detach().cpu())


def test_optimizers_take_their_lists_as_on_any_accelerator() -> None:
    layer = nn.Linear(3, 2).to(DEVICE)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(values(4, 3)).sum().backward()
    optimizer.step()
    layer(values(4, 3)).sum().backward()
    with recorded() as record:
        optimizer.step()
    assert any(name.startswith("_foreach") for name in record.kernels)
    assert record.waits == []
    assert isinstance(layer.weight, SimulatedTensor)
