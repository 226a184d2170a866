"""What stands behind a loader: keys in, a whole batch out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pictures import InMemoryPictures, Pictures
from simclr_lightning.errors import InputError
from simclr_lightning.views import Crops, ImageBatch, ViewRecipe, centre_view, crop_views

_DataT = TypeVar("_DataT")
_KeyT = TypeVar("_KeyT")
_BatchT = TypeVar("_BatchT")


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


def input_errors_returned(fetch: Callable[[_DataT, _KeyT], _BatchT]) -> Callable[[_DataT, _KeyT], _BatchT]:
    """Decorator of what fetches for a loader: in a worker an ``InputError`` is returned instead of raised.

    Raised there, torch would make the worker's traceback its message. ``PictureLoader`` raises what is returned.

    Example:
        >>> class Empty:
        ...     @input_errors_returned
        ...     def __getitem__(self, position):
        ...         raise InputError(f"There is no picture {position}: choose another.")
        >>> Empty()[3]  # not in a worker
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no picture 3: choose another.
    """

    @wraps(fetch)
    def returning(dataset: _DataT, key: _KeyT) -> _BatchT:
        try:
            return fetch(dataset, key)
        except InputError as error:
            if get_worker_info() is None:
                raise
            return cast("_BatchT", error)

    return returning


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
    ) -> None:
        self.pictures = pictures
        self.positions = positions
        self.recipes = tuple(recipes)
        self.random = random
        self.training = training
        self.seed = seed
        self.on_bad_picture = on_bad_picture

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from files."""
        return isinstance(self.pictures, InMemoryPictures)

    @property
    def clean(self) -> bool:
        """Whether clean pictures are wanted."""
        return not (self.random and self.training)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.positions)

    def __getitem__(self, key: Key | int) -> ImageBatch:
        """Batch of one picture."""
        return self.__getitems__([key])

    @input_errors_returned
    def __getitems__(self, keys: Sequence[Key | int]) -> ImageBatch:
        """Batch of pictures, in the order of the keys."""
        asked = [key if isinstance(key, Key) else Key(key) for key in keys]
        epoch = asked[0].epoch if self.random else None
        unlabelled = torch.tensor([key.repeated for key in asked])
        images: Tensor | None
        crops: tuple[Crops, ...] | None = None
        if isinstance(self.pictures, InMemoryPictures):
            positions = self.positions[[key.place for key in asked]]
            images = self.pictures.images[positions]
        else:
            read = [self._read(key.place) for key in asked]
            positions = torch.tensor([position for position, _ in read])
            images, crops = self._pixels([picture for _, picture in read], positions, epoch)
            if not self.training:
                unlabelled |= positions != self.positions[[key.place for key in asked]]
        targets = self.pictures.targets[positions].masked_fill(unlabelled, -1)
        return ImageBatch(images, crops, targets, positions, epoch, self.clean)

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

    def _pixels(
        self, pictures: list[Tensor], positions: Tensor, epoch: int | None
    ) -> tuple[Tensor | None, tuple[Crops, ...] | None]:
        if self.pictures.equal_size:
            return torch.stack(pictures), None
        images = crops = None
        if self.clean:
            images = torch.stack([centre_view(picture, self.recipes[0]) for picture in pictures])
        if epoch is not None:
            crops = crop_views(pictures, self.recipes, positions, seed=self.seed, epoch=epoch)
        return images, crops

    def _read(self, place: int) -> tuple[int, Tensor]:
        for step in range(len(self)):
            position = int(self.positions[(place + step) % len(self)])
            if self.pictures.bad[position]:
                continue
            try:
                return position, self.pictures.read(position)
            except BadPictureError as error:
                if self.on_bad_picture == "raise":
                    raise BadPictureError(
                        f"{error} Such pictures can be left out", "data.on_bad_picture skip"
                    ) from error
                self.pictures.bad[position] = True
                end = "The next picture takes its place." if self.training else "It does not count."
                warnings.warn(f"{error} {end}", stacklevel=2)
        raise BadPictureError(f"None of the {len(self)} pictures can be read.")


class FeatureBatch(NamedTuple):
    """What a frozen encoder made of pictures.

    Attributes:
        features: (N, F) float.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions of the pictures in the data set.

    Example:
        >>> FeatureBatch(torch.rand(5, 64), torch.zeros(5).long(), torch.arange(5)).features.shape
        torch.Size([5, 64])
    """

    features: Tensor
    targets: Tensor
    indices: Tensor


class FeatureDataset(Dataset[FeatureBatch]):
    """Features in memory, served in whole batches.

    Args:
        features: of all pictures of a part, in its order, on the CPU.

    Example:
        >>> data = FeatureDataset(FeatureBatch(torch.rand(5, 64), torch.arange(5), torch.arange(5)))
        >>> data.__getitems__([Key(3), Key(0, repeated=True)]).targets.tolist()
        [3, -1]
    """

    in_memory = True

    def __init__(self, features: FeatureBatch) -> None:
        self.features = features

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.features.targets)

    def __getitem__(self, key: Key | int) -> FeatureBatch:
        """Batch of one picture."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key | int]) -> FeatureBatch:
        """Batch of pictures, in the order of the keys."""
        asked = [key if isinstance(key, Key) else Key(key) for key in keys]
        places = torch.tensor([key.place for key in asked])
        repeated = torch.tensor([key.repeated for key in asked])
        features, targets, indices = (values[places] for values in self.features)
        return FeatureBatch(features, targets.masked_fill(repeated, -1), indices)
