"""The views of a data set: those that were asked for, or the preset that fits it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe


def resolved_recipes(views: Any, dataset: object, own: ViewRecipe) -> tuple[ViewRecipe, ...]:
    """What is typed for the views of a data set: a recipe, the name of a preset, or a list of them; None: its own.

    Example:
        >>> own = ViewRecipe("digits")
        >>> [recipe.preset for recipe in resolved_recipes(["digits", {"preset": "stl10"}], "digits", own)]
        ['digits', 'stl10']

    Args:
        views: recipes may be dictionaries, as checkpoints hold them.
        dataset: for messages.
        own: views that fit the pictures.

    Raises:
        InputError: if something is no recipe, or there is none.
    """
    if views is None:
        return (own,)
    if isinstance(views, str):
        return (ViewRecipe(views),)
    if not views:
        raise InputError("The list of view recipes is empty: give at least one", "data.views imagenet")
    given = views if isinstance(views, (list, tuple)) else [views]
    try:  # a checkpoint holds dictionaries
        recipes = tuple(recipe if isinstance(recipe, ViewRecipe) else ViewRecipe(**_named(recipe)) for recipe in given)
    except TypeError as error:
        raise InputError(f"{views!r} is no recipe of views: {error}", "data.views imagenet") from error
    if any(recipe.preset == "imagenet" != own.preset for recipe in recipes):
        rank_zero_warn(
            f"The views of {dataset} are based on imagenet, the default preset of a recipe; the preset for this data "
            f"set is {own.preset}: type --data.views.preset {own.preset}."
        )
    return recipes


def plain_recipes(recipes: Iterable[ViewRecipe]) -> dict[str, Any] | list[dict[str, Any]]:
    """Recipes as primitives, which checkpoints hold: one, or a list of several.

    Example:
        >>> plain_recipes([ViewRecipe("digits")])["crop_area"]
        [0.4, 1.0]
    """
    plain = [{key: list(v) if isinstance(v, tuple) else v for key, v in asdict(recipe).items()} for recipe in recipes]
    return plain if len(plain) > 1 else plain[0]


def _named(recipe: Any) -> dict[str, Any]:
    return {"preset": recipe} if isinstance(recipe, str) else recipe
