"""Progressive resizing: small views first, which cost less, and full ones at the end."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.data import SimCLRDataModule
from simclr_lightning.errors import InputError
from simclr_lightning.views import ScheduledRecipe, ViewRecipe

_DIVISOR = 4  # of the sides in pixels


class ProgressiveResizing(Callback):
    """Raises the size of the views in equal steps over the run.

    The size is a function of the epoch alone, see :func:`view_size`: there is no state to save, all processes agree,
    and a resumed run follows the sizes and the length of run that are typed now. Views of all recipes grow by the same
    shares. What is drawn for a view does not depend on its size, but for the kernel of the blur, a tenth of it as
    always. Validation and clean pictures keep their sizes, learning rate, batch and BatchNorm are left alone. The size
    of the first recipe's views is logged as ``view_size``, once an epoch.

    The encoder has to take pictures of any size. At a new size ``compile_encoder`` compiles again, and cuDNN tries its
    algorithms again.

    Example:
        >>> callback = ProgressiveResizing(start=0.5, steps=2)
        >>> trainer = Trainer(max_epochs=10, callbacks=[callback], logger=False, accelerator="cpu")

    Args:
        start: first size, as a share of the recipe's ``size``.
        end: last size, likewise.
        steps: how often the size is raised, each time by as much.
        until: share of the run after which the last size is reached.
        epochs: length of the run that ``until`` is a share of; None: the Trainer's ``max_epochs``.

    Raises:
        InputError: if an argument is out of range; when fitting starts, if the data module is no ``SimCLRDataModule``,
            its ``engine`` is not ours, or the number of epochs is not known.

    Source: Howard's training of ImageNet for DAWNBench (2018); Tan and Le (2021), arXiv:2104.00298, section 4.2, raise
    the augmentation with the size, which is not done here; Bordes et al. (2023), arXiv:2303.01986, for SimCLR.
    """

    def __init__(
        self, start: float = 0.6, end: float = 1.0, steps: int = 4, until: float = 0.8, epochs: int | None = None
    ) -> None:
        super().__init__()
        if not 0 < start <= end <= 1:
            raise InputError(
                f"ProgressiveResizing: start is {start} and end is {end}. They are shares of the recipe's size: choose "
                "0 < start <= end <= 1."
            )
        if steps < 1:
            raise InputError(
                f"ProgressiveResizing: steps is {steps}: the size is raised once at least, choose 1 or more."
            )
        if not 0 < until < 1:
            raise InputError(f"ProgressiveResizing: until is {until}: choose a share of the run above 0 and below 1.")
        if epochs is not None and epochs < 1:
            raise InputError(f"ProgressiveResizing: epochs is {epochs}: choose 1 or more, or None for max_epochs.")
        self.start, self.end, self.steps, self.until, self.epochs = start, end, steps, until, epochs
        self._own: tuple[ViewRecipe, ...] = ()
        self._scheduled: tuple[ScheduledRecipe, ...] = ()
        self._logged: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the data module the sizes of all epochs, before its loaders are made."""
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, SimCLRDataModule):
            found = "there is no data module" if data is None else f"the data module is a {type(data).__name__}"
            raise InputError(
                f"ProgressiveResizing sets the size of the views that a SimCLRDataModule draws, but {found}. Call "
                "trainer.fit(model, datamodule=SimCLRDataModule(...)), or remove it from trainer.callbacks."
            )
        epochs = self.epochs or trainer.max_epochs
        if epochs is None or epochs < 0:
            raise InputError(
                "ProgressiveResizing raises the size by epochs, and the Trainer has no max_epochs: set it, or tell the "
                "epochs of the run, ProgressiveResizing(epochs=...)."
            )
        law: dict[str, Any] = {name: getattr(self, name) for name in ("start", "end", "steps", "until")}
        law["epochs"] = max(1, epochs)
        self._scheduled = tuple(
            ScheduledRecipe.of(recipe, [view_size(epoch, recipe.size, **law) for epoch in range(law["epochs"])])
            for recipe in data.recipes
        )
        smoke_test = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by one of its connectors
        if self._scheduled[0].sizes[-1] < view_size(epochs, self._scheduled[0].size, **law) and not smoke_test:
            rank_zero_warn(
                f"ProgressiveResizing: a run of {epochs} epoch(s) does not come to its last size, it ends with views "
                f"of {self._scheduled[0].sizes[-1]} pixels. Train longer, or choose a smaller until."
            )
        self._own = data.recipes
        data.use_recipes(self._scheduled)

    def summary(self) -> str:
        """The sizes of all recipes, and from which epochs on; for the summary of a run.

        Example:
            >>> ProgressiveResizing().summary()
            'not set yet'
        """
        told = []
        for recipe in self._scheduled:
            first = {size: epoch for epoch, size in reversed(list(enumerate(recipe.sizes)))}
            rising = sorted(first.items())
            told.append(", ".join(f"{size} from epoch {epoch}" for size, epoch in rising))
        return " / ".join(told) or "not set yet"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the size of the views; here, since no batch may be left of an epoch that is resumed."""
        size = float(self._scheduled[0].at(trainer.current_epoch).size)
        pl_module.log("view_size", size, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the data module as it was."""
        self._restore(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the data module as it was."""
        self._restore(trainer)

    def _restore(self, trainer: Trainer) -> None:
        data = getattr(trainer, "datamodule", None)
        if self._own and isinstance(data, SimCLRDataModule):
            data.use_recipes(self._own)
            self._own = ()


def view_size(
    epoch: int, size: int, *, epochs: int, start: float = 0.6, end: float = 1.0, steps: int = 4, until: float = 0.8
) -> int:
    """Side of the views of an epoch in pixels.

    The share of the full size rises from ``start`` in ``steps`` equal steps, at equal distances, and is ``end`` once
    ``until`` of the run is over. The side is rounded to a multiple of 4, unless all of it is wanted.

    Args:
        epoch: at least 0; after the run the size stays.
        size: full size, that of the recipe.
        epochs: length of the run, at least 1.
        start: first share, above 0.
        end: last share, at most 1.
        steps: how often it rises.
        until: share of the run after which it is ``end``.

    Returns:
        From 4 to ``size``, or ``size`` where that is less than 4.

    Example:
        >>> [view_size(epoch, 30, epochs=10) for epoch in range(10)]
        [20, 20, 20, 20, 24, 24, 28, 28, 30, 30]
    """
    rises = min(steps, math.floor(steps * epoch / (until * epochs) + 1e-9))  # 3 / (0.1 * 3) is less than 10
    share = end if rises == steps else start + (end - start) * rises / steps
    return size if share >= 1 else min(size, _DIVISOR * max(1, math.floor(share * size / _DIVISOR + 0.5)))
