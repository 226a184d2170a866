from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from simclr_lightning import SimCLR
from simclr_lightning.classifiers import Supervised
from simclr_lightning.data import LabelledDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.mark.parametrize("stem", ["auto", "pooled"])
def test_the_encoder_is_that_of_simclr(stem: str) -> None:
    torch.manual_seed(3)
    supervised = Supervised("resnet18", width=0.25, stem=stem, image_size=32, in_channels=1)  # type: ignore[arg-type]
    torch.manual_seed(3)
    simclr = SimCLR("resnet18", width=0.25, stem=stem, image_size=32, in_channels=1)  # type: ignore[arg-type]
    expected = simclr.encoder.state_dict()
    assert supervised.encoder.state_dict().keys() == expected.keys()
    for name, tensor in supervised.encoder.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_it_learns_and_its_checkpoint_loads(quiet_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    model = Supervised("resnet8", width=0.25, stem="pooled", in_channels=1, learning_rate=0.5)
    data = LabelledDataModule(augmentation="none", batch_size=32, label_fraction=0.3)
    trainer = quiet_trainer(max_epochs=6, limit_val_batches=0)
    trainer.fit(model, data)
    (figures,) = trainer.test(model, data, verbose=False)
    assert figures["test/top1"] > 0.8
    trainer.save_checkpoint(tmp_path / "supervised.ckpt")
    again = Supervised.load_from_checkpoint(tmp_path / "supervised.ckpt", weights_only=True)
    images = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), again.eval()(images))


def test_the_linear_layer_starts_as_in_the_official_code() -> None:
    model = Supervised("resnet50", width=0.5, num_classes=100)
    assert model.classifier is not None
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not model.classifier.bias.any()
