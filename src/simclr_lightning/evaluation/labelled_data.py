"""What an evaluation asks of a data module: labels, splits, the metric."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from simclr_lightning.data import PictureDataModule
from simclr_lightning.data.folder import named_roots
from simclr_lightning.errors import InputError
from simclr_lightning.features import RawPixels, clean_features
from simclr_lightning.metrics import Metric

TestSplit = Literal["test", "val"]
"""Which pictures are classified: val where there are no test pictures."""


def labels_to_learn_from(trainer: Trainer, datamodule: LightningDataModule) -> Tensor:
    """Targets of the pictures that ``clean_features(..., "train")`` is going to hold, in the same order.

    This package's data modules know them; the pictures of another data module are read for it.

    Args:
        trainer: of one device.
        datamodule: is set up.

    Returns:
        (N,) int64, all labelled; (N, C) where a picture may show several classes.

    Raises:
        InputError: if there are none.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule("digits")
        >>> data.setup()
        >>> labels_to_learn_from(Trainer(accelerator="cpu", logger=False, barebones=True), data).shape
        torch.Size([1437])
    """
    if not isinstance(datamodule, PictureDataModule):
        return clean_features(trainer, RawPixels(), datamodule, "train").targets
    labelled = datamodule.splits.labelled
    if labelled is None:
        raise InputError(
            "No training picture has a label, without which features cannot be judged: give class folders, or a "
            "separate labelled folder (--data.probe)."
        )
    pictures = labelled.pictures
    return (pictures.targets if pictures.multi_targets is None else pictures.multi_targets)[labelled.positions]


def has_own_validation(datamodule: LightningDataModule, split: TestSplit) -> bool:
    """Whether there are validation pictures besides those that are classified.

    A data set without any of its own watches its training by its test pictures, which nothing may be chosen on. A data
    module of another class does not tell.

    Args:
        datamodule: is set up.
        split: which pictures are classified.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule("digits")
        >>> data.setup()
        >>> has_own_validation(data, "test")
        False
    """
    if split == "val" or not isinstance(datamodule, PictureDataModule):
        return False
    val, test = datamodule.splits.val, datamodule.splits.test
    if val is None or test is None:
        return False
    same_set = val.pictures.bad is test.pictures.bad  # which copies with other labels share
    return not (same_set and torch.isin(val.positions, test.positions).any())


def judged_by(datamodule: LightningDataModule) -> Metric:
    """By what the data module asks classifiers to be judged, top1 if it does not.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> judged_by(SimCLRDataModule("digits")), judged_by(SimCLRDataModule("digits", metric="mean_per_class"))
        ('top1', 'mean_per_class')
    """
    return getattr(datamodule, "judged_by", None) or "top1"


def metric_of(datamodule: LightningDataModule) -> Metric:
    """By what classifiers of the pictures are judged in the literature.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> metric_of(SimCLRDataModule("digits"))
        'top1'
    """
    return getattr(datamodule, "metric", "top1")


def dataset_name(datamodule: LightningDataModule) -> str:
    """What the pictures are called: the folder's name, the data set's, or at least the class's.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> dataset_name(SimCLRDataModule("digits"))
        'digits'
    """
    name = datamodule.hparams.get("dataset", type(datamodule).__name__)
    if name != "folder":
        return str(name).rpartition(".")[2]
    return ", ".join(Path(root).name for root in named_roots(datamodule.hparams["root"]))


def set_up(datamodule: LightningDataModule, notes: list[str]) -> TestSplit:
    """Set up the data and find the split to test on.

    Args:
        datamodule: as it was built.
        notes: gets one, where there are no test pictures.

    Raises:
        InputError: if the data module does not serve clean pictures.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> set_up(SimCLRDataModule("digits"), [])
        'test'
    """
    datamodule.prepare_data()
    for stage in ("fit", "test"):  # labels are learned from the one and judged on the other
        datamodule.setup(stage)
    clean_dataloader = getattr(datamodule, "clean_dataloader", None)
    if clean_dataloader is None:
        raise InputError(
            f"{type(datamodule).__name__} has no method clean_dataloader(split) that gives the clean, labelled "
            "pictures of train and test: use SimCLRDataModule, or add it."
        )
    try:
        clean_dataloader("test")
    except ValueError as error:
        notes.append(f"Measured on the validation pictures, not on test pictures. ({error})")
        return "val"
    return "test"
