"""``ViewGrid``: a picture of what the network is fed, because a wrong augmentation is the commonest silent mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from simclr_lightning.callbacks.log_picture import log_picture, moment
from simclr_lightning.errors import InputError

_SMALLEST_SIDE = 96  # pixels of a view in the picture; smaller views are enlarged
_MARGIN = 22  # pixels of a line of text


class ViewGrid(Callback):
    """Draws the views of a training batch: each column is one picture, each row one random view of it.

    The picture goes to ``<run folder>/pictures/<filename>/epoch=<epoch>-step=<step>.png``, and to every logger that
    takes pictures, by :func:`log_picture`. It shows the views exactly as the network gets them: only a normalisation by
    the recipes in ``trainer.datamodule.recipes`` is undone, and what then lies outside [0, 1] is clipped and reported.
    Of channels that were normalised by themselves the mean is shown half bright. Other numbers of channels than 1 and 3
    are shown in false colour. Nothing is drawn in a ``fast_dev_run``.

    Example:
        >>> trainer = Trainer(callbacks=[ViewGrid(num_pictures=4)], accelerator="cpu", logger=False)
        >>> draw_views([torch.rand(2, 4, 3, 96, 96)], title="Epoch 0").height  # two rows, four columns
        220

    Args:
        num_pictures: columns, at most as many as this process has in its batch.
        every_n_epochs: draw the first batch of every n-th epoch as well. None: the first batch of the fit only (a
            resumed one is a fit of its own: it may be fed otherwise).
        filename: name of the folder, and of the picture in the loggers.

    Raises:
        InputError: if a number is smaller than 1.
    """

    def __init__(self, num_pictures: int = 8, every_n_epochs: int | None = None, filename: str = "views") -> None:
        super().__init__()
        if num_pictures < 1:
            raise InputError(f"num_pictures is {num_pictures}: the grid needs at least one column.")
        if every_n_epochs is not None and every_n_epochs < 1:
            raise InputError(f"every_n_epochs is {every_n_epochs}: choose 1 or more, or None for the first batch only.")
        self.num_pictures = num_pictures
        self.every_n_epochs = every_n_epochs
        self.filename = filename
        self._drawn_epoch: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier fit."""
        self._drawn_epoch = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw the batch if it is the first of the fit, or of an epoch that is due.

        Raises:
            InputError: if the batch has no ``views``, each (V, N, C, H, W).
        """
        if trainer.fast_dev_run or not self._is_due(trainer.current_epoch):  # type: ignore[attr-defined]
            return
        views = getattr(batch, "views", None)
        if not (isinstance(views, (tuple, list)) and views and all(map(_are_views, views))):
            found = f"{type(batch).__name__}" + ("" if views is None else f" whose views are {_describe(views)}")
            raise InputError(
                "ViewGrid draws batches with `views`, each of shape (V, N, C, H, W), such as SimCLRDataModule's "
                f"ViewBatch; this training batch is a {found}. Return a ViewBatch, or remove ViewGrid from "
                "trainer.callbacks."
            )
        if trainer.is_global_zero:
            self._draw(trainer, views)
        self._drawn_epoch = trainer.current_epoch

    def _is_due(self, epoch: int) -> bool:
        if self._drawn_epoch is None:
            return True
        return self.every_n_epochs is not None and epoch != self._drawn_epoch and epoch % self.every_n_epochs == 0

    def _draw(self, trainer: Trainer, views: Sequence[Tensor]) -> None:
        recipes = getattr(getattr(trainer, "datamodule", None), "recipes", ())
        shown = [
            undo_normalisation(own[:, : self.num_pictures], *normalisation_of(recipe))
            for own, recipe in zip_longest(views, recipes[: len(views)])
        ]
        path = log_picture(trainer, self.filename, draw_views(shown, title=moment(trainer)))
        if self._drawn_epoch is None:
            low, high = min(own.min().item() for own in shown), max(own.max().item() for own in shown)
            clipped = "" if low >= -0.01 and high <= 1.01 else f" Their values, [{low:.2f}, {high:.2f}], were clipped."
            rank_zero_info(f"Random views of each of the first pictures: {path}.{clipped}")


def undo_normalisation(views: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
    """Views as they were before ``(view - mean) / std``.

    Args:
        views: (V, N, C, H, W) floating-point.
        mean: C or 1 numbers, or None if there was no normalisation.
        std: likewise.

    Returns:
        (V, N, C, H, W) float32 on the CPU.

    Example:
        >>> undo_normalisation(torch.zeros(2, 1, 3, 4, 4), mean=(0.5,), std=(0.25,)).unique()
        tensor([0.5000])
    """
    views = views.detach().float().cpu()
    if mean is None or std is None:
        return views
    return views * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)


def normalisation_of(recipe: object) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation by which views are shown.

    Args:
        recipe: a ``ViewRecipe``, or None where there is none.

    Example:
        >>> from simclr_lightning.views import ViewRecipe
        >>> normalisation_of(ViewRecipe("microscopy"))
        ((0.5,), (0.2,))
    """
    if getattr(recipe, "normalize", "recipe") == "picture":
        return (0.5,), (0.2,)
    return getattr(recipe, "mean", None), getattr(recipe, "std", None)


