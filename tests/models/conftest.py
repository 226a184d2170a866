"""Modules of the packages that the tests compare with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

PEERS = Path(sys.prefix, "peers")


class PeerFinder:
    """Finds modules of the peers, and leaves out what their packages import before.

    That is everything they have, down to training scripts and downloads, for which they require old releases of others.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        place = PEERS.joinpath(*name.split("."))
        if name.split(".", maxsplit=1)[0] not in self.names:
            return None
        match name.split(".", maxsplit=1)[0]:
            case "einops" if place.is_dir():
                return spec_from_file_location(name, place / "__init__.py")
            case "lightly" | "pl_bolts" | "solo" if place.is_dir():
                spec = ModuleSpec(name, None, is_package=True)
                spec.submodule_search_locations = [str(place)]
                return spec
            case "einops" | "lightly" | "pl_bolts" | "solo" if place.with_suffix(".py").is_file():
                return spec_from_file_location(name, place.with_suffix(".py"))
        return None


@pytest.fixture(scope="module")
def peer() -> Iterator[Callable[[str], Any]]:
    """Imports a module of a peer: lightning-bolts from where it is installed, if it is (the extra bolts)."""
    assert PEERS.is_dir(), (
        "The peers are missing: make setup, or pip install --no-deps --target "
        f"{PEERS} --requirement {Path(__file__).with_name('peers.txt')}"
    )

    def quietly(name: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that each of its parts is under review, and what is deprecated there
            return import_module(name)

    names = {"einops", "lightly", "solo"} | (set() if find_spec("pl_bolts") else {"pl_bolts"})
    with pytest.MonkeyPatch.context() as context:
        context.setattr(sys, "meta_path", [PeerFinder(names), *sys.meta_path])
        if "pl_bolts" in names:
            quietly("pl_bolts.utils")._TORCHVISION_AVAILABLE = True  # left out, too
        yield quietly
    for name in [name for name in sys.modules if name.split(".")[0] in names]:
        del sys.modules[name]
