"""Features by the Trainer: clean, frozen, labelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule

from simclr_lightning.evaluation import SimCLRTrainer
from simclr_lightning.evaluation.extract import RawPixels, clean_features

Make = Callable[..., Any]


def images_of(datamodule: Any, split: str) -> torch.Tensor:
    return torch.cat([batch.images for batch in datamodule.clean_dataloader(split)]).float() / 100


def test_features_are_those_of_the_encoder_in_evaluation_mode(trainer: Make, columns: Make, pictures: Make) -> None:
    model, datamodule = columns(), pictures()
    model.train()
    features = clean_features(trainer(), model, datamodule, "test")
    with torch.no_grad():
        expected = model.eval().encoder(images_of(datamodule, "test"))
    assert torch.equal(features.features, expected)
    assert features.targets.tolist() == [number % 3 for number in range(30)]


def test_encoder_and_batchnorm_buffers_stay_bit_equal(trainer: Make, columns: Make, pictures: Make) -> None:
    model = columns().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    clean_features(trainer(), model, pictures(), "train")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_encoder_is_in_evaluation_mode_without_gradients(trainer: Make, columns: Make, pictures: Make) -> None:
    seen: list[tuple[bool, bool]] = []

    class Watching(type(columns())):  # type: ignore[misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append((self.encoder.training, torch.is_grad_enabled()))
            return super().predict_step(batch, batch_idx)

    clean_features(trainer(), Watching().train(), pictures(), "test")
    assert set(seen) == {(False, False)}


def test_precision_is_the_trainers_and_features_are_float32(trainer: Make, columns: Make, pictures: Make) -> None:
    model, datamodule = columns(), pictures()
    exact = clean_features(trainer(), model, datamodule, "test").features
    mixed = clean_features(trainer(precision="bf16-mixed"), model, datamodule, "test").features
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, exact)
    assert torch.allclose(mixed, exact, rtol=0.02, atol=0.02)


def test_raw_pixels_are_the_clean_pictures(trainer: Make, pictures: Make) -> None:
    datamodule = pictures()
    features = clean_features(trainer(), RawPixels(), datamodule, "train")
    assert torch.equal(features.features, images_of(datamodule, "train").flatten(1))


def test_large_pictures_have_no_raw_pixels(trainer: Make, pictures: Make) -> None:
    datamodule = pictures({"test": 3}, size=111)  # 111 * 111 is the first above 64 * 64 * 3
    assert clean_features(trainer(), RawPixels(), datamodule, "test").features.shape == (3, 0)


def test_unlabelled_pictures_are_left_out(trainer: Make, pictures: Make) -> None:
    class PartlyLabelled(type(pictures())):  # type: ignore[misc]
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            batch = super().on_after_batch_transfer(batch, dataloader_idx)
            return batch._replace(targets=batch.targets.where(batch.indices % 2 == 0, -1))

    datamodule = PartlyLabelled({"train": 20})
    features = clean_features(trainer(), RawPixels(), datamodule, "train")
    assert features.targets.tolist() == [number % 3 for number in range(0, 20, 2)]
    assert torch.equal(features.features, images_of(datamodule, "train").flatten(1)[::2])


def test_pictures_without_labels_are_an_error(trainer: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match=r"None of the 60 train pictures has a label.*--data.probe"):
        clean_features(trainer(), RawPixels(), pictures(labelled=False), "train")


def test_an_empty_split_is_an_error(trainer: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match="no test pictures to evaluate on"):
        clean_features(trainer(limit_predict_batches=0), RawPixels(), pictures(), "test")


def test_a_model_that_predicts_something_else_is_an_error(trainer: Make, pictures: Make) -> None:
    class Bare(LightningModule):
        def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return torch.zeros(len(batch.targets))

    with pytest.raises(TypeError, match=r"Bare\.predict_step must return a dictionary .* got a Tensor"):
        clean_features(trainer(), Bare(), pictures(), "test")


def test_every_batch_hook_of_the_data_module_is_used(trainer: Make, columns: Make, pictures: Make) -> None:
    called: list[str] = []

    class Hooked(type(pictures())):  # type: ignore[misc]
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            called.append("before")
            return super().on_before_batch_transfer(batch, dataloader_idx)

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            called.append("transfer")
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            called.append("after")
            return super().on_after_batch_transfer(batch, dataloader_idx)

    datamodule: LightningDataModule = Hooked({"test": 14})
    own: SimCLRTrainer = trainer()
    clean_features(own, columns(), datamodule, "test")
    assert called == ["before", "transfer", "after"] * 2
    assert datamodule.trainer is own
