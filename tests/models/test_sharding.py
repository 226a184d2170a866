"""What is refused, and what is left alone; tests/distributed trains in several processes."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, SingleDeviceStrategy, Strategy
from torch.distributed.tensor import DTensor

from simclr_lightning import SimCLR, Supervised
from simclr_lightning.errors import InputError


def under(strategy: type[Strategy], model: Any) -> Any:
    """Attach a Trainer that knows nothing but its strategy, which need not be able to start here."""
    model._trainer = mock.Mock(spec=Trainer, strategy=strategy.__new__(strategy))
    return model


@pytest.mark.parametrize("kind", [SimCLR, Supervised])
def test_deepspeed_is_refused_for_lars_alone(kind: type[SimCLR | Supervised]) -> None:
    with pytest.raises(
        InputError, match=r"LARS needs a norm of every layer: use DDP \(--trainer.strategy ddp\)"
    ) as error:
        under(DeepSpeedStrategy, kind(encoder="resnet8", width=1 / 16, optimizer="lars")).configure_model()
    assert str(error.value).count("\n") < 3
    under(DeepSpeedStrategy, kind(encoder="resnet8", width=1 / 16, optimizer="sgd")).configure_model()
    under(SingleDeviceStrategy, kind(encoder="resnet8", width=1 / 16, optimizer="lars")).configure_model()


def test_without_a_trainer_the_model_stays_as_it_is() -> None:
    model = SimCLR("resnet8", width=1 / 16)
    model.configure_model()
    assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert model.encoder.get_parameter("layer2.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
