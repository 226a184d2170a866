"""``LabelledDataModule``: labelled pictures, one augmented picture each, for classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from simclr_lightning import distributed
from simclr_lightning.data.feature_batches import FeatureBatch, FeatureDataset
from simclr_lightning.data.labels import listed_positions
from simclr_lightning.data.loaders import PictureLoader
from simclr_lightning.data.module import PictureDataModule
from simclr_lightning.data.pictures import PictureSets
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.data.sources import Source
from simclr_lightning.data.splits import Split, Splits, hide_other_labels, labelled_part
from simclr_lightning.data.stream import Stream
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewBatch, ViewEngine, ViewRecipe, check_channels

Augmentation = Literal["crop_flip", "none", "simclr"]


class LabelledDataModule(PictureDataModule):
    """Loads labelled pictures and serves one augmented picture of each, for ``LinearEvaluation`` and the like.

    Only pictures whose labels may be used are trained on (those of ``probe``, if it is given). A training batch is a
    ``ViewBatch`` without views whose ``images`` are the augmented pictures (N, C, size, size); batches of validation,
    test and prediction have the clean pictures there. Where there are fewer labels than ``batch_size``, all of them
    make a batch. The data set must have a length.

    Args:
        dataset: the name of a data set, or a callable, or its import path: see :class:`PictureDataModule`.
        root: folder of the data.
        batch_size: pictures of one step over all processes, each of which loads its share.
        views: the recipe that ``augmentation`` takes its part of, or the name of a preset; the first of a list.
            ``size`` is the side of training pictures, ``eval_size`` that of clean ones. None: the preset that fits the
            data set.
        augmentation: of training pictures. crop_flip: the recipe's random crop and flip alone (the paper's linear
            evaluation and fine-tuning, B.5 and B.6). simclr: the whole recipe. none: clean pictures, which a frozen
            encoder needs to see only once.
        probe: folder of labelled pictures, in class folders, to train on instead of those of ``root``.
        val_fraction: share of the labelled pictures that is set aside for validation, the same from every class.
        label_fraction: share of the labels that may be used, class-balanced: 0.01 and 0.1 in the paper.
        label_list: text file that names the pictures whose labels may be used, one a line, with or without folders in
            front: the official 1 % and 10 % of ImageNet. Instead of ``label_fraction``, for the data set folder.
        options: all other arguments of :class:`PictureDataModule`.

    Raises:
        InputError: if an argument is out of range or a name unknown.

    Example:
        >>> data = LabelledDataModule("digits", batch_size=128, label_fraction=0.1)
        >>> data.setup("fit")
        >>> batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        >>> data.num_pictures, tuple(batch.images.shape), batch.views
        (143, (128, 1, 16, 16), ())
    """

    def __init__(
        self,
        dataset: str | Callable[..., Any] | Source | Stream | None = None,
        root: str | Path | list[str] = "",
        batch_size: int = 256,
        views: ViewRecipe | str | list[ViewRecipe] | None = None,
        augmentation: Augmentation = "crop_flip",
        probe: str | Path | None = None,
        val_fraction: float = 0.0,
        label_fraction: float = 1.0,
        label_list: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            dataset=dataset,
            root=root,
            batch_size=batch_size,
            views=views,
            probe=probe,
            val_fraction=val_fraction,
            label_fraction=label_fraction,
            **options,
        )
        if self.pairs is not None:
            raise InputError(
                f"pairs is {self.pairs!r}, and a classifier sees one picture at a time: leave it out", "data.pairs null"
            )
        if augmentation not in get_args(Augmentation):
            raise InputError(
                f"augmentation is {augmentation!r}: choose {', '.join(get_args(Augmentation))}", "data.augmentation"
            )
        if label_list is not None and (label_fraction != 1 or probe is not None):
            raise InputError(
                "label_list names the pictures of root whose labels may be used: leave label_fraction and probe out."
            )
        self.augmentation = augmentation
        self.label_list = None if label_list is None else str(label_list)
        self.save_hyperparameters({"label_list": self.label_list})  # a primitive
        self._augmented = _augmenting(self.recipe, augmentation)
        self.engine = ViewEngine(self._augmented, self.seed)
        self._features: dict[Literal["train", "val"], FeatureBatch] = {}

    @classmethod
    def of(
        cls,
        data: PictureDataModule,
        positions: Tensor,
        *,
        batch_size: int,
        seed: int,
        test: Split | None,
        augmentation: Augmentation = "crop_flip",
    ) -> Self:
        """Serve pictures that another data module has read.

        Args:
            data: is set up.
            positions: (n,) int64, which of its labelled training pictures to train on, as places among them.
            batch_size: pictures of a step of all processes.
            seed: of the augmentation and the order.
            test: the pictures that ``test_dataloader`` serves, None for none.
            augmentation: of training pictures.

        Raises:
            InputError: if nothing is labelled.

        Example:
            >>> from simclr_lightning.data import SimCLRDataModule
            >>> pictures = SimCLRDataModule("digits")
            >>> pictures.setup("fit")
            >>> own = LabelledDataModule.of(pictures, torch.arange(50), batch_size=25, seed=1, test=None)
            >>> own.num_pictures, own.splits.train.pictures is pictures.splits.train.pictures
            (50, True)
        """
        own = cls(
            data.source,
            batch_size=batch_size,
            views=data.recipe,
            augmentation=augmentation,
            on_device=data.on_device,
            scaled_decoding=data.scaled_decoding,
            on_bad_picture=data.on_bad_picture,
            num_workers=data.num_workers,
            pin_memory=data.pin_memory,
            prefetch_factor=data.prefetch_factor,
            persistent_workers=data.persistent_workers,
            chunk_window=data.chunk_window,
            seed=seed,
        )
        own.judged_by, own.reading = data.judged_by, data.reading
        own.save_hyperparameters({"dataset": data.hparams.get("dataset"), "metric": data.judged_by})
        pictures, labelled = labelled_part(data.splits)
        own.use_scaling(data.scaling)
        own._splits = data.splits._replace(labelled=Split(pictures, labelled[positions]), test=test)
        return own

    @property
    def num_pictures(self) -> int:
        """Number of labelled training pictures."""
        return len(labelled_part(self.splits).positions)

    def setup(self, stage: str | None = None) -> None:
        """Find, load, split and label the pictures; a second call does nothing.

        Raises:
            InputError: if nothing is labelled, or ``label_list`` does not fit the pictures.
        """
        super().setup(stage)
        if not self.num_pictures:
            raise InputError(
                f"None of the training pictures may be learned from: those that {self.label_list!r} names are "
                "unlabelled, or set aside for validation",
                "data.val_fraction",
            )

    def train_dataloader(self) -> PictureLoader[Any]:
        """Labelled pictures in a new order each epoch; those that do not fill a batch are left out.

        Raises:
            InputError: if the batch size does not fit the processes, there is less than a picture for each of them, or
                the augmentation does not fit the channels of the pictures.
        """
        processes = distributed.world_size() if self.trainer is None else self.trainer.world_size
        batch_size = self.batch_size
        if self.num_pictures < batch_size:
            batch_size = self.num_pictures // processes * processes
            if not batch_size:
                raise InputError(
                    f"{self.num_pictures} labelled picture(s) cannot be shared by {processes} processes: use fewer "
                    "devices (--trainer.devices 1), or more labels."
                )
            rank_zero_info(
                f"There are {self.num_pictures} labelled training pictures, fewer than batch_size "
                f"({self.batch_size}): {batch_size} of them make a batch."
            )
        check_channels(self._augmented, self.in_channels)
        return self._loader(self._learned(), training=True, batch_size=batch_size, part=labelled_part(self.splits))

    def val_dataloader(self) -> PictureLoader[Any] | list[Any]:
        """Clean pictures with labels, in their order; [] without validation pictures."""
        if "val" in self._features:
            return self._loader(FeatureDataset(self._features["val"]))
        return [] if self.splits.val is None else self.clean_dataloader("val")

    def test_dataloader(self) -> PictureLoader[Any]:
        """Clean pictures with labels, in their order, as ``clean_dataloader("test")``."""
        return self.clean_dataloader("test")

    def serve_features(self, train: FeatureBatch, val: FeatureBatch | None = None) -> None:
        """From now on ``train_dataloader`` and ``val_dataloader`` serve these features instead of pictures.

        They must be those that a frozen encoder gives for what ``clean_dataloader`` serves, in its order, which makes
        sense without augmentation only. Order and batches stay what they are with pictures.

        Args:
            train: features (N, F) of all labelled training pictures, on the CPU.
            val: features of the validation pictures; None: the pictures are served.

        Raises:
            InputError: if there is an augmentation, or the number of features is not that of the pictures.
        """
        if self.augmentation != "none":
            raise InputError(
                f"augmentation is {self.augmentation}: the pictures change from epoch to epoch, and so do their "
                "features",
                "data.augmentation none",
            )
        served: dict[Literal["train", "val"], FeatureBatch] = {"train": train}
        if val is not None:
            served["val"] = val
        for split, features in served.items():
            expected = len(self._part(split).positions)
            if len(features.targets) != expected:
                raise InputError(f"There are {expected} {split} pictures, but features of {len(features.targets)}.")
        # Where another took the place of a picture that cannot be read, it is learned from under its own label.
        own = labelled_part(self.splits).pictures.targets[train.indices]
        self._features = {**served, "train": train._replace(targets=own.where(train.targets < 0, train.targets))}

    def serve_pictures(self) -> None:
        """Serve pictures again, and forget the features."""
        self._features = {}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As :meth:`PictureDataModule.on_after_batch_transfer`; the one view that is trained on becomes the picture."""
        ready = super().on_after_batch_transfer(batch, dataloader_idx)
        if isinstance(ready, ViewBatch) and ready is not batch and ready.views:
            return ready._replace(views=(), images=ready.views[0][0])
        return ready

    def arrange(self, sets: PictureSets) -> Splits:
        """See :meth:`PictureDataModule.arrange`; ``label_list`` hides all other labels."""
        splits = super().arrange(sets)
        if self.label_list is None or splits.labelled is None:
            return splits
        pictures, positions = splits.labelled
        listed = listed_positions(sets.train, self.label_list)  # the files, which a cache does not remember
        labelled = Split(pictures, positions[torch.isin(positions, listed)])
        return splits._replace(labelled=labelled, train=hide_other_labels(splits.train, labelled.positions))

    def _learned(self) -> BatchDataset | FeatureDataset:
        if "train" in self._features:
            return FeatureDataset(self._features["train"])
        part, random = labelled_part(self.splits), self.augmentation != "none"
        return self._served(part, random=random, training=True, recipes=[self._augmented])


def _augmenting(recipe: ViewRecipe, augmentation: Augmentation) -> ViewRecipe:
    """What is done to training pictures; the crop's and the flip's random numbers are the recipe's in any case."""
    if augmentation == "simclr":
        return replace(recipe, count=1)
    return replace(recipe, rotation=0.0, jitter=0.0, grey=0.0, blur=0.0, noise=0.0, count=1)
