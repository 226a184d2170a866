"""The site: every public name has its entry in the API, and every page its place."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import simclr_lightning

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/simclr_lightning"
ENTRIES = re.findall(r"^::: (\S+)", (ROOT / "docs/api.md").read_text(), flags=re.MULTILINE)
ROOMS = [path.parent for path in sorted(SOURCE.glob("*/__init__.py")) if "__all__" in path.read_text()]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_public_name_of_a_room_has_an_entry(room: Path) -> None:
    module = f"simclr_lightning.{room.name}"
    assert module in ENTRIES
    public = importlib.import_module(module)
    for name in public.__all__:
        if (room / f"{name}.py").exists():  # the generator takes it for the file
            assert f"{module}.{name}.{name}" in ENTRIES
        value = getattr(public, name)
        if not (inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value)):
            assert any(name in told(path) for path in SOURCE.rglob("*.py")), f"{module}.{name} has no docstring"


def test_every_name_of_the_package_has_an_entry() -> None:
    of_rooms = {name for room in ROOMS for name in importlib.import_module(f"simclr_lightning.{room.name}").__all__}
    for name in set(simclr_lightning.__all__) - {"__version__"}:
        assert name in of_rooms or f"simclr_lightning.{name}" in ENTRIES


def told(path: Path) -> set[str]:
    """Names of a file that are assigned, with a docstring below."""
    body = ast.parse(path.read_text()).body
    found: set[str] = set()
    for first, second in pairwise(body):
        match first, second:
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant()):
                found.add(name)
    return found


def pages(entries: Any) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from pages(value)


def test_every_page_has_its_place() -> None:
    named = set(pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    notebooks = {str(page.relative_to(ROOT).with_suffix(".md")) for page in (ROOT / "docs").glob("*.ipynb")}
    assert notebooks == {"docs/tutorial.md"}  # which `make docs` writes
    assert all((ROOT / page).exists() for page in named - notebooks)
    docs = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")} | notebooks
    assert docs - named == {"docs/index.md"}  # the README is the first page
    copied = re.search(r"cp -r (.*) build/pages", (ROOT / "Makefile").read_text())
    assert copied is not None
    assert {page.partition("/")[0] for page in named} <= set(copied[1].split())
