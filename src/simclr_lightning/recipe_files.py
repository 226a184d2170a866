"""The recipes that come with the package: the YAML files of ``experiments/``, by name, wherever it is installed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from simclr_lightning.errors import ExistingFileError, InputError

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "experiments", _HERE.parents[1] / "experiments")  # of an installed package, and of a clone
_OPTIONS = ("--config", "-c")
_COMMAND = re.compile(r"#\s+((?:simclr|wandb) \S+ .*)")
_SWEEPS = "sweeps/"  # of W&B: they call simclr, which does not read them


def recipes() -> dict[str, Path]:
    """The files by their names, ``quickstart`` or ``cifar10/cpu``.

    Example:
        >>> recipes()["cifar10/cpu"].name
        'cpu.yaml'
    """
    return {name: path for name, path in _files().items() if not name.startswith(_SWEEPS)}


def sweeps() -> dict[str, Path]:
    """The sweeps of W&B that come with the package, by their names.

    Example:
        >>> list(sweeps())
        ['sweeps/augmentation', 'sweeps/temperature_rate_batch']
    """
    return {name: path for name, path in _files().items() if name.startswith(_SWEEPS)}


def _files() -> dict[str, Path]:
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if folder is None:
        return {}
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.relative_to(folder).parts), path))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: ``cifar10/cpu``; the file's name, ``experiments/cifar10/cpu.yaml``, is understood, too.

    Raises:
        InputError: if there is none; it names those that are spelled alike.

    Example:
        >>> find_recipe("experiments/quickstart.yaml").name
        'quickstart.yaml'
        >>> find_recipe("quikstart")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no file 'quikstart' and no recipe of this name: did you mean \
quickstart? `simclr recipes` lists all.
    """
    known, short = recipes(), _short(name)
    if short in known:
        return known[short]
    if short in sweeps():
        file = sweeps()[short].name
        raise InputError(
            f"{name!r} is a sweep of W&B, which calls simclr: simclr init {short}, then wandb sweep {file}"
        )
    alike = difflib.get_close_matches(short, known, n=3, cutoff=0.7)
    meant = f"did you mean {' or '.join(alike)}? " if alike else ""
    raise InputError(f"There is no file {name!r} and no recipe of this name: {meant}`simclr recipes` lists all.")


def _short(name: str) -> str:
    return name.removeprefix("./").removeprefix("experiments/").removesuffix(".yaml").removesuffix(".yml")


def with_recipes(words: Sequence[str]) -> list[str]:
    """Replace names of recipes by their files, where ``--config`` takes them; a file of that name comes first.

    Args:
        words: of the command line.

    Raises:
        InputError: as :func:`find_recipe`.

    Example:
        >>> words = with_recipes(["fit", "--config", "quickstart", "--config=cifar10/cpu"])
        >>> [Path(word).name for word in words]
        ['fit', '--config', 'quickstart.yaml', 'cpu.yaml']
    """
    return list(_replaced(words))


def _replaced(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        option, equals, value = word.partition("=")
        if before in _OPTIONS:
            yield _file(word)
        elif option in _OPTIONS and equals:
            yield f"{option}={_file(value)}"
        else:
            yield word
        before = "" if before in _OPTIONS else word


def _file(name: str) -> str:
    """Of a configuration as it was typed; YAML text itself, which a parser takes, too, has a colon or a line's end."""
    if Path(name).is_file() or any(mark in name for mark in ":{\n") or name in ("", "-", "null"):
        return name
    return str(find_recipe(name))


def list_recipes(folder: str = "") -> None:
    """List the recipes that come with the package, with a line each.

    ``simclr fit --config NAME`` runs one, several ``--config`` are read one over the other, and ``simclr init NAME``
    writes one into a file to edit.

    Args:
        folder: only those whose names begin so, such as cifar10. Parts of recipes are listed if they are asked for so.

    Raises:
        InputError: if there are none.

    Example:
        >>> list_recipes("quickstart_l")
        quickstart_linear  Linear evaluation of the encoder that quickstart.yaml pre-trains: a few seconds on one CPU \
core.
    """
    known = {name: path for name, path in recipes().items() if name.startswith(folder)}
    if not known:
        raise InputError(f"No recipe begins with {folder!r}: `simclr recipes` lists all.")
    shown = {name: path for name, path in known.items() if folder or name.count("/") < 2}
    width = max(map(len, shown))
    for name, path in shown.items():
        print(f"{name:<{width}}  {_first_sentence(path)}")
    parts = sorted({name.rpartition("/")[0] for name in known.keys() - shown.keys()})
    if not folder:
        print(f"\nSweeps of W&B, to be written by `simclr init NAME`: {', '.join(sweeps())}")
    if parts:
        print(f"\nParts that are read over others: {', '.join(f'`simclr recipes {part}`' for part in parts)}")


def write_recipe(name: str, output: str | None = None) -> None:
    """Write a recipe into a file of your own, to edit; nothing is overwritten.

    Args:
        name: of the recipe, such as folder, or of a sweep; ``simclr recipes`` lists them.
        output: file to write; by default the name of the recipe in the current folder.

    Raises:
        InputError: if there is no such recipe.
        ExistingFileError: if the file exists.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_recipe("folder", f"{folder}/mine.yaml")  # doctest: +ELLIPSIS
        Wrote .../mine.yaml. Edit it, then: simclr fit --config .../mine.yaml --data.root PHOTOS
    """
    source = sweeps().get(_short(name)) or find_recipe(name)
    file = Path(output or source.name)
    if file.exists():
        raise ExistingFileError(f"{file} exists, and is not overwritten: name another file", "output other.yaml")
    text = source.read_text().replace(f"experiments/{_name_of(source)}.yaml", str(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    command = next((found[1] for line in text.splitlines() if (found := _COMMAND.match(line))), "")
    typed = command if str(file) in command else f"simclr fit --config {file}"
    print(f"Wrote {file}. Edit it, then: {typed}")


def _first_sentence(file: Path) -> str:
    """Of the comment that a recipe begins with."""
    lines = takewhile(lambda line: line.startswith("# ") and not _COMMAND.match(line), file.read_text().splitlines())
    text = " ".join(line.removeprefix("# ") for line in lines)
    return re.split(r"(?<=[a-z0-9)][.])\s(?=[A-Z])", text)[0]


def _name_of(file: Path) -> str:
    return next(name for name, path in _files().items() if path == file)
