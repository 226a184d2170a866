"""The options of ``simclr ablate``: what is left out, what is typed back, and advice that names them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from simclr_lightning.data.datasets import find
from simclr_lightning.data.folder import find_splits
from simclr_lightning.views import ViewRecipe

_SIZE = 32
_HELD_OUT = 0.2


def resolved_recipe(views: ViewRecipe | str | None, dataset: str) -> ViewRecipe:
    """The recipe that is typed, or the data set's own on views of at most 32 pixels."""
    if isinstance(views, ViewRecipe):
        return views
    if isinstance(views, str):
        return ViewRecipe(views)
    recipe = find(dataset).recipe
    size = min(recipe.size, _SIZE)
    return replace(recipe, size=size, eval_size=size)


def default_val_fraction(dataset: str, root: str | Path, probe: str | Path | None) -> float:
    """Share of the labels to hold out: 0 where a folder has validation pictures of its own, otherwise a fifth.

    The data module would take test pictures for want of others; a study chooses, so it must not.
    """
    folders = [root] * (dataset == "folder") + [probe] * (probe is not None)
    return 0.0 if any("val" in find_splits(str(folder)) for folder in folders) else _HELD_OUT


@contextmanager
def own_options() -> Iterator[None]:
    """The data module's advice names options of ``simclr fit``; here they have no prefix."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        if "--data." not in str(error):
            raise
        raise type(error)(str(error).replace("--data.", "--")) from error


def command_line(typed: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The command that asks for the same, without what goes without saying.

    Args:
        typed: values of the options.
        defaults: values that need not be typed.
    """
    words = ["simclr", "ablate"]
    for name, value in typed.items():
        if isinstance(value, ViewRecipe):
            words += _recipe_options(value)
        elif value != defaults[name]:
            words += [f"--{name}", _text(value)]
    return shlex.join(words)


def _recipe_options(recipe: ViewRecipe) -> list[str]:
    preset = replace(ViewRecipe(recipe.preset), size=recipe.size, eval_size=recipe.size)
    words = ["--views.preset", recipe.preset]
    if recipe.size != ViewRecipe(recipe.preset).size:
        words += ["--views.size", str(recipe.size)]
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value != getattr(preset, field.name):
            words += [
                f"--views.{field.name}",
                f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else _text(value),
            ]
    return words


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
