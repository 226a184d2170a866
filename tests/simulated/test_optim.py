"""LARS on the simulated accelerator: no wait, and few kernels."""

from __future__ import annotations

import pytest
import torch
from tests.simulated.device import NAME, recorded
from torch import Tensor, nn

from simclr_lightning.models import ProjectionHead, build_encoder, to_memory_format
from simclr_lightning.optim import LARS, parameter_groups


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    encoder = to_memory_format(build_encoder(name, width=1 / 16, image_size=32), channels_last=True)
    return nn.Sequential(encoder, ProjectionHead(int(encoder.feature_dim)))  # type: ignore[arg-type]


def trained(model: nn.Module, rate: float | Tensor, *, nesterov: bool, steps: int = 3) -> LARS:
    """With gradients of its own, which are the same on every device."""
    generator = torch.Generator().manual_seed(1)
    optimizer = LARS(parameter_groups(model, weight_decay=1e-4), lr=rate, nesterov=nesterov)
    for step in range(steps):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(0.1 * (step + 1))
            else:
                group["lr"] = 0.1 * (step + 1)
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        if step == 1:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("rate", ["number", "on the host", "on the device"])
def test_the_device_computes_what_the_cpu_does(rate: str, nesterov: bool) -> None:
    rates: dict[str, float | Tensor] = {
        "number": 0.1,
        "on the host": torch.tensor(0.1, dtype=torch.float64),
        "on the device": torch.tensor(0.1, device=NAME),
    }
    expected, found = network("resnet18"), network("resnet18").to(NAME)
    trained(expected, 0.1, nesterov=nesterov)
    optimizer = trained(found, rates[rate], nesterov=nesterov)
    for value, truth in zip(found.parameters(), expected.parameters(), strict=True):
        assert value.device.type == NAME
        torch.testing.assert_close(value.detach().cpu(), truth.detach(), rtol=1e-5, atol=1e-7)
    assert all(state["momentum_buffer"].device.type == NAME for state in optimizer.state.values())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("rate", ["number", "on the host", "on the device"])
def test_a_step_waits_for_nothing_and_starts_few_kernels(name: str, rate: str) -> None:
    rates: dict[str, float | Tensor] = {
        "number": 0.1,
        "on the host": torch.tensor(0.1),
        "on the device": torch.tensor(0.1, device=NAME),
    }
    model = network(name).to(NAME)
    optimizer = trained(model, rates[rate], nesterov=False, steps=1)
    with recorded() as record:
        optimizer.step()
    assert record.waits == []
    assert record.copies == []
    adapted = len(optimizer.param_groups[0]["params"])
    assert record.count <= adapted + 17  # one for each adapted tensor
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert record.bytes <= 13.1 * size
