"""A checkpoint fits completely or is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from simclr_lightning.evaluation.checkpoint import fitting_weights


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
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        fitting_weights(columns(), checkpoint)
