"""No import runs upwards, and no private name of another package is used where it need not be."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "simclr_lightning"
FLOORS = (  # from the top; docs/architecture.md draws them
    {"console"},
    {"cli"},
    {"completion", "short_help"},
    {"commands"},
    {"run_report"},
    {"before_start", "doctor", "option_errors", "recipe_files", "unchanged"},
    {"ablation", "default_callbacks", "describe", "embed", "encoder_list", "export", "resuming", "run_config"},
    {"evaluation", "trackers"},
    {"classifiers"},
    {"simclr", "callbacks"},
    {"agreement"},
    {"features", "data"},
    {"checkpoints", "drawing"},
    {"metrics", "models"},
    {"losses", "views", "optim", "trainer_checks"},
    {"config_files", "distributed", "precision", "compat", "loop_progress", "command_line", "stages", "versions"},
    {"errors"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(SOURCE.rglob("*.py"))
THEIRS = ("lightning", "torchmetrics", "jsonargparse")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_at_once(path: Path) -> Iterator[tuple[str, str]]:
    """What is imported when the file is, neither within a function nor for types alone."""
    yield from imported(path, ast.parse(path.read_text()).body)


def imported(path: Path, nodes: Iterable[ast.stmt] | None = None) -> Iterator[tuple[str, str]]:
    """Modules and names."""
    for node in ast.walk(ast.parse(path.read_text())) if nodes is None else nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_down(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for module, name in imported(path):
        package, _, inner = module.partition(".")
        other = inner.partition(".")[0] or name
        if package == "simclr_lightning" and other not in (room, ""):
            assert FLOOR[other] > FLOOR[room], f"{room} imports {other}"


def test_no_file_needs_itself() -> None:
    """A circle of imports breaks or not by which of its files comes first; floors allow one within a room alone."""
    names = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    needs = {
        name: {other for pair in imported_at_once(path) for other in (pair[0], ".".join(pair)) if other in names}
        for name, path in names.items()
    }
    assert sum(map(len, needs.values())) > len(names)
    TopologicalSorter(needs).prepare()


def test_the_picture_of_the_rooms_shows_them() -> None:
    root = SOURCE.parents[1]
    drawn = runpy.run_path(str(root / "docs/theme/draw_rooms.py"))["drawn"](FLOORS)
    assert (root / "docs/images/rooms.svg").read_text() == drawn, "python docs/theme/draw_rooms.py"


def test_only_the_command_line_imports_the_whole_package() -> None:
    """It looks public classes up by name."""
    assert {room_of(path) for path in FILES if ("simclr_lightning", "") in set(imported(path))} == {"cli"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_private_names_of_others(path: Path) -> None:
    if path.name == "compat.py":
        return
    for module, name in imported(path):
        if module.partition(".")[0] in THEIRS:
            assert not any(part.startswith("_") for part in (*module.split("."), name)), f"{module}.{name}"


def test_no_two_rooms_have_files_of_one_name() -> None:
    names = [path.name for path in FILES if path.name not in ("__init__.py", "__main__.py")]
    folders = [path.name for path in SOURCE.iterdir() if path.is_dir()]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice
    inside = {name.removesuffix(".py") for name in names} & set(folders)
    assert inside <= {"embed", "export"}, "a file is called like another room"


def test_files_fit_in_a_head() -> None:
    lengths = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
