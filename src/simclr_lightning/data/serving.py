"""What stands behind a loader: keys in, a whole batch out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simclr_lightning.data.bad_pictures import leave_out
from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pairs import PictureGroups
from simclr_lightning.data.pictures import FilePictures, InMemoryPictures, Pictures
from simclr_lightning.data.worker_processes import handed_over
from simclr_lightning.views import Crops, ImageBatch, ValueRange, ViewRecipe, centre_views, crop_views
from simclr_lightning.views.draw import draw_for_each
from simclr_lightning.views.scale import early
from simclr_lightning.views.workers import crops_of, largest_scales

_ReadT = TypeVar("_ReadT")
_Decoded = tuple[Tensor, Tensor | None, Tensor | None, tuple[Crops, ...] | None]
"""Positions, sources, images and crops, as an ``ImageBatch`` has them."""


class Key(NamedTuple):
    """What a loader's worker is asked for.

    Attributes:
        place: of the picture in the loader's data set.
        epoch: decides the picture's views. It travels with the key because persistent workers keep the copy of the data
            set that they started with, and from there with the batch.
        repeated: the picture fills up the last batch and was served before, so it loses its label.

    Example:
        >>> Key(3, epoch=7)
        Key(place=3, epoch=7, repeated=False)
    """

    place: int
    epoch: int = 0
    repeated: bool = False


class BatchDataset(Dataset[ImageBatch]):
    """Part of a set of pictures, served in whole batches.

    Pictures of equal size are handed over as they are, to be cropped on the device. Others are cropped here, in the
    loader's worker, and only the crops travel.

    Args:
        pictures: where the pictures come from.
        positions: (n,) int64, which of the pictures are served.
        recipes: of the views; clean pictures are those of the first.
        random: whether random views are wanted.
        training: whether the pictures are learned from. Random views then come without the clean pictures, and the next
            good picture takes the place of one that cannot be read. Otherwise that place keeps no label: whoever judges
            must not count it.
        seed: of the views.
        on_bad_picture: raise an error that names a picture which cannot be read, or skip it: warn once with its name
            and fill its place with the next good one of this part, so that batches stay full.
        scaled: decode files no larger than their random crops need, in training.
        groups: of pictures that belong together: all views but the first are of other members. None: of the picture
            itself.
        scale: what counts as black and as white; None: the range of the pictures' type.

    Attributes:
        pixels: whether batches bring the pictures; if not, those in memory are on the device already.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> data = BatchDataset(pictures, torch.arange(9), [ViewRecipe("cifar10")], random=True, training=True)
        >>> batch = data.__getitems__([Key(4, epoch=2), Key(1, epoch=2)])
        >>> batch.images.shape, batch.indices.tolist(), batch.epoch, batch.clean
        (torch.Size([2, 3, 8, 8]), [4, 1], 2, False)
    """

    def __init__(
        self,
        pictures: Pictures,
        positions: Tensor,
        recipes: Sequence[ViewRecipe],
        *,
        random: bool,
        training: bool,
        seed: int = 0,
        on_bad_picture: Literal["raise", "skip"] = "raise",
        scaled: bool = False,
        groups: PictureGroups | None = None,
        scale: ValueRange | None = None,
    ) -> None:
        self.pictures = pictures
        self.positions = positions
        self.recipes = tuple(recipes)
        self.random = random
        self.training = training
        self.seed = seed
        self.on_bad_picture = on_bad_picture
        self.scaled = scaled
        self.groups = groups
        self.scale = scale
        self.pixels = True

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from files."""
        return isinstance(self.pictures, InMemoryPictures)

    @property
    def clean(self) -> bool:
        """Whether clean pictures are wanted."""
        return not (self.random and self.training)

    @property
    def nbytes(self) -> int:
        """Bytes that a picture takes in a batch."""
        if self.pictures.equal_size:
            shape = getattr(self.pictures, "shape", None)  # of a set of one's own, it need not be known
            each = self.pictures.dtype.itemsize * (1 if self.groups is None else self._views)
            return each * math.prod(shape) if self.pixels and shape else 0
        crops = sum(recipe.count * recipe.size**2 for recipe in self.recipes) if self.random else 0
        whole = self.recipes[0].eval_size ** 2 if self.clean else 0
        bytes_alone = self.scale is None and self.pictures.dtype == torch.uint8
        return (crops + whole) * self.pictures.in_channels * (1 if bytes_alone else 4)

    @property
    def _views(self) -> int:
        return sum(recipe.count for recipe in self.recipes)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.positions)

    def __getitem__(self, key: Key | int) -> ImageBatch:
        """Batch of one picture."""
        return self.__getitems__([key])

    @handed_over
    def __getitems__(self, keys: Sequence[Key | int]) -> ImageBatch:
        """Batch of pictures, in the order of the keys."""
        asked = [key if isinstance(key, Key) else Key(key) for key in keys]
        epoch = asked[0].epoch if self.random else None
        unlabelled = torch.tensor([key.repeated for key in asked])
        images: Tensor | None
        crops: tuple[Crops, ...] | None = None
        sources: Tensor | None
        if isinstance(self.pictures, InMemoryPictures):
            positions = self.positions[[key.place for key in asked]]
            sources = self._sources(positions, epoch)
            images = self.pictures.rows(positions if sources is None else sources.flatten()) if self.pixels else None
            if images is not None and sources is not None:
                images = torch.unflatten(images, 0, sources.shape)
        else:
            positions, sources, images, crops = self._decoded([key.place for key in asked], epoch)
            if not self.training:
                unlabelled |= positions != self.positions[[key.place for key in asked]]
        targets = self.pictures.targets[positions].masked_fill(unlabelled, -1)
        groups = None if self.groups is None else self.groups.numbers[positions]
        scale = self.scale if self.pictures.equal_size else None  # others are scaled where they are cropped
        if self.pictures.equal_size and images is not None:
            images, scale = early(images, scale)
        return ImageBatch(images, crops, targets, positions, epoch, self.clean, groups, sources, scale)

    def report_unreadable(self) -> None:
        """Warn how many pictures cannot be read and were not judged, unless that was told before."""
        bad = set(self.positions[self.pictures.bad[self.positions]].tolist())
        if not self.training and bad - self.pictures.reported:
            self.pictures.reported |= bad
            warnings.warn(
                f"{len(bad)} of these {len(self)} pictures cannot be read, and do not count, nor do their labels: "
                f"{self.pictures.name(min(bad))}{' and others' * (len(bad) > 1)}.",
                stacklevel=2,
            )

    def _decoded(self, places: list[int], epoch: int | None) -> _Decoded:
        if self.scaled and not self.clean and epoch is not None and isinstance(self.pictures, FilePictures):
            return self._scaled(self.pictures, places, epoch)
        positions, sources, pictures = self._read_views(places, epoch, self.pictures.read)
        if self.pictures.equal_size:
            stacks = [torch.stack(own) for own in pictures]
            return positions, sources, stacks[0] if sources is None else torch.stack(stacks), None
        images = crops = None
        if self.clean:
            images = centre_views(pictures[0], self.recipes[0], self.scale)
        if epoch is not None:
            of_views = pictures[0] if sources is None else pictures
            crops = crop_views(of_views, self.recipes, positions, seed=self.seed, epoch=epoch, scale=self.scale)
        return positions, sources, images, crops

    def _scaled(self, files: FilePictures, places: list[int], epoch: int) -> _Decoded:
        recipes = [recipe.at(epoch) for recipe in self.recipes]
        while True:  # again where a picture turns out to be bad only when it is decoded: another has another size
            positions, sources, sizes = self._read_views(places, epoch, files.size)
            drawn = draw_for_each(recipes, positions, torch.tensor(sizes), seed=self.seed, epoch=epoch)
            of_views = positions.expand(self._views, -1) if sources is None else sources
            asked = zip(of_views.tolist(), largest_scales(recipes, drawn, of_views), strict=True)
            asked_of_views = [list(zip(*own, strict=True)) for own in asked]
            decoded = {
                (position, scale): self._tried(position, partial(files.read_scaled, scale=scale))
                for position, scale in dict.fromkeys(chain.from_iterable(asked_of_views))
            }
            good = {key: picture for key, picture in decoded.items() if picture is not None}
            if len(good) == len(decoded):
                pictures = [[good[key] for key in own] for own in asked_of_views]
                return positions, sources, None, crops_of(pictures, recipes, drawn, self.scale)

    def _sources(self, positions: Tensor, epoch: int | None) -> Tensor | None:
        """(V, N) positions of the pictures that the views are of; None: of the picture itself."""
        if self.groups is None or epoch is None:
            return None
        return self.groups.sources(positions, seed=self.seed, epoch=epoch, views=self._views)

    def _read_views(
        self, places: list[int], epoch: int | None, read: Callable[[int], _ReadT]
    ) -> tuple[Tensor, Tensor | None, list[list[_ReadT]]]:
        """Positions (N,), sources (V, N) or None, and what was read of the N pictures of each view, or of one view."""
        own = [self._read(place, read) for place in places]
        positions, values = torch.tensor([position for position, _ in own]), dict(own)
        sources = self._sources(positions, epoch)
        if self.groups is None or sources is None:
            return positions, None, [[value for _, value in own]] * (self._views if epoch is not None else 1)
        for of_view in sources[1:]:
            for column, (drawn, (position, _)) in enumerate(zip(of_view.tolist(), own, strict=True)):
                of_view[column] = self._read_partner(self.groups.in_place_of(drawn, position), read, values)
        return positions, sources, [[values[position] for position in of_view] for of_view in sources.tolist()]

    def _read_partner(self, candidates: Iterable[int], read: Callable[[int], _ReadT], values: dict[int, _ReadT]) -> int:
        """Position of the first that can be read, or was."""
        for position in candidates:
            if position not in values and not self.pictures.bad[position]:
                found = self._tried(position, read)
                if found is not None:
                    values[position] = found
            if position in values:
                return position
        raise BadPictureError("None of the pictures of a group can be read.")

    def _read(self, place: int, read: Callable[[int], _ReadT]) -> tuple[int, _ReadT]:
        for step in range(len(self)):
            position = int(self.positions[(place + step) % len(self)])
            if not self.pictures.bad[position] and (found := self._tried(position, read)) is not None:
                return position, found
        raise BadPictureError(f"None of the {len(self)} pictures can be read.")

    def _tried(self, position: int, read: Callable[[int], _ReadT]) -> _ReadT | None:
        try:
            found = read(position)
        except BadPictureError as error:
            end = "The next picture takes its place." if self.training else "It does not count."
            leave_out(self.pictures, position, error, self.on_bad_picture, end)
            return None
        self.pictures.seen[position] = True
        return found
