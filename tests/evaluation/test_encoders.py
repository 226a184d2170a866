from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning import SimCLR
from simclr_lightning.evaluation import FineTune, LinearEvaluation, Supervised
from simclr_lightning.evaluation.classifier import Classifier
from simclr_lightning.evaluation.encoders import encoder_of
from simclr_lightning.evaluation.pretrained import starting_model

Save = Callable[..., Path]


class Flat(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.feature_dim = features
        self.linear = nn.Linear(256, features)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.linear(images.flatten(1))
        return features


class TheirSimCLR(SimCLR):
    def __init__(self, breadth: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()

    def build_encoder(self) -> nn.Module:
        return Flat(self.hparams["breadth"])


MODELS: dict[str, Callable[[SimCLR], SimCLR | Classifier]] = {
    "SimCLR": lambda model: model,
    "LinearEvaluation": lambda model: LinearEvaluation.of(model, num_classes=3),
    "FineTune": lambda model: FineTune.of(model, num_classes=3, head_layers=1),
    "Supervised": lambda model: Supervised("resnet8", width=0.25, in_channels=1, num_classes=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_of_every_model_is_found(pretrained: Callable[..., SimCLR], save: Save, name: str) -> None:
    model = MODELS[name](pretrained())
    encoder = encoder_of(save(model))
    assert not encoder.training
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(encoder(images), model.eval().encoder(images))


@pytest.mark.parametrize("name", ["SimCLR", "LinearEvaluation", "FineTune"])
def test_so_is_that_of_somebodys_subclass_if_it_is_named(save: Save, name: str) -> None:
    model = MODELS[name](TheirSimCLR(breadth=5))
    path = save(model)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(encoder_of(path, TheirSimCLR)(images), model.encoder(images))
    if name != "SimCLR":  # a checkpoint from Python does not tell which subclass of SimCLR it is of
        with pytest.raises(ValueError, match=r"that of .*TheirSimCLR, not of .*SimCLR: name its class"):
            encoder_of(path)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("change", ["missing", "superfluous", "reshaped"])
def test_a_checkpoint_that_does_not_fit_is_refused(
    pretrained: Callable[..., SimCLR], save: Save, name: str, change: str
) -> None:
    path = save(MODELS[name](pretrained()))
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    weight = weights.pop("encoder.conv1.weight")
    if change != "missing":
        weights["encoder.conv1.weight"] = weight if change == "superfluous" else weight[:1]
    if change == "superfluous":
        weights["encoder.conv9.weight"] = weight
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"encoder\.conv(1|9)\.weight"):
        encoder_of(path)


def test_a_classifier_of_another_class_is_refused(save: Save) -> None:
    class TheirClassifier(Supervised):
        pass

    path = save(TheirClassifier("resnet8", width=0.25, num_classes=3))
    with pytest.raises(ValueError, match=r"is a checkpoint of TheirClassifier.*TheirClassifier\.load_from_checkpoint"):
        encoder_of(path)


def test_a_checkpoint_to_start_from_is_named_or_the_message_says_how(save: Save, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Which encoder\?.*--model\.checkpoint runs/"):
        starting_model(None, None, SimCLR)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'typo\.ckpt'.*--model\.checkpoint runs/"):
        starting_model("typo.ckpt", None, SimCLR)
    with pytest.raises(ValueError, match="does not tell its architecture"):
        starting_model(save(Supervised("resnet8", width=0.25, num_classes=3)), None, SimCLR)
