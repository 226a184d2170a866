"""``ScheduledRecipe``: views whose size is another in every epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from simclr_lightning.errors import InputError
from simclr_lightning.views.draw import VALIDATION_EPOCH
from simclr_lightning.views.recipe import ViewRecipe


@dataclass(frozen=True)
class ScheduledRecipe(ViewRecipe):
    """A recipe that tells the size of its views by the epoch; all else stays.

    The epoch travels with every batch, so that workers which keep their copy of the recipe, other processes and resumed
    runs agree on the size without being told. Its own ``size`` is that of validation, and the largest.

    Example:
        >>> recipe = ScheduledRecipe.of(ViewRecipe(size=32), sizes=[24, 28, 32])
        >>> [recipe.at(epoch).size for epoch in (0, 1, 2, 9)], recipe.eval_size
        ([24, 28, 32, 32], 32)

    Args:
        sizes: Sides of the views in pixels, of one epoch after the other; the last stays.

    Raises:
        InputError: If there is no size, or one is below 1 or above ``size``.
    """

    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, recipe: ViewRecipe, sizes: list[int]) -> ScheduledRecipe:
        """The same views in other sizes.

        Args:
            recipe: What the views are.
            sizes: Sides of the views in pixels, of one epoch after the other.

        Example:
            >>> ScheduledRecipe.of(ViewRecipe("cifar10"), [16, 32]).at(0).eval_size
            32
        """
        return cls(**{**_values(recipe), "sizes": tuple(sizes)})

    def at(self, epoch: int) -> ViewRecipe:
        """The recipe of an epoch; that of validation has the full size.

        Example:
            >>> ScheduledRecipe.of(ViewRecipe("cifar10"), [16, 24]).at(1).size
            24
        """
        size = self.size if epoch == VALIDATION_EPOCH else self.sizes[min(epoch, len(self.sizes) - 1)]
        return ViewRecipe(**{**_values(self), "size": size})

    def _check(self) -> None:
        super()._check()
        if not self.sizes or min(self.sizes) < 1 or max(self.sizes) > self.size:
            raise InputError(
                f"The sizes of the epochs are {self.sizes}: give one at least, each from 1 to {self.size}."
            )


def _values(recipe: ViewRecipe) -> dict[str, Any]:
    return {field.name: getattr(recipe, field.name) for field in fields(ViewRecipe)}
