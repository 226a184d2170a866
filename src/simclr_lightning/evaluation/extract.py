"""Clean features of a data module's splits, computed by the Trainer."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from simclr_lightning.data import SimCLRDataModule
from simclr_lightning.evaluation.features import Features

_NO_LABELS = (
    "{} has a label, without which features cannot be judged: give class folders, or a separate labelled folder "
    "(--data.probe)."
)


class RawPixels(LightningModule):
    """The baseline without an encoder: features are the pixels of the clean pictures.

    Pictures of more than 64 x 64 x 3 values get no features, (N, 0): learning from so many takes long and says little.
    """

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Flattened pictures (N, C * H * W), targets (N,) and indices (N,)."""
        pixels = batch.images.flatten(1)
        if pixels.shape[1] > 64 * 64 * 3:
            pixels = pixels[:, :0]
        return {"features": pixels, "targets": batch.targets, "indices": batch.indices}


class EncoderFeatures(LightningModule):
    """An encoder that has no LightningModule of its own.

    Args:
        encoder: pictures (N, C, H, W) to features (N, F).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Features (N, F), targets (N,) and indices (N,) of the clean pictures."""
        return {"features": self.encoder(batch.images), "targets": batch.targets, "indices": batch.indices}


class CleanSplit(LightningDataModule):
    """One split of another data module, without augmentation, as what the Trainer predicts on.

    Args:
        datamodule: is set up, and has ``clean_dataloader(split)``; its batch hooks are used.
        split: train, val or test.
    """

    def __init__(self, datamodule: LightningDataModule, split: str) -> None:
        super().__init__()
        self.datamodule: Any = datamodule  # clean_dataloader is not one of Lightning's methods
        self.split = split

    def setup(self, stage: str) -> None:
        """Show the other data module its Trainer."""
        self.datamodule.trainer = self.trainer

    def predict_dataloader(self) -> Any:
        """Clean pictures of the split, in their order."""
        return self.datamodule.clean_dataloader(self.split)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As the other data module does."""
        return self.datamodule.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As the other data module does."""
        return self.datamodule.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As the other data module does."""
        return self.datamodule.on_after_batch_transfer(batch, dataloader_idx)


def clean_features(trainer: Trainer, model: LightningModule, datamodule: LightningDataModule, split: str) -> Features:
    """Features of the labelled pictures of a split, from the model in evaluation mode, without gradients.

    Device and precision are the Trainer's.

    Args:
        trainer: of one device.
        model: its ``predict_step`` returns a dictionary with features (N, F) and targets (N,).
        datamodule: is set up, and has ``clean_dataloader(split)``.
        split: train, val or test.

    Raises:
        TypeError: if ``predict_step`` returns something else.
        ValueError: if no picture of the split has a label.
    """
    batches: list[Any] = trainer.predict(model, CleanSplit(datamodule, split), return_predictions=True) or []
    if not batches:
        raise ValueError(f"There are no {split} pictures to evaluate on (is trainer.limit_predict_batches 0?).")
    if not all(isinstance(batch, dict) and {"features", "targets"} <= batch.keys() for batch in batches):
        raise TypeError(
            f"{type(model).__name__}.predict_step must return a dictionary with features (N, F) and targets (N,), got "
            f"a {type(batches[0]).__name__}."
        )
    features = torch.cat([batch["features"] for batch in batches]).float()
    targets = torch.cat([batch["targets"] for batch in batches])
    if isinstance(datamodule, SimCLRDataModule):
        data: Any = datamodule.clean_dataloader(cast("Any", split)).dataset
        multi_targets = data.pictures.multi_targets
        if multi_targets is not None:
            targets = multi_targets[torch.cat([batch["indices"] for batch in batches])]
    labelled = (targets.reshape(len(targets), -1) >= 0).any(1)  # (N, C) where a picture may have several labels
    if not labelled.any():
        raise ValueError(_NO_LABELS.format(f"None of the {len(targets)} {split} pictures"))
    return Features(features, targets).take(labelled) if not labelled.all() else Features(features, targets)


def labels_to_learn_from(trainer: Trainer, datamodule: LightningDataModule) -> Tensor:
    """Targets of the pictures that ``clean_features(..., "train")`` is going to hold, in the same order.

    ``SimCLRDataModule`` knows them; the pictures of another data module are read for it.

    Args:
        trainer: of one device.
        datamodule: is set up.

    Returns:
        (N,) int64, all labelled; (N, C) where a picture may show several classes.

    Raises:
        ValueError: if there are none.
    """
    if not isinstance(datamodule, SimCLRDataModule):
        return clean_features(trainer, RawPixels(), datamodule, "train").targets
    labelled = datamodule.splits.labelled
    if labelled is None:
        raise ValueError(_NO_LABELS.format("No training picture"))
    pictures = labelled.pictures
    return (pictures.targets if pictures.multi_targets is None else pictures.multi_targets)[labelled.positions]
