"""``EmbeddingPictures``: what the embedding looks like while it is learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.callbacks.log_picture import log_picture, moment
from simclr_lightning.callbacks.picture_sample import PictureSample, picture_sample
from simclr_lightning.callbacks.sampled_rows import is_due
from simclr_lightning.drawing import (
    Method,
    check_method,
    choose_queries,
    draw_map,
    draw_neighbours,
    draw_similarities,
    nearest,
    two_dimensional,
)
from simclr_lightning.errors import InputError, check_number


class EmbeddingPictures(Callback):
    """Draws the embedding every few epochs: a map, nearest neighbours, and similarities of pairs.

    All are of one sample of training pictures, drawn once, which are encoded clean and in evaluation mode:

    * ``embedding/map``: the features in two dimensions, coloured by class where there are labels;
    * ``embedding/neighbours``: some pictures, each with its nearest neighbours in the sample;
    * ``embedding/similarities``: how similar the projections of two training views of a picture are, and those of views
      of different pictures.

    Each goes to ``<run folder>/pictures`` and to every logger that takes pictures, by :func:`log_picture`. Nothing is
    trained, the model is left as it was, and between these moments a step costs nothing. Several processes share the
    pictures, with the result of one.

    Example:
        >>> trainer = Trainer(callbacks=[EmbeddingPictures(every_n_epochs=5)], accelerator="cpu", logger=False)

    Args:
        every_n_epochs: after which epochs; the last one always counts.
        pictures: of the sample, at most; drawn by the seed of the data module.
        method: of the map: pca, which takes no time; tsne, seconds for a thousand pictures; umap, of the package
            umap-learn.
        thumbnails: whether the map shows the pictures themselves, as far as they find room.
        queries: pictures whose neighbours are drawn, the same each time. 0: none are.
        neighbours: drawn of each, at most 100.
        similarities: whether these are drawn.
        seed: of the queries and of the map.

    Raises:
        InputError: if a number is out of range or umap-learn is missing; when fitting starts, if the data module
            cannot serve a sample, or the model has no projections.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        pictures: int = 1000,
        method: Method = "pca",
        thumbnails: bool = False,
        queries: int = 6,
        neighbours: int = 8,
        similarities: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("every_n_epochs", every_n_epochs, 1),
            ("pictures", pictures, 2),
            ("queries", queries, 0),
            ("neighbours", neighbours, 1),
        ):
            if value < least:
                raise InputError(f"{name} of EmbeddingPictures is {value}: choose {least} or more.")
        check_number("neighbours of EmbeddingPictures", neighbours, "trainer.callbacks.neighbours 8", most=100)
        check_number("seed of EmbeddingPictures", seed, "trainer.callbacks.seed 0", least=0, below=2**32)
        check_method(method)
        self.every_n_epochs, self.pictures, self.seed = every_n_epochs, pictures, seed
        self.method, self.thumbnails = method, thumbnails
        self.queries, self.neighbours, self.similarities = queries, neighbours, similarities
        self._loader: Iterable[Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the sample.

        Raises:
            InputError: if the data module has no ``sample_dataloader``, or the model no ``project``.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "sample_dataloader"):
            raise InputError(
                "EmbeddingPictures needs a data module with `sample_dataloader(split, pictures, views=...)`, as "
                f"SimCLRDataModule has; got {type(data).__name__}. Remove EmbeddingPictures from trainer.callbacks."
            )
        if self.similarities and not hasattr(pl_module, "project"):
            raise InputError(
                f"EmbeddingPictures draws similarities of projections; {type(pl_module).__name__} has no `project`: "
                "set similarities to false."
            )
        self._loader = data.sample_dataloader("train", self.pictures, views=self.similarities)
        if self._loader is None:
            rank_zero_warn("EmbeddingPictures has no pictures (a stream has no sample): it is idle.")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode and draw, where it is due."""
        if self._loader is None or trainer.fast_dev_run or not is_due(trainer, self.every_n_epochs):  # type: ignore[attr-defined]
            return
        sample = picture_sample(trainer, pl_module, self._loader, projections=self.similarities)
        if trainer.is_global_zero:
            self._draw(trainer, sample)

    def _draw(self, trainer: Trainer, sample: PictureSample) -> None:
        number = len(sample.targets)
        if number < 2 or not (sample.features.isfinite().all() and sample.projections.isfinite().all()):
            rank_zero_warn("EmbeddingPictures draws two or more pictures with finite features: there are none now.")
            return
        names = getattr(trainer.datamodule, "class_names", None)  # type: ignore[attr-defined]
        when, what = moment(trainer), f"{number:,} training pictures"
        found = two_dimensional(sample.features, self.method, seed=self.seed)
        shown = sample.thumbnails if self.thumbnails else None
        title = f"{when}: {found.name} of the features of {what}"
        image = draw_map(found, sample.targets, title=title, class_names=names, pictures=shown)
        log_picture(trainer, "embedding/map", image)
        if self.queries:
            chosen = choose_queries(sample.targets, self.queries, seed=self.seed)
            neighbours = nearest(sample.features, chosen, k=self.neighbours)
            title = f"{when}: nearest neighbours among {what}, by features"
            image = draw_neighbours(neighbours, sample.thumbnails, sample.targets, title=title, class_names=names)
            log_picture(trainer, "embedding/neighbours", image)
        if self.similarities:
            title = f"{when}: projections of two views each of {what}"
            log_picture(trainer, "embedding/similarities", draw_similarities(*sample.projections, title=title))
