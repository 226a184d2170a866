from __future__ import annotations

from typing import Any, Literal
from unittest import mock

import lightning
import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision, MixedPrecision, Precision

from simclr_lightning.data import suit as suit_module
from simclr_lightning.data.suit import suit
from simclr_lightning.views import ViewEngine, ViewRecipe, fused

Kind = Literal["bf16-mixed", "16-mixed"]


def suited(plugin: Precision) -> torch.dtype:
    engine = ViewEngine(ViewRecipe("cifar10"), dtype=torch.float16)
    suit(engine, lightning.Trainer(accelerator="cpu", plugins=[plugin], logger=False, barebones=True))
    return engine.dtype


def test_views_have_the_type_of_the_first_layer() -> None:
    assert suited(Precision()) == torch.float32
    assert suited(HalfPrecision("bf16-true")) == torch.bfloat16
    assert suited(MixedPrecision("bf16-mixed", "cpu")) == torch.float32  # as ever
    engine, trainer = (
        ViewEngine(ViewRecipe("cifar10")),
        mock.Mock(precision_plugin=MixedPrecision("bf16-mixed", "meta")),
    )
    trainer.strategy.root_device = torch.device("meta")
    suit(engine, trainer)
    assert engine.dtype == torch.bfloat16


def test_float16_stays_with_the_encoder_whose_range_is_small() -> None:
    assert suited(MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))) == torch.float32


def test_an_autocast_that_is_not_the_devices_rounds_nothing() -> None:
    """Lightning has one for devices that it does not know; a layer of float32 would refuse bfloat16."""
    assert suited(MixedPrecision("bf16-mixed", "meta")) == torch.float32


def test_slow_views_are_told_once_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    suit_module._tell_of_slow_views.cache_clear()
    monkeypatch.setattr(suit_module, "rank_zero_info", told.append)
    monkeypatch.setattr(fused, "obstacle", lambda device: "no compiler was found")
    for device in ("meta", "meta", "cpu"):
        suit_module._tell_of_slow_views(torch.device(device))
    suit_module._tell_of_slow_views.cache_clear()
    assert told == ["Views are made operation by operation, slower than by Triton's kernels: no compiler was found."]
