from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from simclr_lightning import SimCLR
from simclr_lightning.classifiers import FineTune
from simclr_lightning.data import LabelledDataModule
from simclr_lightning.optim import LARS

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
Pretrained = Callable[..., SimCLR]
MakeTrainer = Callable[..., Trainer]
Save = Callable[..., Path]


@pytest.mark.parametrize("settings", [{}, {"optimizer": "lars", "learning_rate": 0.3, "head_layers": 1}])
def test_the_whole_network_is_trained_and_the_pretrained_model_is_left_alone(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, settings: dict[str, Any]
) -> None:
    model = pretrained(projection_layers=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    classifier = FineTune.of(model, **settings)
    trainer = quiet_trainer(max_epochs=2, limit_val_batches=1)
    trainer.fit(classifier, LabelledDataModule(label_fraction=0.1, batch_size=32))
    assert isinstance(trainer.optimizers[0], LARS if "optimizer" in settings else torch.optim.SGD)
    for name, tensor in classifier.state_dict().items():
        if name.startswith("encoder."):
            assert not torch.equal(tensor, before[name]), name
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_the_head_is_kept_up_to_a_layer(pretrained: Pretrained, layers: int) -> None:
    model = pretrained(projection_layers=3, projection_hidden=24, projection_dim=10).eval()
    classifier = FineTune.of(model, head_layers=layers, num_classes=5).eval()
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        expected = model.head.blocks[:layers](model(images))  # type: ignore[operator, index]
        assert torch.equal(classifier.head(classifier.encode(images)), expected)
    assert classifier.classifier is not None
    assert classifier.classifier.in_features == [model.feature_dim, 24, 24, 10][layers]
    assert not classifier.classifier.weight.any()
    with torch.no_grad():
        nn.init.normal_(classifier.classifier.weight)
        assert torch.equal(classifier(images), classifier.classifier(expected))


def test_layers_that_are_not_there_are_refused(pretrained: Pretrained) -> None:
    with pytest.raises(ValueError, match=r"head_layers is 3, but the projection head .* has 2 layer"):
        FineTune.of(pretrained(), head_layers=3)
    with pytest.raises(ValueError, match="head_layers is -1"):
        FineTune.of(pretrained(), head_layers=-1)

    class Headless(SimCLR):
        def build_head(self) -> nn.Module:
            return nn.Identity()

    with pytest.raises(ValueError, match="Identity, is no ProjectionHead"):
        FineTune.of(Headless("resnet8"), head_layers=1)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_checkpoint_needs_no_other_file_and_resumes(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, save: Save, tmp_path: Path, layers: int
) -> None:
    model = pretrained()
    pretraining = save(model, "pretrained.ckpt")
    classifier = FineTune(pretraining, head_layers=layers)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, classifier.encoder.state_dict()[name]), name
    data = LabelledDataModule(label_fraction=0.1, batch_size=32)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(classifier, data)
    trainer.save_checkpoint(tmp_path / "finetuned.ckpt")
    pretraining.unlink()
    again = FineTune.load_from_checkpoint(tmp_path / "finetuned.ckpt", weights_only=True)
    assert list(again.state_dict()) == list(classifier.state_dict())  # the optimizer's state goes by this order
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    quiet_trainer(max_epochs=2, limit_val_batches=0).fit(again, data, ckpt_path=tmp_path / "finetuned.ckpt")
    (figures,) = trainer.test(again, data, verbose=False)
    assert 0 < figures["test/top1"] <= 1
