"""``SimCLRDataModule``: pictures in, pairs of views out, for any data set and any number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning import distributed
from simclr_lightning.data.datasets import Metric, PictureSets, find
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.loaders import PictureLoader, make_loader, warn_of_workers
from simclr_lightning.data.loading import BatchDataset, CleanBatch, EvaluationBatch, TrainingBatch
from simclr_lightning.data.sampler import GlobalBatchSampler
from simclr_lightning.data.splits import Split, Splits, arrange
from simclr_lightning.views import BatchedViews, ImageBatch, ViewBatch, ViewRecipe, clean
from simclr_lightning.views.batched import check_channels

VALIDATION_EPOCH = 1 << 30
"""The epoch that validation views are drawn for: no training run gets there, and it is the same each time."""


class SimCLRDataModule(LightningDataModule):
    """Loads pictures and turns them into the pairs of views that ``SimCLR`` trains on.

    The default is pre-training without labels. Labels, where a data set has them, are used to judge the features only:
    class folders, a data set's own labels, or a separate labelled folder (``probe``). Validation is watched, nothing is
    chosen by it; its pictures are the data set's own for validation, or for test, unless ``val_fraction`` sets others
    aside.

    The views of a picture depend on (seed, epoch, position of the picture) alone: not on the number of processes or
    workers, nor on where a run was resumed. Pictures of equal size are cropped on the device; files, and other pictures
    whose sizes may differ, in the loader's workers. Pictures smaller than a view are enlarged.

    Args:
        dataset: digits (embedded), cifar10, cifar100, stl10, svhn, fashion_mnist (downloaded), the paper's other
            transfer sets (food101, sun397, cars, aircraft, voc2007, dtd, pets, caltech101, flowers, birdsnap), folder
            (any tree of pictures under ``root``: ``train`` with ``val`` or ``test`` beside it are recognised, and class
            folders are labels), or a callable, or its import path, that returns a map-style data set of PIL pictures or
            uint8 tensors (C, H, W), alone or in pairs with an integer label. A callable is given those of the arguments
            ``root``, ``download`` and ``train`` that it has; ``train=False`` is for validation and test.
        root: folder of the data.
        batch_size: pictures of one step over all processes, each of which loads its share. Learning rate, negatives and
            number of steps are then the same on 1 device and on 64.
        views: the augmentations: a recipe, or the name of a preset. None: the preset that fits the data set.
        probe: folder of labelled pictures, in class folders, to judge the features of unlabelled ones with. They are
            not trained on. Its ``val`` and ``test`` folders serve where ``root`` has none.
        val_fraction: share of the labelled pictures (those of ``probe`` if it is given, otherwise of the training
            pictures) that is set aside for validation, the same from every class.
        label_fraction: share of the labels that may be used, class-balanced. Pre-training sees all pictures.
        cache: decode all pictures once into the memory of each process; they must be of equal size.
        on_bad_picture: what to do about a picture that cannot be read. raise: stop with its name. skip: warn once with
            its name and take the next good picture.
        download: fetch the data set if it is not under ``root``.
        num_workers: processes that load pictures, for each training process. None: none for pictures in memory,
            otherwise one per core that is left beside the training process, at most 8.
        pin_memory: page-locked batches, which accelerators copy faster. None: wherever there is an accelerator.
        prefetch_factor: batches that each worker has ready. None: PyTorch's default, 2.
        persistent_workers: keep the workers from epoch to epoch. None: yes.
        seed: of the views, the order and the subsets; at least 0.

    Raises:
        ValueError: if an argument is out of range or a name unknown.
    """

    def __init__(
        self,
        dataset: str | Callable[..., Any] = "digits",
        root: str | Path = "data",
        batch_size: int = 256,
        views: ViewRecipe | str | None = None,
        probe: str | Path | None = None,
        val_fraction: float = 0.0,
        label_fraction: float = 1.0,
        cache: bool = False,
        on_bad_picture: Literal["raise", "skip"] = "raise",
        download: bool = True,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: a batch holds at least one picture (--data.batch_size 256).")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}: choose 0 (no workers) or more (--data.num_workers).")
        if not 0 <= val_fraction < 1:
            raise ValueError(
                f"val_fraction is {val_fraction}: choose 0 (off) or a number below 1 (--data.val_fraction)."
            )
        if not 0 < label_fraction <= 1:
            raise ValueError(
                f"label_fraction is {label_fraction}: choose a number above 0, 1 for all (--data.label_fraction)."
            )
        if on_bad_picture not in ("raise", "skip"):
            raise ValueError(f"on_bad_picture is {on_bad_picture!r}: choose raise or skip (--data.on_bad_picture).")
        if seed < 0:
            raise ValueError(f"seed is {seed}: choose 0 or more (--data.seed).")
        self.batch_size = batch_size
        self.download = download
        self.seed = seed
        self._source = find(dataset)
        self.recipe = _recipe(views, dataset, self._source.recipe)
        """The resolved recipe of the views."""
        self._root = str(root)
        self._arrange = partial(
            arrange,
            probe=None if probe is None else str(probe),
            val_fraction=val_fraction,
            label_fraction=label_fraction,
            cache=cache,
            on_bad_picture=on_bad_picture,
            seed=seed,
        )
        self._splits: Splits | None = None
        self._sampler: GlobalBatchSampler | None = None
        self._views = BatchedViews(self.recipe, seed)
        self.on_bad_picture = on_bad_picture
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.prefetch_factor = prefetch_factor
        self.persistent_workers = persistent_workers

        self.save_hyperparameters()
        # Checkpoints hold primitives only, so that they load with weights_only=True.
        primitives = {
            "dataset": dataset if isinstance(dataset, str) else _import_path(dataset),
            "root": str(root),
            "probe": None if probe is None else str(probe),
            "views": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.recipe).items()},
        }
        self.save_hyperparameters({key: value for key, value in primitives.items() if key in self.hparams})

    @property
    def splits(self) -> Splits:
        """Which pictures are for what; known after ``setup``."""
        if self._splits is None:
            raise RuntimeError("The data is not there yet: call prepare_data() and setup('fit') first.")
        return self._splits

    @property
    def num_pictures(self) -> int:
        """Number of training pictures."""
        return len(self.splits.train.positions)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, None where nothing is labelled."""
        return self.splits.num_classes

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, None where they have none."""
        return self.splits.class_names

    @property
    def metric(self) -> Metric:
        """By what classifiers of the pictures are judged: top1, mean_per_class, or map11 (VOC2007)."""
        return self._source.metric

    @property
    def in_channels(self) -> int:
        """Channels of the pictures; to know those of a callable's pictures, it is called."""
        if self._source.in_channels is None:
            self.setup()
        return self._source.in_channels or self.splits.train.pictures.in_channels

    def prepare_data(self) -> None:
        """Download the data set; Lightning calls it on one process per node."""
        if self.download and self._source.downloads and self._splits is None:
            self._source.load(self._root, True)

    def setup(self, stage: str | None = None) -> None:
        """Find, load, split and label the pictures; a second call does nothing."""
        if self._splits is None:
            self._splits = self._assign(self._source.load(self._root, False))
        warn_of_workers(self.num_workers or 0, self._devices())

    def train_dataloader(self) -> PictureLoader:
        """Training pictures in a new order each epoch; the pictures that do not fill a batch are left out.

        Raises:
            ValueError: if the batch size does not fit the pictures, the processes or contrastive learning, or the
                recipe does not fit the channels of the pictures.
        """
        if self.num_pictures < 2 or self.batch_size < 2:
            raise ValueError(
                f"There are {self.num_pictures} training picture(s) in batches of {self.batch_size}. A picture is "
                "contrasted with others: it takes two at least, and several hundred for useful features "
                "(--data.batch_size)."
            )
        if self.batch_size > self.num_pictures:
            raise ValueError(
                f"batch_size is {self.batch_size}, but there are {self.num_pictures} training pictures: choose at most "
                f"as many (--data.batch_size {self.num_pictures})."
            )
        check_channels(self.recipe, self.in_channels)
        loader = self._loader(self.splits.train, TrainingBatch, training=True)
        self._sampler = cast("GlobalBatchSampler", loader.sampler)
        return loader

    def val_dataloader(self) -> PictureLoader | list[PictureLoader]:
        """Clean pictures, labels and two views, which are the same each time; [] without validation pictures."""
        if self.splits.val is None:
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")  # as it should be
            return []
        return self._loader(self.splits.val, EvaluationBatch)

    def test_dataloader(self) -> PictureLoader:
        """As :meth:`val_dataloader`, of the test pictures.

        Raises:
            ValueError: if there are none.
        """
        return self._loader(self._part("test"), EvaluationBatch)

    def predict_dataloader(self) -> PictureLoader:
        """All training pictures, clean and in their order."""
        return self._loader(self.splits.train, CleanBatch)

    def clean_dataloader(self, split: Literal["train", "val", "test"]) -> PictureLoader:
        """Clean pictures with labels, in their order, for the evaluation of features.

        Args:
            split: val, test, or train: the labelled pictures that ``label_fraction`` leaves, which are those of
                ``probe`` if it is given, otherwise training pictures (all of them if nothing is labelled).

        Raises:
            ValueError: if there are no such pictures.
        """
        return self._loader(self._part(split), CleanBatch)

    def probe_dataloader(self) -> PictureLoader | None:
        """Labelled clean pictures in a new order each epoch (``loader.sampler.set_epoch``), for an online probe.

        Returns:
            None where all training pictures carry labels, so that a probe can learn from the training batches, or
            nothing is labelled.
        """
        train, labelled = self.splits.train, self.splits.labelled
        if labelled is None or bool((train.pictures.targets[train.positions] >= 0).all()):
            return None
        return self._loader(labelled, CleanBatch, shuffle=True)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Send the pictures; the indices stay behind, because the views are drawn from them on the CPU."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved._replace(indices=batch.indices) if isinstance(batch, ImageBatch) else moved

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn the bytes of an ``ImageBatch`` into a ``ViewBatch`` on its device; other batches pass through.

        Training batches get views only, batches of ``val_dataloader`` and ``test_dataloader`` views and clean
        pictures, and those of all other loaders clean pictures and ``views`` of shape (2, 0, C, size, size).
        """
        if not isinstance(batch, ImageBatch):
            return batch
        images = None
        if isinstance(batch, (EvaluationBatch, CleanBatch)) and batch.images is not None:
            images = clean(batch.images, self.recipe)
        if isinstance(batch, CleanBatch) and images is not None:
            views = images.new_empty(2, 0, *images.shape[1:])
        else:
            views = self._views(batch, epoch=VALIDATION_EPOCH if isinstance(batch, EvaluationBatch) else self._epoch())
        return self._finished(batch, views, images)

    def _assign(self, sets: PictureSets) -> Splits:
        """Which pictures are for what."""
        return self._arrange(sets)

    def _finished(self, batch: ImageBatch, views: Tensor, images: Tensor | None) -> ViewBatch:
        """What a step is given, in the Trainer's precision."""
        ready = ViewBatch(views, batch.targets, batch.indices.to(views.device, non_blocking=True), images)
        if self.trainer is None:
            return ready
        return cast("ViewBatch", self.trainer.precision_plugin.convert_input(ready))

    def _part(self, split: Literal["train", "val", "test"]) -> Split:
        part = {
            "train": self.splits.labelled or self.splits.train,
            "val": self.splits.val,
            "test": self.splits.test,
        }[split]
        if part is None:
            raise ValueError(
                f"There are no {split} pictures: a folder has them in a subfolder {split} beside train; val_fraction "
                "sets some aside for validation (--data.val_fraction 0.1)."
            )
        return part

    def _loader(
        self, split: Split, kind: type[ImageBatch], *, training: bool = False, shuffle: bool = False
    ) -> PictureLoader:
        data = BatchDataset(*split, kind, self.recipe, seed=self.seed, on_bad_picture=self.on_bad_picture)
        epoch = VALIDATION_EPOCH if kind is EvaluationBatch else 0
        return self._loader_of(data, self.batch_size, training=training, shuffle=training or shuffle, epoch=epoch)

    def _loader_of(
        self, data: BatchDataset | FeatureDataset, batch_size: int, *, training: bool, shuffle: bool, epoch: int = 0
    ) -> PictureLoader:
        processes, rank = distributed.world_size(), distributed.rank()
        if self.trainer is not None:
            processes, rank = self.trainer.world_size, self.trainer.global_rank
        if batch_size % processes:
            lower = max(1, batch_size // processes) * processes
            raise ValueError(
                f"batch_size is {batch_size}, the pictures of one step over all processes, and cannot be shared "
                f"equally by {processes} of them: choose {lower} or {lower + processes} (--data.batch_size)."
            )
        sampler = GlobalBatchSampler(
            data,
            batch_size,
            num_replicas=processes,
            rank=rank,
            shuffle=shuffle,
            drop_last=training,
            seed=self.seed,
            epoch=epoch,
        )
        pin_memory = self.pin_memory
        if pin_memory is None:
            pin_memory = self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"
        return make_loader(
            data,
            sampler,
            resumable=training,
            num_workers=self.num_workers,
            devices=self._devices(),
            pin_memory=pin_memory,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
        )

    def _epoch(self) -> int:
        if self.trainer is not None:
            # What Lightning tells the sampler; trainer.current_epoch lags behind it in a resumed run with max_steps.
            processed: int = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            return processed
        return 0 if self._sampler is None else self._sampler.epoch

    def _devices(self) -> int:
        return self.trainer.num_devices if self.trainer is not None else 1


def _recipe(views: ViewRecipe | str | dict[str, Any] | None, dataset: object, own: ViewRecipe) -> ViewRecipe:
    if views is None:
        return own
    if isinstance(views, str):
        return ViewRecipe(views)
    recipe = ViewRecipe(**views) if isinstance(views, dict) else views  # a checkpoint holds a dictionary
    if recipe.preset == "imagenet" != own.preset:
        rank_zero_warn(
            f"The views of {dataset} are based on imagenet, the default preset of a recipe; the preset for this data "
            f"set is {own.preset}: type --data.views.preset {own.preset}."
        )
    return recipe


def _import_path(dataset: Callable[..., Any]) -> str:
    return f"{getattr(dataset, '__module__', '')}.{getattr(dataset, '__qualname__', type(dataset).__name__)}"
