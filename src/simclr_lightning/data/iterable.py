"""Iterable data sets, which have no length, as a stream."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from simclr_lightning.data.bad_pictures import LEAST, NAMED, Reading, advice, check_share
from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.items import check_picture, decoded, picture_of
from simclr_lightning.data.pillow_files import left_out
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ValueRange, ViewRecipe, centre_views, crop_views


class IterableStream:
    """A stream of PIL pictures, which may differ in size, or of tensors (C, H, W), which may not.

    Items are pictures or (picture, label) pairs, in the same order whenever one goes through them. A set that has a
    method ``set_epoch`` is told the epoch first, and may give another order in each. Every process and every worker
    goes through the whole set, and decodes its own pictures alone: the set must not share itself out.

    Args:
        sets: an iterable of pictures for "train" and, where there is one, for "val".
        recipes: of the views, and of the clean pictures the first.
        seed: of the views.
        on_bad_picture: raise an error that names a picture which cannot be read, or skip it: warn, and let another of
            its batch take its place.
        scale: what counts as black and as white in crops; None: the range of each picture's type.

    Raises:
        InputError: if an iterable is an iterator, which ends for good, or there are no pictures, or something else.

    Example:
        >>> from PIL import Image
        >>> pictures = [Image.new("RGB", (20 + number, 30)) for number in range(10)]
        >>> stream = IterableStream({"train": pictures}, [ViewRecipe("cifar10")])
        >>> shared = {"world_size": 2, "batch_size": 4, "epoch": 0}
        >>> [batch.indices.tolist() for batch in stream.batches("train", rank=1, **shared)]
        [[1, 3], [5, 7]]
    """

    def __init__(
        self,
        sets: Mapping[str, Iterable[Any]],
        recipes: Sequence[ViewRecipe] = (ViewRecipe(),),
        *,
        seed: int = 0,
        on_bad_picture: Literal["raise", "skip"] = "raise",
        scale: ValueRange | None = None,
    ) -> None:
        for pictures in sets.values():
            if isinstance(pictures, Iterator):
                raise InputError(
                    f"The data set is a {type(pictures).__name__}, which can be gone through once: return an object "
                    "whose __iter__ starts anew, such as an IterableDataset."
                )
        self.sets = dict(sets)
        self.recipes = tuple(recipes)
        self.seed = seed
        self.on_bad_picture = on_bad_picture
        self.scale = scale
        self.reading = Reading()
        self._seen = self._bad = 0
        self.class_names: Sequence[str] | None = getattr(self.sets["train"], "classes", None)
        items = list(islice(self.sets["train"], 1))
        if not items:
            raise InputError(f"The data set {type(self.sets['train']).__name__} is empty.")
        first = picture_of(items[0])
        self._shape = first.shape if isinstance(first, Tensor) else None
        check_picture(first, self._shape, "Picture 0 of the stream")
        self.in_channels = self._shape[0] if self._shape else 3

    def with_views(
        self,
        recipes: Sequence[ViewRecipe],
        *,
        seed: int,
        on_bad_picture: Literal["raise", "skip"],
        scale: ValueRange | None = None,
    ) -> Self:
        """The same pictures in other views."""
        other = copy.copy(self)
        other.recipes, other.seed, other.on_bad_picture, other.scale = tuple(recipes), seed, on_bad_picture, scale
        return other

    def pictures(self) -> Iterator[Tensor]:
        """The training pictures that can be read, (C, H, W)."""
        for position, item in enumerate(self.sets["train"]):
            try:
                name = f"Picture {position} of the stream"
                yield decoded(picture_of(item), self._shape, name, self.reading.max_megapixels)
            except BadPictureError:
                continue

    def batches(
        self,
        split: str,
        *,
        rank: int,
        world_size: int,
        batch_size: int,
        epoch: int,
        start: int = 0,
        step: int = 1,
    ) -> Iterator[ImageBatch]:
        """See :meth:`Stream.batches`. The last batch of a split that is not trained on may be smaller."""
        pictures = self.sets.get(split, ())
        if hasattr(pictures, "set_epoch"):
            pictures.set_epoch(epoch)
        own: list[_Read] = []
        first, place = None, -1
        for position, item in enumerate(pictures):
            number, place = divmod(position, batch_size)
            wanted = number >= start and (number - start) % step == 0
            if place == 0:
                first = position, item
            if wanted and place % world_size == rank:
                own.append(self._read(position, item))
            if wanted and place == batch_size - 1:
                yield self._batch(own, split, epoch)
                own = []
        if first is None or split == "train" or place == batch_size - 1 or not wanted:
            return
        if len(own) * world_size < place + 1:  # all processes have as many, and every picture counts once
            own.append(self._read(*first)._replace(target=-1))
        yield self._batch(own, split, epoch)

    def _read(self, position: int, item: Any) -> _Read:
        label = item[1] if isinstance(item, (tuple, list)) else None
        name = f"Picture {position} of the stream"
        target = self._target(label, name)
        try:
            picture = picture_of(item)
            self._seen += 1
            if self.reading.is_news(rest := left_out(picture)):
                warnings.warn(f"{name} is read in part: {rest}. Other such pictures are not named.", stacklevel=2)
            return _Read(position, decoded(picture, self._shape, name, self.reading.max_megapixels), target)
        except BadPictureError as error:
            if self.on_bad_picture == "raise":
                raise advice(error) from error
            self._bad += 1
            self.reading.listed(str(error.args[0]))
            check_share(self.reading, self._bad, max(self._seen, LEAST), self._seen, name)
            if self._bad <= NAMED:
                warnings.warn(f"{error} Another of its batch takes its place.", stacklevel=2)
            return _Read(position, None, target)

    def _target(self, label: Any, name: str) -> int:
        if label is None or isinstance(label, int):
            return -1 if label is None else int(label)
        if isinstance(label, (str, bytes)) and self.class_names is None:
            raise InputError(
                f"{name} has the label {label!r}, a name: give the data set an attribute classes, with all names in "
                "the order of their numbers."
            )
        return int(class_indices([label], name, self.class_names)[0])

    def _batch(self, read: list[_Read], split: str, epoch: int) -> ImageBatch:
        good = [(own.position, own.pixels, own.target) for own in read if own.pixels is not None]
        if not good:
            raise BadPictureError(f"None of the pictures {read[0].position} to {read[-1].position} can be read.")
        if len(good) < len(read):
            others = cycle(good if split == "train" else [(*own[:2], -1) for own in good])
            good += islice(others, len(read) - len(good))
        pictures = [pixels for _, pixels, _ in good]
        indices, targets = (torch.tensor([own[column] for own in good]) for column in (0, 2))
        if self._shape is not None:
            return ImageBatch(torch.stack(pictures), None, targets, indices, epoch)
        images = None
        if split != "train":
            images = centre_views(pictures, self.recipes[0], self.scale)
        crops = crop_views(pictures, self.recipes, indices, seed=self.seed, epoch=epoch, scale=self.scale)
        return ImageBatch(images, crops, targets, indices, epoch)


class _Read(NamedTuple):
    position: int
    pixels: Tensor | None
    target: int
