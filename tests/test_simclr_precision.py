"""Under autocast the encoder alone is rounded: head, normalisation and loss are float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_lightning.losses import NTXentLoss
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # without a Trainer


def model_of(**arguments: Any) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR("resnet8", width=0.125, stem="cifar", loss=NTXentLoss(0.1), **arguments)


def gradient_of_head(model: SimCLR, features: Tensor, autocast: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        projections = torch.unflatten(model.project(features), 0, (2, -1))
        loss = model.loss(projections)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.head.parameters()))])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_head_is_not_rounded(dtype: torch.dtype) -> None:
    model = model_of()
    features = torch.rand(256, 32).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        projections = model.project(features)
    found = gradient_of_head(model, features, autocast=True)
    assert projections.dtype == torch.float32
    assert projections.equal(model.head(features.float()))
    expected = gradient_of_head(model.double(), features.double(), autocast=False)
    assert (found.double() - expected).norm() / expected.norm() < 1e-4  # 3e-2 where the head is rounded


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_model_of_another_dtype_keeps_it(dtype: torch.dtype) -> None:
    model = model_of().to(dtype)
    assert model.project(torch.rand(8, 32).to(dtype)).dtype == dtype
    if dtype == torch.float64:
        with torch.autocast("cpu", torch.bfloat16):
            assert model.project(torch.rand(8, 32).to(dtype)).dtype == dtype


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_every_way_through_the_head(micro_batch_size: int | None) -> None:
    model = model_of(micro_batch_size=micro_batch_size)
    batch = ViewBatch.of(torch.rand(6, 3, 16, 16), torch.rand(6, 3, 16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.training_step(batch, 0)
    outputs["loss"].backward()  # type: ignore[no-untyped-call]
    assert outputs["features"].dtype == torch.bfloat16
    assert outputs["projections"].dtype == outputs["loss"].dtype == torch.float32
    if micro_batch_size is None:  # BatchNorm sees micro-batches
        assert outputs["projections"].equal(model.head(outputs["features"].float()))
    assert all(part.grad is not None and part.grad.isfinite().all() for part in model.parameters())
