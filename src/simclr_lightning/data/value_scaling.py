"""The scale of a data module's pictures: measured when it is set up, kept in checkpoints, and adopted from them."""

from __future__ import annotations

from typing import Any

from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.clean_loaders import CleanLoaders
from simclr_lightning.data.iterable import IterableStream
from simclr_lightning.data.stream import Stream, with_views
from simclr_lightning.data.value_range import Scaling, known_scaling, scaling_of_set, scaling_of_stream, tell


class ValueScaling(CleanLoaders):
    """Loaders of pictures whose values are scaled; a part of :class:`PictureDataModule`, which says what it takes.

    Attributes:
        scale: as it was typed.
        scaling: what counts as black and as white; known after ``setup``.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule("digits", scale=[0, 200])
        >>> data.setup("fit")
        >>> data.state_dict()
        {'scale': [0.0, 200.0]}
    """

    scale: Any
    reading: Reading
    stream: Stream | None
    _scaling_is_known: bool

    def use_scaling(self, scaling: Scaling) -> None:
        """Scale the values of pictures so, from the next loader on; checkpoints will tell it."""
        self.scaling = scaling
        self.save_hyperparameters({"scale": scaling.plain})
        if self.stream is not None:
            self.stream = self._with_views(self.stream)

    def adopt_scale(self, plain: Any) -> None:
        """Scale the values of pictures as those that an encoder was trained on, unless numbers were typed.

        Args:
            plain: what its checkpoint tells, see ``plain_scale``; None: nothing.
        """
        if plain is None or not (self.scale is None or isinstance(self.scale, str)):
            return
        self._scaling_is_known = True
        if plain != self.scaling.plain:
            self.use_scaling(known_scaling(plain, "as the checkpoint has it"))
            tell(self.scaling)

    def state_dict(self) -> dict[str, Any]:
        """How values are scaled, where it was worked out."""
        return {} if self.scaling.plain is None else {"scale": self.scaling.plain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scale values as before."""
        self.adopt_scale(state_dict.get("scale"))

    def _measured(self) -> Scaling:
        if self.stream is None:
            return scaling_of_set(self.scale, *self.splits.train, seed=self.seed)
        pictures = getattr(self.stream, "pictures", None)
        if callable(pictures):
            return scaling_of_stream(self.scale, pictures())
        if self.scale in (None, "dtype"):
            return Scaling(None, "", "", self.scale)
        batches = self.stream.batches("train", rank=0, world_size=1, batch_size=self.batch_size, epoch=0)
        whole = (batch.images for batch in batches if batch.images is not None)
        return scaling_of_stream(self.scale, (picture for images in whole for picture in images))

    def _with_views(self, stream: Stream) -> Stream:
        viewed = with_views(
            stream,
            self.recipes,
            seed=self.seed,
            on_bad_picture=self.on_bad_picture,
            scale=self.scaling.range,
        )
        if isinstance(viewed, IterableStream):
            viewed.reading = self.reading
        return viewed
