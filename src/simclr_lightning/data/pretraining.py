"""``SimCLRDataModule``: views to pre-train on, and what watches the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.data.loaders import PictureLoader, process_of
from simclr_lightning.data.module import PictureDataModule
from simclr_lightning.data.pairs import PictureGroups
from simclr_lightning.data.stream import StreamDataset, StreamLoader
from simclr_lightning.errors import InputError
from simclr_lightning.views import VALIDATION_EPOCH, ViewEngine, ViewRecipe, check_channels

_MANY_LOST = 0.25  # share of a batch that is of a picture's own group, beyond which few negatives are left


class SimCLRDataModule(PictureDataModule):
    """Loads pictures and turns them into the views that ``SimCLR`` trains on.

    The default is pre-training without labels. Labels, where a data set has them, are used to judge the features only:
    class folders, a data set's own labels, or a separate labelled folder (``probe``). Validation is watched, nothing is
    chosen by it; its pictures are the data set's own for validation, or for test, unless ``val_fraction`` sets others
    aside.

    The arguments are those of :class:`PictureDataModule`.

    Example:
        >>> data = SimCLRDataModule("digits", batch_size=128)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> views = data.on_after_batch_transfer(batch, 0).views  # as Lightning does, on the batch's device
        >>> [tuple(view.shape) for view in views]
        [(2, 128, 1, 16, 16)]
    """

    _streaming: StreamLoader | None = None
    _start: dict[str, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Where the training is in a stream; Lightning puts it into checkpoints. Other loaders have their own state."""
        position = {} if self._streaming is None else {**self._streaming.position(), "batch_size": self.batch_size}
        return super().state_dict() | position

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a stream from there.

        Raises:
            InputError: if no batch of the present size begins there.
        """
        super().load_state_dict(state_dict)
        if "epoch" in state_dict and (self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING):
            before = state_dict.get("batch_size", self.batch_size)
            batches, rest = divmod(state_dict["batches"] * before, self.batch_size)
            if rest:
                raise InputError(
                    f"The checkpoint is after {state_dict['batches']} batches of {before} pictures of a stream, where "
                    f"no batch of {self.batch_size} begins: keep the size",
                    f"data.batch_size {before}",
                )
            self._start = {"epoch": state_dict["epoch"], "batches": batches}

    def use_recipes(self, recipes: Sequence[ViewRecipe]) -> None:
        """Draw other views, from the next loader on; clean pictures, which the first recipe makes, stay as they are.

        Args:
            recipes: in place of the present ones, for a schedule of their sizes.

        Raises:
            InputError: if another ``engine`` has taken the place of ours: it would not draw them.

        Example:
            >>> from simclr_lightning.views import ScheduledRecipe
            >>> data = SimCLRDataModule("digits")
            >>> data.use_recipes([ScheduledRecipe.of(data.recipe, [8, 12, 16])])
            >>> data.recipes[0].at(1).size
            12
        """
        if not isinstance(self.engine, ViewEngine):
            raise InputError(
                f"The views are drawn by a {type(self.engine).__name__} in place of data.engine, and no other recipes "
                "can be given to it: let it be a ViewEngine, whose recipes change"
            )
        self.recipes = self.engine.recipes = tuple(recipes)
        if self.stream is not None:
            self.stream = self._with_views(self.stream)

    def train_dataloader(self) -> PictureLoader[Any]:
        """Training pictures in a new order each epoch; the pictures that do not fill a batch are left out.

        Raises:
            InputError: if the batch size does not fit the pictures, the processes or contrastive learning, a recipe
                does not fit the channels of the pictures, or these are all of one group.
        """
        pictures = self.num_pictures
        if self.batch_size < 2 or (pictures is not None and pictures < 2):
            raise InputError(
                f"There are {pictures or 'any number of'} training picture(s) in batches of {self.batch_size}. A "
                "picture is contrasted with others: it takes two at least, and several hundred for useful features",
                "data.batch_size",
            )
        if pictures is not None and self.batch_size > pictures:
            raise InputError(
                f"batch_size is {self.batch_size}, but there are {pictures} training pictures: choose at most as many",
                f"data.batch_size {pictures}",
            )
        if sum(recipe.count for recipe in self.recipes) < 2:
            raise InputError("One view of each picture is drawn, and two at least are contrasted", "data.views.count 2")
        for recipe in self.recipes:
            check_channels(recipe, self.in_channels)
        if self.stream is not None:
            self._streaming = self._stream_loader("train")
            if self._start is not None:
                self._streaming.start_at(self._start)
                self._start = None
            return self._streaming
        served = self._served(self.splits.train, random=True, training=True, groups=self._contrastable_groups())
        return self._loader(served, training=True)

    def val_dataloader(self) -> PictureLoader[Any] | list[Any]:
        """Clean pictures, labels and views, which are the same each time; [] without validation pictures."""
        if self.splits.val is not None:
            return self._loader(self._served(self.splits.val, random=True))
        if self.stream is not None:
            shares = {"rank": 0, "world_size": 1, "batch_size": self.batch_size, "epoch": VALIDATION_EPOCH}
            if next(iter(self.stream.batches("val", **shares)), None) is not None:
                return self._stream_loader("val")
        return []

    def test_dataloader(self) -> PictureLoader[Any]:
        """As :meth:`val_dataloader`, of the test pictures.

        Raises:
            InputError: if there are none.
        """
        return self._loader(self._served(self._part("test"), random=True))

    def probe_dataloader(self) -> PictureLoader[Any] | None:
        """Labelled clean pictures in a new order each epoch (``loader.sampler.set_epoch``), for an online probe.

        Returns:
            None where all training pictures carry labels, so that a probe can learn from the training batches, or
            nothing is labelled.
        """
        train, labelled = self.splits.train, self.splits.labelled
        if labelled is None:
            return None
        if self.stream is None and bool((train.pictures.targets[train.positions] >= 0).all()):
            return None
        return self._loader(self._served(labelled, random=False), shuffle=True)

    def _contrastable_groups(self) -> PictureGroups | None:
        """The groups, where any has two pictures to train on: without, nothing differs."""
        if self.groups is None:
            return None
        if len(self.groups.sizes) == 1:
            raise InputError(
                f"All training pictures are of one group in {self.pairs!r}, and those of a group are not contrasted: "
                "give finer groups, or leave it out",
                "data.pairs null",
            )
        if not self.groups.lost_share:
            rank_zero_warn(f"No two training pictures are of one group in {self.pairs}: nothing differs without it.")
            return None
        if self.groups.lost_share >= _MANY_LOST:
            rest = (1 - self.groups.lost_share) * (self.batch_size - 1)
            rank_zero_warn(
                f"The groups in {self.pairs} are large: {self.groups.lost_share:.0%} of the other pictures of a batch "
                f"are of a picture's own group, on average, and no negatives; of {self.batch_size - 1} pictures about "
                f"{rest:.0f} are left. Give finer groups, or a larger batch (--data.batch_size)."
            )
        return self.groups

    def _stream_loader(self, split: Literal["train", "val"]) -> StreamLoader:
        assert self.stream is not None
        rank, processes = process_of(self.trainer, self.batch_size)
        workers = 1 if self.num_workers is None else self.num_workers
        return StreamLoader(
            StreamDataset(
                self.stream,
                split,
                rank=rank,
                world_size=processes,
                batch_size=self.batch_size,
                scale=self.scaling.range,
            ),
            num_workers=workers,
            pin_memory=self._pin_memory(),
            prefetch_factor=self.prefetch_factor,
            persistent_workers=workers > 0 if self.persistent_workers is None else self.persistent_workers,
        )
