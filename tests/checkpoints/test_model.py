"""Checkpoints become models again, or their weights fit one, completely or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from simclr_lightning import NTXentLoss, SimCLR
from simclr_lightning.checkpoints import (
    Checkpoint,
    architecture_of,
    build_described,
    build_model,
    fitting_weights,
    load_model,
    read_checkpoint,
)
from simclr_lightning.errors import InputError


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


def test_weights_that_fit_are_returned_and_not_loaded(
    checkpoint: Path, columns: Callable[..., LightningModule]
) -> None:
    model = columns()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = fitting_weights(model, checkpoint)
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert weights.keys() == stored.keys()
    assert all(torch.equal(weights[name], stored[name]) for name in stored)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_missing_tensor_is_named(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    rewritten(checkpoint, lambda content: content["state_dict"].pop("encoder.1.running_var"))
    with pytest.raises(
        ValueError, match=r"does not fit .* Columns: missing from the checkpoint: encoder.1.running_var"
    ):
        fitting_weights(columns(), checkpoint)


def test_a_superfluous_tensor_is_named(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    rewritten(checkpoint, lambda content: content["state_dict"].update(extra=torch.zeros(1)))
    with pytest.raises(ValueError, match="unknown to the model: extra"):
        fitting_weights(columns(), checkpoint)


def test_tensors_of_another_shape_are_named(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    with pytest.raises(
        ValueError, match=r"of another shape: .*encoder.0.weight \(\(4, 1, 4, 4\) instead of \(5, 1, 4, 4\)"
    ):
        fitting_weights(columns(features=5), checkpoint)


def test_a_prefix_makes_all_names_unknown(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    def prefix(content: dict[str, Any]) -> None:
        content["state_dict"] = {f"module.{name}": tensor for name, tensor in content["state_dict"].items()}

    rewritten(checkpoint, prefix)
    with pytest.raises(
        ValueError, match=r"missing .*: encoder.0.bias, .*; unknown to the model: module.encoder.0.bias"
    ):
        fitting_weights(columns(), checkpoint)


def test_a_long_list_of_names_is_cut(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    extra = {f"extra.{number:02d}": torch.zeros(1) for number in range(14)}
    rewritten(checkpoint, lambda content: content["state_dict"].update(extra))
    with pytest.raises(ValueError, match=r"extra\.09 and 4 more"):
        fitting_weights(columns(), checkpoint)


def test_the_model_may_translate_a_checkpoint(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    class Translating(type(columns())):  # type: ignore[misc]
        def on_load_checkpoint(self, content: dict[str, Any]) -> None:
            content["state_dict"] = {
                name.removeprefix("old."): tensor for name, tensor in content["state_dict"].items()
            }

    def prefix(content: dict[str, Any]) -> None:
        content["state_dict"] = {f"old.{name}": tensor for name, tensor in content["state_dict"].items()}

    rewritten(checkpoint, prefix)
    assert "encoder.0.weight" in fitting_weights(Translating(), checkpoint)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, columns: Callable[..., LightningModule]) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is not a Lightning checkpoint"):
        fitting_weights(columns(), tmp_path / "other.pt")


def test_a_missing_file_is_named(tmp_path: Path, columns: Callable[..., LightningModule]) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nowhere\.ckpt"):
        fitting_weights(columns(), tmp_path / "nowhere.ckpt")


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, columns: Callable[..., LightningModule]) -> None:
    rewritten(checkpoint, lambda content: content.update(callback=Path("code")))
    with pytest.raises(InputError, match="weights_only"):
        fitting_weights(columns(), checkpoint)


def test_a_model_whose_loading_hook_takes_more_tensors_keeps_its_own_weights(
    checkpoint: Path, columns: Callable[..., LightningModule]
) -> None:
    class Taking(type(columns())):  # type: ignore[misc]
        """Takes whatever begins with extra."""

        def __init__(self) -> None:
            super().__init__()
            self.register_load_state_dict_pre_hook(take)

    def take(module: nn.Module, state_dict: dict[str, Tensor], *_: Any) -> None:
        module.register_buffer("extra", torch.zeros_like(state_dict["extra"]))

    rewritten(checkpoint, lambda content: content["state_dict"].update(extra=torch.ones(2)))
    model = Taking()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert fitting_weights(model, checkpoint)["extra"].tolist() == [1, 1]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_checkpoint_that_was_read_is_left_as_it_is(
    checkpoint: Path, columns: Callable[..., LightningModule]
) -> None:
    class Renaming(type(columns())):  # type: ignore[misc]
        def on_load_checkpoint(self, content: dict[str, Any]) -> None:
            content["state_dict"]["encoder.0.weight"] = content["state_dict"].pop("encoder.0.weight").flip(0)

    read = read_checkpoint(checkpoint)
    before = {name: tensor.clone() for name, tensor in read.state_dict.items()}
    fitting_weights(Renaming(), read)
    assert read.state_dict.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in read.state_dict.items())


@dataclass
class Breadth:
    """An argument that a command line makes of nested ones."""

    features: int = 3


class Nested(SimCLR):
    def __init__(self, breadth: Breadth | None = None) -> None:
        super().__init__()
        self.features = 0 if breadth is None else breadth.features

    def build_encoder(self) -> nn.Module:
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        encoder.feature_dim = 2  # type: ignore[assignment]
        return encoder


def written_by_the_command_line(model: SimCLR, class_path: str, **arguments: Any) -> Checkpoint:
    told = {"_class_path": class_path, "_instantiator": "lightning.pytorch.cli.instantiate_module", **arguments}
    return Checkpoint(
        Path("last.ckpt"), {"hyper_parameters": {**model.hparams, **told}, "state_dict": model.state_dict()}
    )


def test_nested_arguments_of_the_command_line_become_objects() -> None:
    checkpoint = written_by_the_command_line(Nested(), f"{__name__}.Nested", breadth={"features": 5})
    sys.modules[__name__] = sys.modules.get(__name__) or ModuleType(__name__)
    sys.modules[__name__].Nested = Nested  # type: ignore[attr-defined]
    assert load_model(Nested, checkpoint).features == 5


def test_a_class_of_a_nested_argument_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_argument.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    breadth = {"deep": [{"class_path": "hostile_argument.X"}]}
    told = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "breadth": breadth}
    with pytest.raises(InputError, match=r"names the class hostile_argument\.X, .*: import hostile_argument first"):
        build_model(Nested, {"encoder": "resnet8", **told})
    assert "hostile_argument" not in sys.modules


def test_the_class_of_a_script_may_have_become_that_of_a_module() -> None:
    model = SimCLR("resnet8", width=0.125)
    assert load_model(SimCLR, written_by_the_command_line(model, "__main__.SimCLR")).feature_dim == 32
    assert load_model(SimCLR, written_by_the_command_line(model, "simclr_lightning.SimCLR")).feature_dim == 32
    with pytest.raises(InputError, match=r"checkpoint of __main__\.TheirSimCLR, not of SimCLR"):
        load_model(SimCLR, written_by_the_command_line(model, "__main__.TheirSimCLR"))


def test_a_description_is_of_its_class_and_without_the_loss() -> None:
    description = architecture_of(SimCLR("resnet8", width=0.125))
    assert "loss" not in description["hyperparameters"]
    before = {"temperature": 0.2, "normalize": True, "official_scale": False, "gather": True}
    old = {**description, "hyperparameters": {**description["hyperparameters"], **before}}
    assert build_described(SimCLR, old).hparams["loss"]["init_args"]["temperature"] == 0.2
    assert build_described(SimCLR, description).hparams == SimCLR("resnet8", width=0.125).hparams
    with pytest.raises(InputError, match=r"that of simclr_lightning\.simclr\.SimCLR, not of .*Nested: name its class"):
        build_described(Nested, description)


def test_a_checkpoint_from_before_the_loss_was_an_object_becomes_a_model_with_its_loss() -> None:
    model = SimCLR("resnet8", width=0.125, loss=NTXentLoss(temperature=0.2, gather=False))
    told = {name: value for name, value in model.hparams.items() if name != "loss"}
    told |= {"temperature": 0.2, "normalize": True, "official_scale": False, "gather": False}
    content = {"hyper_parameters": told, "state_dict": model.state_dict()}
    loaded = load_model(SimCLR, Checkpoint(Path("last.ckpt"), content))
    assert loaded.hparams["loss"] == model.hparams["loss"]
