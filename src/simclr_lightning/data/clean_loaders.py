"""``CleanLoaders``: the loaders that all our data modules make, of the parts of a data set."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning.pytorch import LightningDataModule

from simclr_lightning.checkpoints import read_checkpoint
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.loaders import PictureLoader, make_loader, process_of
from simclr_lightning.data.order import Order, uniform_order
from simclr_lightning.data.packed import order_of
from simclr_lightning.data.pairs import PictureGroups
from simclr_lightning.data.resident import ResidentPictures
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.data.sources import check_imported
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.data.stream import Stream
from simclr_lightning.data.value_range import Scaling
from simclr_lightning.errors import InputError
from simclr_lightning.views import VALIDATION_EPOCH, ViewRecipe


class CleanLoaders(LightningDataModule):
    """What :class:`PictureDataModule` stands on: loaders of clean pictures, and the making of any of its loaders.

    Attributes:
        recipes: of the views.
        stream: the training pictures where they have no length, otherwise None.
        batch_size, seed, on_bad_picture, scaled_decoding, num_workers, pin_memory, prefetch_factor, persistent_workers,
        on_device, chunk_window: as :class:`PictureDataModule` takes them.
        scaling: what counts as black and as white.
    """

    recipes: tuple[ViewRecipe, ...]
    stream: Stream | None
    batch_size: int
    seed: int
    on_bad_picture: Literal["raise", "skip"]
    scaled_decoding: bool
    num_workers: int | None
    pin_memory: bool | None
    prefetch_factor: int | None
    persistent_workers: bool | None
    on_device: bool | None
    chunk_window: int | None
    scaling: Scaling
    _resident: ResidentPictures

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is no classmethod to a type checker
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Build the data module that a checkpoint describes; a data set of one's own must have been imported.

        Args:
            checkpoint_path: of the file, or its address.
            map_location: has no effect: there are no tensors.
            hparams_file: has no effect: name the arguments.
            weights_only: has no effect: nothing but tensors and plain values is ever read.
            kwargs: arguments, instead of those in the checkpoint.

        Raises:
            MissingFileError: if there is no such file.
            InputError: if it cannot be read, or names a data set that would have to be imported.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from simclr_lightning import SimCLRDataModule
            >>> content = {"datamodule_hyper_parameters": dict(SimCLRDataModule("digits", batch_size=32).hparams)}
            >>> with TemporaryDirectory() as folder:
            ...     torch.save(content, f"{folder}/last.ckpt")
            ...     SimCLRDataModule.load_from_checkpoint(f"{folder}/last.ckpt").batch_size
            32
        """
        told = read_checkpoint(checkpoint_path).data
        if "dataset" not in kwargs:
            check_imported(told.get("dataset"), checkpoint_path)
        parameters = inspect.signature(cls).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        known = {name: value for name, value in told.items() if not name.startswith("_")}
        return cls(**{name: value for name, value in known.items() if takes_all or name in parameters} | kwargs)

    @property
    def splits(self) -> Splits:
        """Which pictures are for what."""
        raise NotImplementedError

    def training_order(self, part: Split) -> Order:
        """In what order an epoch of training goes through its pictures; override it for a sampling of one's own.

        An :class:`Order` is a function of the number of pictures, the seed and the epoch. How it is shared by several
        processes, and where a resumed run is in it, need not be its care.

        Args:
            part: the pictures, and which of them are trained on: place k of the order is ``part.positions[k]``.

        Example:
            >>> import numpy as np
            >>> from simclr_lightning import SimCLRDataModule
            >>> class Balanced(SimCLRDataModule):
            ...     def training_order(self, part):
            ...         targets, size = part.pictures.targets[part.positions], self.batch_size
            ...         share = (1 / targets.bincount()[targets].double()).numpy()  # a class counts as much as another
            ...
            ...         def order(pictures, seed, epoch):
            ...             rng, batches = np.random.default_rng((seed, epoch)), range(pictures // size)
            ...             draws = [rng.choice(pictures, size, replace=False, p=share / share.sum()) for _ in batches]
            ...             return np.concatenate(draws)
            ...
            ...         return order
            >>> data = Balanced("digits", batch_size=128)
            >>> data.setup("fit")
            >>> len(next(iter(data.train_dataloader())).indices.unique())
            128
        """
        return order_of(*part, self.chunk_window)

    def predict_dataloader(self) -> PictureLoader[Any]:
        """All training pictures, clean and in their order."""
        if self.stream is not None:
            raise InputError("A stream has no end, so nothing is predicted on it: use simclr embed on a folder.")
        return self._loader(self._served(self.splits.train, random=False))

    def clean_dataloader(self, split: Literal["train", "val", "test"]) -> PictureLoader[Any]:
        """Clean pictures with labels, in their order, for the evaluation of features.

        Args:
            split: val, test, or train: the labelled pictures that ``label_fraction`` leaves, which are those of
                ``probe`` if it is given, otherwise training pictures (all of them if nothing is labelled).

        Raises:
            InputError: if there are no such pictures.
        """
        return self._loader(self._served(self._part(split), random=False))

    def sample_dataloader(
        self, split: Literal["train", "val", "test"], pictures: int, *, views: bool = False
    ) -> PictureLoader[Any] | None:
        """A sample of the pictures of a split, in their order, which are the same each time.

        Args:
            split: as for :meth:`clean_dataloader`.
            pictures: at most; drawn by the seed.
            views: whether two or more random views come beside the clean pictures, the same each time.

        Returns:
            None where there are no such pictures, as in a stream.
        """
        part = {"train": self.splits.labelled or self.splits.train, "val": self.splits.val, "test": self.splits.test}
        found = part[split]
        if found is None or not len(found.positions):
            return None
        chosen = torch.randperm(len(found.positions), generator=torch.Generator().manual_seed(self.seed))[:pictures]
        return self._loader(self._served(Split(found.pictures, found.positions[chosen.sort().values]), random=views))

    def _part(self, split: Literal["train", "val", "test"]) -> Split:
        splits = self.splits
        part = {"train": splits.labelled or splits.train, "val": splits.val, "test": splits.test}[split]
        if part is None or not len(part.positions):
            raise InputError(
                f"There are no {split} pictures: a folder has them in a subfolder {split} beside train; val_fraction "
                "sets some aside for validation",
                "data.val_fraction 0.1",
            )
        return part

    def _served(
        self,
        part: Split,
        *,
        random: bool,
        training: bool = False,
        recipes: Sequence[ViewRecipe] | None = None,
        groups: PictureGroups | None = None,
    ) -> BatchDataset:
        return BatchDataset(
            *part,
            recipes or self.recipes,
            random=random,
            training=training,
            seed=self.seed,
            on_bad_picture=self.on_bad_picture,
            scaled=self.scaled_decoding,
            groups=groups,
            scale=self.scaling.range,
        )

    def _loader(
        self,
        data: BatchDataset | FeatureDataset,
        *,
        training: bool = False,
        shuffle: bool = False,
        batch_size: int | None = None,
        part: Split | None = None,
    ) -> PictureLoader[Any]:
        """Loader of pictures, or of the features of a part."""
        batch_size = batch_size or self.batch_size
        rank, processes = process_of(self.trainer, batch_size)
        if part is None and isinstance(data, BatchDataset):
            part = Split(data.pictures, data.positions)
        order: Order = uniform_order
        if part is not None and training:
            order = self.training_order(part)
        elif part is not None and shuffle:
            order = order_of(*part, self.chunk_window, training=False)
        sampler = GlobalBatchSampler(
            data,
            batch_size,
            num_replicas=processes,
            rank=rank,
            shuffle=shuffle or training,
            drop_last=training,
            seed=self.seed,
            epoch=0 if shuffle or training else VALIDATION_EPOCH,
            order=order,
        )
        return make_loader(
            data,
            sampler,
            resumable=training,
            num_workers=self.num_workers,
            devices=self._devices(),
            pin_memory=self._pin_memory(),
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
            resident=self._resident.keep(data, self._device(), asked=self.on_device),
        )

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _pin_memory(self) -> bool:
        return self._device().type != "cpu" if self.pin_memory is None else self.pin_memory

    def _devices(self) -> int:
        return self.trainer.num_devices if self.trainer is not None else 1
