"""Every public class and function shows an example; pytest runs it (--doctest-modules)."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import simclr_lightning


def public_names() -> dict[str, Any]:
    """Where it stands -> every class and function in an ``__all__`` of this package."""
    modules = [module.name for module in pkgutil.walk_packages(simclr_lightning.__path__, "simclr_lightning.")]
    found = {}
    for module in (importlib.import_module(name) for name in ("simclr_lightning", *modules) if "__main__" not in name):
        for value in (getattr(module, name) for name in getattr(module, "__all__", ())):
            if inspect.isclass(value) or inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def test_every_public_name_has_an_example() -> None:
    names = public_names()
    assert len(names) > 50
    without = [name for name, value in names.items() if not re.search(r"\n *Example:\n +>>> ", value.__doc__ or "")]
    assert not without, "\n".join(without)
