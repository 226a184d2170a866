"""Checkpoints become encoders again, completely or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from simclr_lightning import SimCLR
from simclr_lightning.checkpoints import load_encoder
from simclr_lightning.classifiers import Classifier, FineTune, LinearEvaluation, Supervised
from simclr_lightning.losses import NTXentLoss

Save = Callable[..., Path]
IMAGES = torch.rand(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))


class Pooled(nn.Module):
    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim, self.in_channels = feature_dim, 2
        self.layer = nn.Linear(8, feature_dim)

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.layer(nn.functional.adaptive_avg_pool2d(images, 2).flatten(1))
        return pooled


class Theirs(SimCLR):
    def __init__(self, *args: Any, breadth: int = 3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def build_encoder(self) -> nn.Module:
        return Pooled(self.hparams["breadth"])


class Fixed(SimCLR):
    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__(encoder="resnet10", width=0.125, stem="cifar", in_channels=2, loss=NTXentLoss(temperature))


def ours() -> SimCLR:
    return SimCLR(encoder="resnet10", width=0.125, image_size=16, in_channels=2, zero_init_residual=False)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes the checkpoint of a model, which a function may change first."""

    def save(model: SimCLR, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        path = tmp_path / "last.ckpt"
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(path)
        checkpoint = torch.load(path, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, path)
        return path

    return save


@pytest.mark.parametrize("model", [ours(), Theirs(breadth=5), Fixed()], ids=["ours", "subclass", "fixed"])
def test_encoder_of_a_checkpoint_gives_the_same_features(model: SimCLR, saved: Callable[..., Path]) -> None:
    for _ in range(2):
        model.train()(IMAGES)  # statistics of BatchNorm
    encoder: Any = type(model).load_encoder(saved(model))
    assert not encoder.training
    assert encoder.in_channels == 2
    with torch.no_grad():
        assert encoder(IMAGES).shape == (3, encoder.feature_dim)
        assert torch.equal(encoder(IMAGES), model.eval()(IMAGES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.bn1.running_var"), r"missing from the checkpoint: encoder\.bn1\.running_var"),
        (
            lambda state: state.update({"encoder.gate.weight": torch.ones(1)}),
            r"unknown to the model: encoder\.gate\.weig",
        ),
        (
            lambda state: state.update({"encoder.conv1.weight": torch.ones(1)}),
            r"of another shape: encoder\.conv1\.weight \(\(1,\) instead of",
        ),
    ],
)
def test_one_wrong_tensor_is_named(
    change: Callable[[dict[str, Tensor]], object], message: str, saved: Callable[..., Path]
) -> None:
    path = saved(ours(), lambda checkpoint: change(checkpoint["state_dict"]))
    with pytest.raises(ValueError, match=message):
        SimCLR.load_encoder(path)


def test_another_class_is_refused_where_the_checkpoint_tells(saved: Callable[..., Path]) -> None:
    path = saved(ours(), lambda content: content["hyper_parameters"].update(_class_path="my_project.MySimCLR"))
    with pytest.raises(ValueError, match=r"checkpoint of my_project\.MySimCLR, not of SimCLR: .*--model my_project"):
        SimCLR.load_encoder(path)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that a checkpoint may name, and nobody else does."""
    (tmp_path / "hostile_module.py").write_text("def build(*_):\n    raise SystemExit\n\n\nclass SimCLR:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "hostile_module"


def test_function_that_a_checkpoint_names_is_not_called(hostile: str, saved: Callable[..., Path]) -> None:
    path = saved(ours(), lambda content: content["hyper_parameters"].update(_instantiator=f"{hostile}.build"))
    with pytest.raises(ValueError, match=r"names a function hostile_module\.build.* is not called"):
        SimCLR.load_encoder(path)
    assert hostile not in sys.modules


def test_class_that_a_checkpoint_names_is_not_imported(hostile: str, saved: Callable[..., Path]) -> None:
    by_cli = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": f"{hostile}.SimCLR"}
    path = saved(ours(), lambda content: content["hyper_parameters"].update(by_cli))
    with pytest.raises(ValueError, match=r"hostile_module\.SimCLR, not of SimCLR.*Nothing is imported because"):
        SimCLR.load_encoder(path)
    assert hostile not in sys.modules


def test_architecture_that_nobody_tells_is_asked_for(saved: Callable[..., Path]) -> None:
    path = saved(ours(), lambda content: content.pop("hyper_parameters"))
    with pytest.raises(ValueError, match=r"does not tell its architecture.*encoder='resnet50'"):
        SimCLR.load_encoder(path)
    encoder = SimCLR.load_encoder(path, "resnet10", width=0.125, image_size=16, in_channels=2)
    content = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, content[f"encoder.{name}"]) for name, tensor in encoder.state_dict().items())


def test_architecture_without_a_name_is_not_ignored(saved: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="describe an encoder: name it"):
        SimCLR.load_encoder(saved(ours()), stem="cifar")


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
    "Supervised": lambda model: Supervised(
        "resnet8", width=0.25, in_channels=1, num_classes=3, image_size=16, pool_grid=2
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_of_every_model_is_found(pretrained: Callable[..., SimCLR], save: Save, name: str) -> None:
    model = MODELS[name](pretrained())
    encoder = load_encoder(save(model), SimCLR)
    assert not encoder.training
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(encoder(images), model.eval().encoder(images))


@pytest.mark.parametrize("name", ["SimCLR", "LinearEvaluation", "FineTune"])
def test_so_is_that_of_somebodys_subclass_if_it_is_named(save: Save, name: str) -> None:
    model = MODELS[name](TheirSimCLR(breadth=5))
    path = save(model)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(load_encoder(path, TheirSimCLR)(images), model.encoder(images))
    if name != "SimCLR":  # a checkpoint from Python does not tell which subclass of SimCLR it is of
        with pytest.raises(ValueError, match=r"that of .*TheirSimCLR, not of .*SimCLR: name its class"):
            load_encoder(path, SimCLR)


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
        load_encoder(path, SimCLR)


def test_a_classifier_of_another_class_is_refused(save: Save) -> None:
    class TheirClassifier(Supervised):
        pass

    path = save(TheirClassifier("resnet8", width=0.25, num_classes=3))
    with pytest.raises(ValueError, match=r"is a checkpoint of TheirClassifier.*TheirClassifier\.load_from_checkpoint"):
        load_encoder(path, SimCLR)


def test_files_from_before_fields_tell_no_grid(save: Save) -> None:
    model = Supervised("resnet8", width=0.25, in_channels=1, num_classes=3)
    path = save(model)
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["pool_grid"]
    torch.save(content, path)
    images = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_encoder(path, SimCLR)(images), model.eval().encoder(images))
