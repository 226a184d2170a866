"""``PictureDataModule``: pictures in, batches of views out, for any data set and any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.chosen import choose_source
from simclr_lightning.data.contents import summarised
from simclr_lightning.data.loaders import shared_evenly
from simclr_lightning.data.pairs import PictureGroups, read_groups
from simclr_lightning.data.pictures import PictureSets
from simclr_lightning.data.recipes import plain_recipes, resolved_recipes
from simclr_lightning.data.resident import ResidentBatch, ResidentPictures
from simclr_lightning.data.sources import Metric, Source
from simclr_lightning.data.splits import Splits, arrange, arrange_beside_stream
from simclr_lightning.data.stream import Stream
from simclr_lightning.data.suit import suit
from simclr_lightning.data.value_range import Scaling, check_scale, tell
from simclr_lightning.data.value_scaling import ValueScaling
from simclr_lightning.data.walk import Findings
from simclr_lightning.data.worker_processes import MOST, warn_of_workers
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, clean


class PictureDataModule(ValueScaling):
    """Finds pictures, and turns the batches of its loaders into views: the part that all our data modules share.

    The views of a picture depend on (seed, epoch, position of the picture) alone: not on the number of processes or
    workers, nor on where a run was resumed. Pictures of equal size are cropped on the device; files, and other pictures
    whose sizes may differ, in the loader's workers. Pictures smaller than a view are enlarged.

    Args:
        dataset: digits (embedded), cifar10, cifar100, stl10, svhn, fashion_mnist (downloaded), the paper's other
            transfer sets (food101, sun397, cars, aircraft, voc2007, dtd, pets, caltech101, flowers, birdsnap), folder
            (any tree of pictures under ``root``: folders are splits if they are named so, as Training and Testing are,
            and classes below), packed (what ``simclr pack`` makes of one), hf:NAME or hf:FOLDER (a data set of Hugging
            Face, with the extra hf; columns that are not found are named: 'hf:NAME?image=COLUMN&label=COLUMN'), what
            ``register_source`` has given a name, or a callable, or its import path, that returns a map-style or an
            iterable data set of PIL pictures or tensors (C, H, W), alone or in pairs with a label. A callable is
            given those of the arguments ``root``, ``download`` and ``train`` that it has; ``train=False`` is for
            validation and test. A ``Source`` or a ``Stream`` will do as well. None: packed or folder, as
            it is, where ``root`` or ``labels`` is given, otherwise digits.
        root: folder of the data, by default ``data``; of the data set folder also several, [a, b].
        batch_size: pictures of one step over all processes, each of which loads its share. Learning rate, negatives and
            number of steps are then the same on 1 device and on 64.
        views: the augmentations: a recipe, the name of a preset, or a list of recipes, whose views are counted on from
            one to the next; clean pictures are those of the first. None: the preset that fits the data set.
        pairs: CSV file with the columns file (or index, where pictures are no files) and group: training pictures of
            one patient, place or burst. All views but the first are of another picture of the group, where there is
            one, and no two pictures of a group are contrasted. For pre-training.
        probe: folder of labelled pictures, in class folders, to judge the features of unlabelled ones with. They are
            not trained on. Its ``val`` and ``test`` folders serve where ``root`` has none.
        val_fraction: share of the labelled pictures (those of ``probe`` if it is given, otherwise of the training
            pictures) that is set aside for validation, the same from every class; of ``pairs``, share of the groups.
        label_fraction: share of the labels that may be used, class-balanced. Pre-training sees all pictures.
        cache: decode all pictures once into the memory of each process; they must be of equal size.
        on_device: keep cached pictures on the accelerator. None: where they take an eighth of its free memory at most.
        scaled_decoding: decode JPEG files at 1/2, 1/4 or 1/8 of their size where every random crop is so much larger
            than its view. Photos of megapixels load about twice as fast; training views differ by a level or so of 255.
        scale: what counts as black and as white, one range for the whole data set. dtype: the range of the pictures'
            type. Two numbers, [low, high], or [[low, ...], [high, ...]] of every band. percentile, or
            percentile_per_band: from the 0.5th to the 99.5th of 256 training pictures, which the seed chooses. None:
            bytes by their range; others, too, where the values in use cover half of it, otherwise by percentile.
        on_bad_picture: what to do about a picture that cannot be read. raise: stop with its name. skip: warn with its
            name and list it in the run's folder (unreadable.txt); in training the next good one takes its place, and
            where pictures are judged it does not count.
        max_bad_share: share of the pictures seen that skip may leave out; with more, the run stops: rather the folder
            is missing. One picture may always be left out.
        max_megapixels: larger pictures count as unreadable, and are not decoded: a damaged header may claim any size.
            None: 179, where Pillow takes them for bombs.
        download: fetch the data set if it is not under ``root``.
        num_workers: processes that load pictures, for each training process. None: none for pictures in memory, one for
            a stream, otherwise one per core that is left beside the training process, up to 32 if /dev/shm has room.
        pin_memory: page-locked batches, which accelerators copy faster. None: wherever there is an accelerator.
        prefetch_factor: batches that each worker has ready. None: PyTorch's default, 2.
        persistent_workers: keep the workers from epoch to epoch. None: yes.
        chunk_window: pictures of the data set packed: chunks that a batch is drawn from. None: 16.
        seed: of the views, the order and the subsets; at least 0. None: 0, or ``--seed_everything`` of the command.
        labels: CSV or parquet with columns file, label and, perhaps, split, for the data set folder, whose class
            folders then do not count. Pictures that it does not name are unlabelled.
        metric: by what classifiers are judged: top1, or mean_per_class, the balanced accuracy, for classes of different
            sizes. None: top1, but for transfer the data set's own.

    Attributes:
        source: the data set.
        recipes: of the views, all of them.
        recipe: the first of them, of which clean pictures are.
        engine: draws the views of an ``ImageBatch``: ``ViewEngine(recipes, seed)``, or a callable that takes its place.
        groups: training pictures that belong together, None without ``pairs``; known after ``setup``.
        reading: how files are read, and where unreadable ones are listed.
        stream: the training pictures where they have no length, otherwise None; known after ``setup``.
        judged_by: the metric that was asked for, None for none.
        findings: what was left out of a folder, and why; None for other data sets; known after ``setup``.

    Raises:
        InputError: if an argument is out of range or a name unknown.

    Example:
        >>> data = PictureDataModule("digits", batch_size=100)
        >>> data.setup()
        >>> batch = data.on_after_batch_transfer(next(iter(data.clean_dataloader("test"))), 0)
        >>> batch.images.shape, batch.views, data.num_classes
        (torch.Size([100, 1, 16, 16]), (), 10)
    """

    def __init__(
        self,
        dataset: str | Callable[..., Any] | Source | Stream | None = None,
        root: str | Path | list[str] = "",
        batch_size: int = 256,
        views: ViewRecipe | str | list[ViewRecipe] | None = None,
        pairs: str | Path | None = None,
        probe: str | Path | None = None,
        val_fraction: float = 0.0,
        label_fraction: float = 1.0,
        cache: bool = False,
        on_device: bool | None = None,
        scaled_decoding: bool = False,
        scale: Literal["dtype", "percentile", "percentile_per_band"] | list[float] | list[list[float]] | None = None,
        on_bad_picture: Literal["raise", "skip"] = "raise",
        max_bad_share: float = 0.1,
        max_megapixels: float | None = None,
        download: bool = True,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool | None = None,
        chunk_window: int | None = None,
        seed: int | None = None,
        labels: str | Path | None = None,
        metric: Literal["top1", "mean_per_class"] | None = None,
    ) -> None:
        super().__init__()
        seed = 0 if seed is None else seed
        _check(batch_size >= 1, "batch_size", batch_size, "a batch holds at least one picture, 256 by default")
        check_number("num_workers", num_workers, "data.num_workers 4", least=0, most=MOST)
        check_number("prefetch_factor", prefetch_factor, "data.prefetch_factor 2", least=1, most=MOST)
        _check(0 <= val_fraction < 1, "val_fraction", val_fraction, "choose 0 (off) or a number below 1")
        _check(0 < label_fraction <= 1, "label_fraction", label_fraction, "choose a number above 0, 1 for all")
        _check(on_bad_picture in ("raise", "skip"), "on_bad_picture", on_bad_picture, "choose raise or skip")
        self.reading = Reading(max_megapixels, max_bad_share)
        check_number("chunk_window", chunk_window, "data.chunk_window 16", least=1)
        check_scale(scale)
        check_number("seed", seed, "data.seed 0", least=0, below=2**32)
        _check(metric in (None, "top1", "mean_per_class"), "metric", metric, "choose top1 or mean_per_class")
        self.source, name, self._root = choose_source(dataset, root, labels)
        of_several = metric is not None and self.source.metric == "map11"
        _check(not of_several, "metric", metric, f"pictures of {name} may show several classes, leave it out")
        self.judged_by: Metric | None = metric
        self.recipes = resolved_recipes(views, name, self.source.recipe)
        self.recipe = self.recipes[0]
        if scaled_decoding and any(recipe.official for recipe in self.recipes):
            raise InputError(
                "scaled_decoding makes pictures smaller by averaging, which the official forms of the views do not do",
                "data.scaled_decoding false",
            )
        self.engine: Callable[[ImageBatch], tuple[Tensor, ...]] = ViewEngine(self.recipes, seed)
        self.stream: Stream | None = None
        self.groups: PictureGroups | None = None
        self.findings: Findings | None = None
        self.batch_size, self.seed, self.download, self.on_bad_picture = batch_size, seed, download, on_bad_picture
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.prefetch_factor, self.persistent_workers = prefetch_factor, persistent_workers
        self.on_device, self.scaled_decoding, self.chunk_window = on_device, scaled_decoding, chunk_window
        self.scale, self.scaling = scale, Scaling(None, "", "", scale)
        self._resident = ResidentPictures()
        self._probe = None if probe is None else str(probe)
        self.pairs = None if pairs is None else str(pairs)
        self._parts: dict[str, Any] = {
            "val_fraction": val_fraction,
            "label_fraction": label_fraction,
            "cache": cache,
            "on_bad_picture": on_bad_picture,
            "seed": seed,
            "reading": self.reading,
        }
        self._splits: Splits | None = None
        self._scaling_is_known = False
        self.save_hyperparameters()
        # Checkpoints hold primitives only, so that they load with weights_only=True.
        primitives = {
            "dataset": name,
            "root": self._root,
            "pairs": self.pairs,
            "probe": self._probe,
            "seed": seed,
            "labels": None if labels is None else str(labels),
            "views": plain_recipes(self.recipes),
        }
        self.save_hyperparameters({key: value for key, value in primitives.items() if key in self.hparams})

    @property
    def splits(self) -> Splits:
        """Which pictures are for what; known after ``setup``."""
        if self._splits is None:
            raise RuntimeError("The data is not there yet: call prepare_data() and setup('fit') first.")
        return self._splits

    @property
    def num_pictures(self) -> int | None:
        """Number of training pictures, None where they come as a stream."""
        return None if self.stream is not None else len(self.splits.train.positions)

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
        return self.judged_by or self.source.metric

    @property
    def in_channels(self) -> int:
        """Channels of the pictures; to know those of a callable's pictures, it is called."""
        if self.source.in_channels is None:
            self.setup()
        return self.source.in_channels or self.splits.train.pictures.in_channels

    def summary(self) -> dict[str, str]:
        """What was found, in a few lines for the start of a run; known after ``setup``."""
        return {"pictures": "a stream"} if self.stream is not None else summarised(self.splits, self.findings)

    def prepare_data(self) -> None:
        """Download the data set; Lightning calls it on one process per node."""
        if self.download and getattr(self.source, "downloads", True) and self._splits is None:
            self.source.load(self._root, True)

    def setup(self, stage: str | None = None) -> None:
        """Find, load, split and label the pictures; a second call does nothing."""
        if self._splits is None:
            found = self.source.load(self._root, False)
            if isinstance(found, Stream):
                if self.pairs is not None:
                    raise InputError(
                        f"pairs is {self.pairs!r}, and pictures that come as a stream cannot be looked up: leave it "
                        "out, or take a data set with a length",
                        "data.pairs null",
                    )
                fits = self.chunk_window is None
                _check(fits, "chunk_window", self.chunk_window, "a stream has its own order, so leave it out")
                self.stream = self._with_views(found)
                self._splits = arrange_beside_stream(found, self._probe, **self._parts)
            else:
                together = None if self.pairs is None else read_groups(self.pairs, found, self._root)
                self._parts["groups"] = together
                self.findings = getattr(found.train, "findings", None)
                if self.findings is not None:
                    self.findings.warn()
                self._splits = self.arrange(found)
                self.groups = None if together is None else PictureGroups(together, self._splits.train.positions)
            if not self._scaling_is_known:
                self.use_scaling(self._measured())
                tell(self.scaling)
        warn_of_workers(self.num_workers or 0, self._devices())
        suit(self.engine, self.trainer)

    def teardown(self, stage: str | None = None) -> None:
        """Free what the pictures take on the accelerator."""
        self._resident.clear()

    def arrange(self, sets: PictureSets) -> Splits:
        """Decide which pictures are for what; ``setup`` calls it once, and a subclass may decide otherwise."""
        return arrange(sets, probe=self._probe, **self._parts)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn the bytes of an ``ImageBatch`` into a ``ViewBatch`` on its device; other batches pass through.

        What is wanted travels with the batch: training batches get views only, batches of validation views and clean
        pictures, and those of all other loaders clean pictures and no views.
        """
        if isinstance(batch, ResidentBatch):
            batch = self._resident.picked(batch)
        if not isinstance(batch, ImageBatch):
            return batch
        images = clean(batch.images, self.recipe, batch.scale) if batch.clean and batch.images is not None else None
        views = () if batch.epoch is None else self.engine(batch)
        indices = batch.indices.to(batch.targets.device, non_blocking=True)
        ready = ViewBatch(views, batch.targets, indices, images, batch.groups, shared_evenly(self.trainer))
        return ready if self.trainer is None else self.trainer.precision_plugin.convert_input(ready)


def _check(fits: bool, name: str, value: object, choice: str) -> None:
    if not fits:
        raise InputError(f"{name} is {value!r}: {choice}", f"data.{name}")
