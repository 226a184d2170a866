"""NT-Xent with a temperature that is learned: against loops in float64, in a training, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tests.losses import loops
from torch.utils.data import DataLoader

from simclr_lightning.errors import InputError
from simclr_lightning.losses import LearnedTemperatureNTXent, NTXentLoss
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch


@pytest.mark.parametrize(("views", "pictures"), [(2, 2), (2, 17), (3, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_loss_and_gradients_equal_a_loop(
    temperature: float, dtype: torch.dtype, tolerance: float, views: int, pictures: int
) -> None:
    projections = torch.randn(views, pictures, 8, dtype=dtype, requires_grad=True)
    loss = LearnedTemperatureNTXent(temperature, relative_rate=0.25).to(dtype)
    value = loss(projections)
    gradient, of_temperature = torch.autograd.grad(value, [projections, loss.moved])
    expected = loops.nt_xent(projections, temperature)
    (expected_gradient,) = torch.autograd.grad(expected, projections)
    assert value.dtype == dtype
    assert abs(value - expected) <= tolerance * max(1, 1 / temperature)
    assert (gradient - expected_gradient).norm() <= 5 * tolerance * expected_gradient.norm()

    # The logarithm moves by half of what the parameter does.
    step = 1e-5
    up, down = (loops.nt_xent(projections.detach().double(), temperature * math.exp(sign * step)) for sign in (1, -1))
    by_differences = 0.5 * (up - down) / (2 * step)
    assert float(of_temperature) == pytest.approx(float(by_differences), rel=1e-4, abs=1e-6)


def test_groups_and_local_crops_are_those_of_the_loss() -> None:
    projections, groups = torch.randn(4, 6, 8, dtype=torch.float64), torch.tensor([0, 0, 1, 2, 2, 3])
    for given in ({"groups": groups}, {"large": 2}):
        learned, fixed = LearnedTemperatureNTXent(0.2).double(), NTXentLoss(0.2)
        torch.testing.assert_close(learned(projections, **given), fixed(projections, **given))


def test_half_precision_is_computed_in_float32() -> None:
    projections = torch.randn(2, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LearnedTemperatureNTXent(0.2)(projections.bfloat16())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, NTXentLoss(0.2)(projections.bfloat16().float()))


def test_it_falls_as_pairs_are_found_and_not_below_the_least() -> None:
    loss = LearnedTemperatureNTXent(0.2, relative_rate=1.0, least=0.1)
    views = torch.eye(8).expand(2, 8, 8)  # each finds its pair, and a sharper look makes it surer
    temperatures = []
    for _ in range(6):
        loss.zero_grad()
        loss(views).backward()
        assert loss.moved.grad is not None
        temperatures.append(loss.temperature)
        with torch.no_grad():
            loss.moved.sub_(2.0 * loss.moved.grad)
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[0] == pytest.approx(0.2)
    assert temperatures[-1] == pytest.approx(0.1)
    assert loss.expected(8)[1] == pytest.approx(float(loss(views).detach()), rel=1e-4)  # the floor follows


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_a_training_moves_it_and_a_checkpoint_keeps_it(
    optimizer: str, quiet_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = SimCLR("resnet8", width=0.125, loss=LearnedTemperatureNTXent(0.2), optimizer=optimizer, learning_rate=0.5)  # type: ignore[arg-type]
    pictures = torch.rand(16, 3, 8, 8)
    batches: Any = [ViewBatch.of(pictures, (pictures + 0.1 * torch.rand_like(pictures)).clamp(0, 1)) for _ in range(3)]
    trainer = quiet_trainer(max_epochs=2, log_every_n_steps=1, limit_val_batches=1, callbacks=[])
    loader: DataLoader[ViewBatch] = DataLoader(batches, batch_size=None)
    trainer.fit(model, loader, loader)
    moved = model.loss.temperature
    assert moved != pytest.approx(0.2, rel=1e-5)
    assert float(trainer.callback_metrics["val/contrast_temperature"]) == pytest.approx(moved)
    assert float(trainer.callback_metrics["train/contrast_temperature"]) != pytest.approx(moved, rel=1e-5)  # a step ago
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = SimCLR.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(again.loss) is LearnedTemperatureNTXent
    assert again.loss.temperature == moved
    assert torch.equal(again.loss.moved, model.loss.moved)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"relative_rate": 0.0}, r"relative_rate is 0\.0"),
        ({"least": -1.0}, r"least is -1\.0"),
        ({"temperature": 0.1, "least": 0.2}, r"least is 0\.2: choose a number above 0 and at most 0\.1"),
        ({"gradient_reduction": "max"}, "gradient_reduction must be"),
    ],
)
def test_arguments_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LearnedTemperatureNTXent(**given)
