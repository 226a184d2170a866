"""The loss is IEEE float32 in both passes, whatever products are allowed elsewhere; see test_precision.py for how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from simclr_lightning.losses import NTXentLoss, contrastive_metrics, log_negatives

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm_.default, torch.ops.aten.bmm.default}


@pytest.fixture(params=["highest", "high", "medium", "bf16 of oneDNN", "TF32 of cuBLAS"], autouse=True)
def allowed(request: pytest.FixtureRequest) -> Iterator[str]:
    matmul = [torch.backends.mkldnn, torch.backends.cuda]
    if " of " in request.param:
        if not hasattr(torch._C, "_set_fp32_precision_setter"):
            pytest.skip("torch has one interface before 2.9")
        wanted, which = request.param.startswith("bf16"), matmul[request.param.endswith("cuBLAS")].matmul
        which.fp32_precision = "bf16" if wanted else "tf32"
        yield request.param
        which.fp32_precision = "none"
    else:
        torch.set_float32_matmul_precision(request.param)
        yield request.param
        torch.set_float32_matmul_precision("highest")


def products_are_ieee() -> bool:
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        get = torch._C._get_fp32_precision_getter
        return {get(backend, "matmul") for backend in ("cuda", "mkldnn")} == {"ieee"}
    return torch.get_float32_matmul_precision() == "highest"


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Whether each matrix product was computed in IEEE float32."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ieee: list[bool] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in PRODUCTS:
            self.ieee.append(products_are_ieee())
        return func(*args, **(kwargs or {}))


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


def loss_and_gradient(projections: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    rows = projections.clone().requires_grad_()
    loss = NTXentLoss(temperature)(rows)
    return loss.detach(), gradient(loss, rows)


@pytest.mark.parametrize("pictures", [300, 1100])  # the matrix is kept for the backward pass, or computed again
@pytest.mark.parametrize("temperature", [0.0125, 0.1])  # with and without a running maximum
def test_loss_and_gradient_equal_float64(pictures: int, temperature: float) -> None:
    projections = torch.randn(2, pictures, 128)
    expected = loss_and_gradient(projections.double(), temperature)
    for value, truth in zip(loss_and_gradient(projections, temperature), expected, strict=True):
        assert (value.double() - truth).norm() / truth.norm() < (4e-6 if temperature > 0.05 else 4e-5)


def test_setting_reaches_products_elsewhere(allowed: str) -> None:
    """Else the other tests would prove nothing."""
    with Products() as products:
        _ = torch.rand(2, 3) @ torch.rand(3, 2)
    assert products.ieee == [allowed == "highest" and products_are_ieee()]


@pytest.mark.parametrize("temperature", [0.0125, 0.1])
def test_every_product_of_both_passes(temperature: float) -> None:
    rows = torch.randn(2, 1100, 8, requires_grad=True)
    found: dict[str, list[bool]] = {}
    with Products() as products:
        loss = NTXentLoss(temperature)(rows)
        found["forward"], products.ieee = products.ieee, []
        gradient(loss, rows)
        found["backward"], products.ieee = products.ieee, []
        views = rows.detach().flatten(0, 1).requires_grad_()
        gradient(log_negatives(views, columns=torch.randn(5, 8)).sum(), views)
        found["columns"], products.ieee = products.ieee, []
        contrastive_metrics(*rows.detach())
        found["metrics"] = products.ieee
    assert all(len(told) > 1 and all(told) for told in found.values()), found


def test_backward_pass_in_another_thread() -> None:
    rows = torch.randn(2, 1100, 8, requires_grad=True)
    loss = NTXentLoss()(rows)
    told: list[bool] = []

    def backward() -> None:
        with Products() as products, torch.autocast("cpu", torch.bfloat16):
            loss.backward()
        told.extend(products.ieee)

    thread = Thread(target=backward)
    thread.start()
    thread.join()
    assert len(told) > 1
    assert all(told)
    assert rows.grad is not None
    assert rows.grad.equal(loss_and_gradient(rows.detach(), 0.1)[1])
