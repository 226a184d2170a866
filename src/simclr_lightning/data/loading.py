"""What stands behind a loader: keys in, a whole batch of bytes out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pictures import InMemoryPictures, Pictures
from simclr_lightning.data.sampler import Key
from simclr_lightning.views import ImageBatch, ViewRecipe, centre_view, crop_views


class TrainingBatch(ImageBatch):
    """Two random views of every picture are wanted."""


class LabelledBatch(ImageBatch):
    """One random view of every picture is wanted, for a classifier."""


class EvaluationBatch(ImageBatch):
    """The clean picture and two random views are wanted, the same views each time."""


class CleanBatch(ImageBatch):
    """Only the clean picture is wanted."""


class BatchDataset(Dataset[ImageBatch]):
    """Part of a set of pictures, served in whole batches.

    Pictures of equal size are handed over as they are, to be cropped on the device. Others are cropped here, in the
    loader's worker, and only the crops travel.

    Args:
        pictures: where the pictures come from.
        positions: (n,) int64, which of the pictures are served.
        kind: what is wanted of every picture: ``TrainingBatch``, ``LabelledBatch``, ``EvaluationBatch`` or
            ``CleanBatch``.
        recipe: of the views.
        seed: of the views.
        on_bad_picture: raise an error that names a picture which cannot be read, or skip it: warn once with its name
            and serve the next good one of this part, so that batches stay full.
    """

    def __init__(
        self,
        pictures: Pictures,
        positions: Tensor,
        kind: type[ImageBatch],
        recipe: ViewRecipe,
        *,
        seed: int = 0,
        on_bad_picture: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.pictures = pictures
        self.positions = positions
        self.kind = kind
        self.recipe = recipe
        self.seed = seed
        self.on_bad_picture = on_bad_picture

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from files."""
        return isinstance(self.pictures, InMemoryPictures)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.positions)

    def __getitem__(self, key: Key | int) -> ImageBatch:
        """Batch of one picture."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key | int]) -> ImageBatch:
        """Batch of pictures, in the order of the keys."""
        asked = [key if isinstance(key, Key) else Key(key) for key in keys]
        images: Tensor | None
        crops: Tensor | None
        if isinstance(self.pictures, InMemoryPictures):
            positions = self.positions[[key.place for key in asked]]
            images, crops = self.pictures.images[positions], None
        else:
            read = [self._read(key.place) for key in asked]
            positions = torch.tensor([position for position, _ in read])
            images, crops = self._pixels([picture for _, picture in read], positions, asked[0].epoch)
        repeated = torch.tensor([key.repeated for key in asked])
        return self.kind(images, crops, self.pictures.targets[positions].masked_fill(repeated, -1), positions)

    def _pixels(self, pictures: list[Tensor], positions: Tensor, epoch: int) -> tuple[Tensor | None, Tensor | None]:
        if self.pictures.equal_size:
            return torch.stack(pictures), None
        images = crops = None
        if self.kind in (EvaluationBatch, CleanBatch):
            images = torch.stack([centre_view(picture, self.recipe) for picture in pictures])
        if self.kind is not CleanBatch:
            views = 1 if self.kind is LabelledBatch else 2
            crops = crop_views(pictures, self.recipe, positions, seed=self.seed, epoch=epoch, views=views)
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
                        f"{error} (--data.on_bad_picture skip goes on without such pictures.)"
                    ) from error
                self.pictures.bad[position] = True
                warnings.warn(f"{error} The next picture takes its place.", stacklevel=2)
        raise BadPictureError(f"None of the {len(self)} pictures can be read.")
