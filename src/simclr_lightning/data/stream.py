"""Training pictures without a length: the ``Stream`` protocol and its loader."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch.utils.data import IterableDataset, get_worker_info

from simclr_lightning.data.loaders import PictureLoader, as_it_is
from simclr_lightning.errors import InputError
from simclr_lightning.views import VALIDATION_EPOCH, ImageBatch, ValueRange, ViewRecipe
from simclr_lightning.views.scale import early


@runtime_checkable
class Stream(Protocol):
    """Pictures that come one after the other: shards, an archive, a service. Nobody asks for their number.

    The loader sets ``epoch`` and ``clean`` of the batches; a stream need not. A stream may have the attributes
    ``recipe`` (views that fit its pictures, also of the class), ``in_channels`` (3 by default) and ``class_names``. One
    whose pictures differ in size crops them itself, by ``views.crop_views``: if it has a method
    ``with_views(recipes, *, seed, on_bad_picture)``, that is given what was typed and returns the stream to read; if it
    also has the argument ``scale``, what counts as black and as white in the pictures that it crops. Those of its
    ``pictures()``, where it has such a method, are looked at for it.

    Example:
        >>> class Noise:
        ...     def batches(self, split, *, rank, world_size, batch_size, epoch):
        ...         share = batch_size // world_size
        ...         for first in range(rank * share, 64 if split == "train" else 0, batch_size):
        ...             images = torch.randint(256, (share, 3, 32, 32), dtype=torch.uint8)
        ...             indices = torch.arange(first, first + share)
        ...             yield ImageBatch(images, None, torch.full((share,), -1), indices)
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule(Noise, batch_size=16, views="cifar10", num_workers=0)
        >>> data.setup("fit")
        >>> [len(batch.targets) for batch in data.train_dataloader()]
        [16, 16, 16, 16]
    """

    def batches(self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int) -> Iterable[ImageBatch]:
        """This process's share of every global batch, in order.

        A method that also has the arguments ``start`` and ``step`` is asked for the batches start, start + step, ...
        alone, by the workers of one process and by runs that are resumed. Otherwise it gives all of them, and those of
        the others are thrown away.

        Args:
            split: "train" or "val"; nothing comes of a split that there is not.
            rank: number of this process.
            world_size: number of processes. All together give the same pictures in batch k as one would.
            batch_size: pictures of a batch of all processes, a multiple of their number.
            epoch: how often training has gone through the stream before.

        Returns:
            Batches of ``batch_size // world_size`` pictures; the last may be smaller, and is left out of training.
            ``indices`` are positions in the whole stream: with seed and epoch they determine the random views.
        """


def with_views(
    stream: Stream,
    recipes: Sequence[ViewRecipe],
    *,
    seed: int,
    on_bad_picture: Literal["raise", "skip"],
    scale: ValueRange | None = None,
) -> Stream:
    """Tell a stream that asks for it what views it crops, and what to do about pictures that cannot be read.

    Args:
        stream: may have a method ``with_views``.
        recipes: of the views.
        seed: of the views.
        on_bad_picture: raise or skip.
        scale: what counts as black and as white in crops.

    Example:
        >>> from simclr_lightning.data import IterableStream
        >>> stream = IterableStream({"train": [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 9})
        >>> with_views(stream, [ViewRecipe(size=8)], seed=1, on_bad_picture="skip").recipes[0].size
        8
    """
    telling: Any = getattr(stream, "with_views", None)
    if telling is None:
        return stream
    scaled = {"scale": scale} if "scale" in inspect.signature(telling).parameters else {}
    found: Stream = telling(recipes, seed=seed, on_bad_picture=on_bad_picture, **scaled)
    return found


class StreamDataset(IterableDataset[ImageBatch]):
    """This process's batches of a stream, which the loader's workers make in turn.

    Args:
        stream: gives the batches.
        split: "train" or "val".
        rank: number of this process.
        world_size: number of processes.
        batch_size: pictures of a batch of all processes.
        scale: what counts as black and as white in pictures that are not cropped, and bring no other.

    Example:
        >>> from simclr_lightning.data import IterableStream
        >>> stream = IterableStream({"train": [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 9})
        >>> data = StreamDataset(stream, "train", rank=0, world_size=1, batch_size=4)
        >>> data.begin(epoch=5, batch=1)
        >>> [(batch.epoch, batch.indices.tolist()) for batch in data]
        [(5, [4, 5, 6, 7])]
    """

    def __init__(
        self,
        stream: Stream,
        split: str,
        *,
        rank: int,
        world_size: int,
        batch_size: int,
        scale: ValueRange | None = None,
    ) -> None:
        self.stream: Any = stream
        self.split = split
        self.share = batch_size // world_size
        self.scale = scale
        self._asked = {"rank": rank, "world_size": world_size, "batch_size": batch_size}
        # Shared with the workers, which keep their copy of the data set from epoch to epoch.
        self._begin = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, *, epoch: int, batch: int = 0) -> None:
        """Choose epoch and first batch of the next iteration; validation has an epoch of its own."""
        self._begin[0], self._begin[1] = epoch, batch

    def __iter__(self) -> Iterator[ImageBatch]:
        """Batches of the chosen epoch, each with its epoch; an ``InputError`` of a worker is one of them."""
        worker = get_worker_info()
        try:
            yield from self._batches(*((0, 1) if worker is None else (worker.id, worker.num_workers)))
        except InputError as error:
            if worker is None:
                raise
            yield cast("ImageBatch", error)

    def _batches(self, worker: int, workers: int) -> Iterator[ImageBatch]:
        training = self.split == "train"
        epoch, first = self._begin.tolist()
        if not training:
            epoch = VALIDATION_EPOCH
        asked = {**self._asked, "epoch": epoch}
        own = {"start": first + worker, "step": workers}
        if own.keys() <= inspect.signature(self.stream.batches).parameters.keys():
            batches = self.stream.batches(self.split, **asked, **own)
        else:
            batches = islice(self.stream.batches(self.split, **asked), own["start"], None, own["step"])
        for given in batches:
            if not isinstance(given, ImageBatch):
                raise TypeError(f"{type(self.stream).__name__} gave a {type(given).__name__}, expected an ImageBatch.")
            batch = given
            if given.images is not None and given.crops is None:
                images, scale = early(given.images, given.scale or self.scale)
                batch = given._replace(images=images, scale=scale)
            if len(batch.targets) == self.share or not training:
                yield batch._replace(epoch=epoch, clean=not training)


class StreamLoader(PictureLoader[ImageBatch]):
    """Loader of a stream, which can go on in the middle of an epoch.

    Args:
        data: the batches.
        options: of ``DataLoader``.

    Example:
        >>> from simclr_lightning.data import IterableStream
        >>> stream = IterableStream({"train": [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 9})
        >>> loader = StreamLoader(StreamDataset(stream, "train", rank=0, world_size=1, batch_size=4))
        >>> loader.start_at({"epoch": 3, "batches": 1})
        >>> [(batch.epoch, batch.indices.tolist()) for batch in loader]
        [(3, [4, 5, 6, 7])]
        >>> loader.position()
        {'epoch': 4, 'batches': 0}
    """

    def __init__(self, data: StreamDataset, **options: Any) -> None:
        super().__init__(data, batch_size=None, collate_fn=as_it_is, **options)
        # DataLoader allows neither beside an iterable data set that makes its own batches: Lightning looks for
        # set_epoch() at the one, LARSWarmup for this process's pictures of a step at the other.
        object.__setattr__(self, "sampler", _Epochs())
        object.__setattr__(self, "batch_size", data.share)
        self._data = data
        self._position = {"epoch": 0, "batches": 0}
        self._resumed = False

    def __iter__(self) -> Iterator[ImageBatch]:  # type: ignore[override]
        """Batches of the sampler's epoch, or of where it was told to start."""
        epochs = cast("_Epochs", self.sampler)
        if not self._resumed:
            self._position = {"epoch": epochs.epoch, "batches": 0}
        self._resumed, epoch = False, self._position["epoch"]
        self._data.begin(epoch=epoch, batch=self._position["batches"])
        for batch in super().__iter__():
            yield batch
            # A batch counts when the next one is asked for: without a length, Lightning asks for one more than it
            # trains on, to see the end coming.
            self._position["batches"] += 1
        self._position = {"epoch": epoch + 1, "batches": 0}

    def position(self) -> dict[str, int]:
        """Epoch, and number of batches that were trained on in it."""
        return dict(self._position)

    def start_at(self, position: dict[str, int]) -> None:
        """Go on there, the next time.

        Lightning does not call a loader's ``load_state_dict`` at the end of an epoch, and fetches a batch before it
        tells the sampler the epoch: the data module says where to start.
        """
        self._position, self._resumed = dict(position), True


class _Epochs:
    """What stands in for a sampler."""

    epoch = 0

    def __iter__(self) -> Iterator[None]:
        return repeat(None)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