def draw_views(views: Sequence[Tensor], *, title: str) -> Image.Image:
    """Picture of a grid: column n holds the views of picture n, one below the other.

    Args:
        views: (V, N, C, H, W) float32 each, one block of rows for each; values outside [0, 1] are clipped. Of 1
            channel: grey; of 3: RGB; of others: in false colour, which the picture says.
        title: begins the line of text above the grid.

    Example:
        >>> draw_views([torch.rand(2, 4, 1, 96, 96), torch.rand(1, 4, 1, 48, 48)], title="Epoch 0").height  # three rows
        320
    """
    channels = views[0].shape[2]
    grids = [_grid(false_colour(own).clamp(0, 1)) for own in views]
    sizes = " and ".join(dict.fromkeys(f"{own.shape[3]} x {own.shape[4]}" for own in views))
    text = f"{title}: each column is one picture, each row one random view of it ({sizes} pixels)"
    if channels not in (1, 3):
        text += f"; {channels} channels in false colour, the first blue, the last red"
    text_width = math.ceil(ImageDraw.Draw(grids[0]).textlength(text)) + 2 * _MARGIN
    wide = max(text_width, *(grid.width + _MARGIN for grid in grids))
    image = Image.new("RGB", (wide, sum(grid.height for grid in grids) + _MARGIN), "white")
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN, _MARGIN // 4), text, fill="black")
    top, number = _MARGIN, 1
    for grid, own in zip(grids, views, strict=True):
        image.paste(grid, (_MARGIN, top))
        for row in range(len(own)):
            middle = top + (row + 0.5) * grid.height / len(own)
            pen.text((_MARGIN // 3, middle), str(number + row), fill="black", anchor="lm")
        top, number = top + grid.height, number + len(own)
    return image


def false_colour(views: Tensor) -> Tensor:
    """Channels as colours, in their order: the first blue, those in the middle green, the last red.

    Blue, green and red are weighted means of channels, with weights that fall linearly from where the colour stands:
    with bands in the order of their wavelengths, short ones are blue and long ones red.

    Args:
        views: (..., C, H, W).

    Returns:
        (..., 3, H, W); of 1 or 3 channels the views as they are.

    Example:
        >>> false_colour(torch.arange(5.0).view(5, 1, 1)).flatten()
        tensor([3.6667, 2.0000, 0.3333])
    """
    channels = views.shape[-3]
    if channels in (1, 3):
        return views
    place = torch.linspace(0, 2, channels)
    weights = (1 - (place - torch.tensor([[2.0], [1.0], [0.0]])).abs()).clamp_(0)  # of red, green and blue
    weights = weights / weights.sum(1, keepdim=True).clamp_(1e-6)  # of two channels none is green
    return torch.einsum("kc,...chw->...khw", weights.to(views), views)


def _grid(views: Tensor) -> Image.Image:
    """(V, N, C, H, W) in [0, 1]; enlarged by whole pixels, so that nothing is smoothed away."""
    enlargement = math.ceil(_SMALLEST_SIDE / min(views.shape[-2:]))
    pixels = views.repeat_interleave(enlargement, -1).repeat_interleave(enlargement, -2)
    image: Image.Image = to_pil_image(make_grid(pixels.flatten(0, 1), nrow=views.shape[1], pad_value=1.0))
    return image


def _are_views(views: object) -> bool:
    return isinstance(views, Tensor) and views.ndim == 5


def _describe(value: Any) -> str:
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], Tensor):
        value = value[0]
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
