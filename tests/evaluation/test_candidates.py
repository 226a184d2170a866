"""Which encoders are compared, from which checkpoints, on which pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.evaluation.candidates import Comparison, has_own_validation, labels_to_learn_from, metric_of

Make = Callable[..., Any]


def small(seed: int = 0) -> SimCLR:
    torch.manual_seed(seed)
    return SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, zero_init_residual=False)


@pytest.fixture
def digits() -> SimCLRDataModule:
    data = SimCLRDataModule("digits")
    data.setup()
    return data


def saved(model: SimCLR, path: Path, trainer: Make, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    """A checkpoint, as the Trainer writes it or changed."""
    own = trainer()
    own.strategy.connect(model)
    own.save_checkpoint(path)
    if change:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
    return path


def test_other_encoders_are_compared_by_name(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    other = small(seed=1)
    path = saved(other, tmp_path / "other.ckpt", trainer)
    comparison = Comparison.prepare(trainer(), small(), digits, None, {"another": path})
    features = {candidate.name: candidate.test.features for candidate in comparison.candidates()}
    assert list(features) == ["raw pixels", "random encoder", "another"]
    images = torch.cat([digits.on_after_batch_transfer(batch, 0).images for batch in digits.clean_dataloader("test")])
    with torch.no_grad():
        expected = other.encoder.eval()(images)
    assert torch.allclose(features["another"], expected, atol=1e-5)
    assert not torch.allclose(features["random encoder"], expected, atol=1e-2)
    assert comparison.checkpoints == {"another": str(path)}
    assert "Labels that another may have been trained with" in comparison.notes[0]
    without = Comparison.prepare(trainer(), small(), digits, None, None, raw_pixels=False)
    assert [candidate.name for candidate in without.candidates()] == ["random encoder"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["state_dict"].pop("encoder.conv1.weight"), "encoder.conv1.weight"),
        (lambda content: content["state_dict"].update(extra=torch.zeros(1)), "extra"),
    ],
    ids=["missing", "extra"],
)
def test_an_other_checkpoint_is_loaded_completely_or_refused(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path, trainer: Make, digits: SimCLRDataModule
) -> None:
    path = saved(small(), tmp_path / "other.ckpt", trainer, change)
    with pytest.raises(ValueError, match=message):
        Comparison.prepare(trainer(), small(), digits, None, {"another": path})


def test_a_name_that_is_taken_is_refused(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    with pytest.raises(ValueError, match="There is an encoder 'raw pixels' already"):
        Comparison.prepare(trainer(), small(), digits, None, {"raw pixels": tmp_path / "other.ckpt"})


def test_an_encoder_of_other_channels_is_refused(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    colour = SimCLR(encoder="resnet8", width=0.125, stem="pooled")
    path = saved(colour, tmp_path / "colour.ckpt", trainer)
    with pytest.raises(ValueError, match=r"'colour' takes 3 channel\(s\), but the pictures have 1"):
        Comparison.prepare(trainer(), small(), digits, None, {"colour": path})


def test_figures_of_a_part_of_the_pictures_are_refused(trainer: Make, digits: SimCLRDataModule) -> None:
    with pytest.raises(ValueError, match="limit_predict_batches is 1"):
        Comparison.prepare(trainer(limit_predict_batches=1), small(), digits, None, None)


def test_labels_are_known_before_pictures_are_read(trainer: Make, digits: SimCLRDataModule, pictures: Make) -> None:
    targets = labels_to_learn_from(trainer(), digits)
    assert torch.equal(targets, torch.cat([batch.targets for batch in digits.clean_dataloader("train")]))
    assert labels_to_learn_from(trainer(), pictures()).tolist() == [number % 3 for number in range(60)]


def test_pictures_without_labels_are_named_before_anything_is_computed(tmp_path: Path, trainer: Make) -> None:
    for number in range(4):
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    data = SimCLRDataModule("folder", root=tmp_path)
    data.setup()
    with pytest.raises(ValueError, match="No training picture has a label"):
        labels_to_learn_from(trainer(), data)


def test_test_pictures_that_also_validate_choose_nothing(digits: SimCLRDataModule, pictures: Make) -> None:
    assert not has_own_validation(digits, "test")
    held_out = SimCLRDataModule("digits", val_fraction=0.1)
    held_out.setup()
    assert has_own_validation(held_out, "test")
    assert not has_own_validation(held_out, "val")
    assert not has_own_validation(pictures({"train": 6, "val": 3, "test": 3}), "test")


def test_test_pictures_are_recognised_when_their_classes_were_renumbered(tmp_path: Path) -> None:
    for folder in ("train/a", "train/b", "test/b"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(tmp_path / folder / f"{number}.png")
    data = SimCLRDataModule("folder", root=tmp_path)
    data.setup()
    assert not has_own_validation(data, "test")


def test_the_metric_is_the_data_sets() -> None:
    class Pets(LightningDataModule):
        metric = "mean_per_class"

    assert (metric_of(Pets()), metric_of(LightningDataModule())) == ("mean_per_class", "top1")
