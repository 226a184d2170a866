"""Errors that a user can mend."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object) -> str:
    r"""Text as a terminal may show it: what would move its cursor, or turn its words round, is written out.

    Names of files, classes and tensors may hold anything. Lines and tabs stay.

    Example:
        >>> print(shown("a\x1b[2J.jpg"))
        a\x1b[2J.jpg
    """
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


class InputError(ValueError):
    """A value that was typed, a file that was named or data that were given do not fit.

    The message has at most three lines: it names the value, what was expected, and what to do. The command line shows
    it without a traceback, wherever it was raised.

    Args:
        message: of the error.
        options: what to type, as ``simclr fit`` has it, but for the dashes; they end the message. Needed where other
            commands have the same options under other names, see :func:`options_without`.

    Example:
        >>> raise InputError("batch_size is 0: choose 1 or more", "data.batch_size 256")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: batch_size is 0: choose 1 or more (--data.batch_size 256).
    """

    def __init__(self, message: str, *options: str) -> None:
        super().__init__(message)
        self.options = options

    def __str__(self) -> str:
        message = shown(self.args[0])
        return (
            f"{message} ({' or '.join(f'--{shown(option)}' for option in self.options)})." if self.options else message
        )


class MissingFileError(InputError, FileNotFoundError):
    """A file or a folder that was named does not exist.

    Example:
        >>> raise MissingFileError("There is no file lsat.ckpt: correct it", "ckpt_path last.ckpt")
        Traceback (most recent call last):
        simclr_lightning.errors.MissingFileError: There is no file lsat.ckpt: correct it (--ckpt_path last.ckpt).
    """


class ExistingFileError(InputError, FileExistsError):
    """A file that was named exists, and is not overwritten.

    Example:
        >>> raise ExistingFileError("features.npz exists: name another file", "output other.npz")
        Traceback (most recent call last):
        simclr_lightning.errors.ExistingFileError: features.npz exists: name another file (--output other.npz).
    """


class MissingPackageError(InputError, ImportError):
    """What was asked for needs a package that is not installed.

    Example:
        >>> raise MissingPackageError("The format onnx needs onyx: pip install onyx")
        Traceback (most recent call last):
        simclr_lightning.errors.MissingPackageError: The format onnx needs onyx: pip install onyx
    """


def check_number(
    name: str,
    value: float | None,
    *options: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise InputError unless a number is finite and in its range; None stands for a number that was not given.

    Args:
        name: of the number, as it is typed.
        value: the number.
        options: what to type, as :class:`InputError` takes it.
        least: lower end, itself allowed.
        above: lower end, itself not allowed.
        most: upper end, itself allowed.
        below: upper end, itself not allowed.

    Raises:
        InputError: naming the number, its value and the range.

    Example:
        >>> check_number("momentum", 1.5, "model.momentum 0.9", least=0, below=1)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: momentum is 1.5: choose a number of at least 0 and below 1 \
(--model.momentum 0.9).
    """
    fits = value is None or (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
        and (isinstance(value, int) or math.isfinite(value))
    )
    if fits:
        return
    ends = {"of at least": least, "above": above, "of at most": most, "below": below}
    words = [f"{word} {end:,}" for word, end in ends.items() if end is not None]
    told = " and ".join(words).replace("and of at most", "and at most")
    raise InputError(f"{name} is {value}: choose a {'' if words else 'finite '}number {told}".rstrip(), *options)


def check_exists(option: str, path: str | os.PathLike[str]) -> None:
    """Raise unless there is a file or a folder of this name.

    Args:
        option: that names it, without dashes.
        path: of the file or the folder.

    Raises:
        MissingFileError: if there is none.

    Example:
        >>> check_exists("data.pairs", "no/such.csv")
        Traceback (most recent call last):
        simclr_lightning.errors.MissingFileError: pairs is 'no/such.csv', and there is no such file: correct its name \
(--data.pairs).
    """
    try:
        there = Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # a name too long, or with a null character, or of nobody's home
        there = False
    if not there:
        name = option.rpartition(".")[2]
        raise MissingFileError(f"{name} is {os.fspath(path)!r}, and there is no such file: correct its name", option)


def check_folder(name: str, path: str | os.PathLike[str] | None, *options: str) -> None:
    """Raise unless a folder is there or can be made: nothing above it, nor itself, may be a file.

    Args:
        name: of the argument.
        path: of the folder; None where none was named.
        options: what to type, as :class:`InputError` takes it.

    Raises:
        ExistingFileError: naming the file in its place.

    Example:
        >>> check_folder("output", "new/folder", "output")
    """
    if path is None:
        return
    for part in (Path(path), *Path(path).parents):
        if part.exists() and not part.is_dir():
            raise ExistingFileError(
                f"{name} is {os.fspath(path)!r}, and {os.fspath(part)!r} is a file: name a folder", *options
            )


@contextmanager
def options_without(prefix: str) -> Iterator[None]:
    """Let errors name options as commands have them that do without a prefix: ``--root`` for ``--data.root``.

    Example:
        >>> with options_without("data."):
        ...     raise InputError("There is no folder 'photo': correct its name", "data.root")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no folder 'photo': correct its name (--root).
    """
    try:
        yield
    except InputError as error:
        error.options = tuple(option.removeprefix(prefix) for option in error.options)
        raise


def require_packages(purpose: str, packages: Iterable[str]) -> None:
    """Make sure that optional packages can be imported, before anything is computed.

    Args:
        purpose: what needs them.
        packages: names by which they are both imported and installed.

    Raises:
        MissingPackageError: if one of them is not there; it names all that are not.

    Example:
        >>> require_packages("The format onnx", ["torch", "onyx"])
        Traceback (most recent call last):
        simclr_lightning.errors.MissingPackageError: The format onnx needs onyx: pip install onyx
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingPackageError(f"{purpose} needs {', '.join(missing)}: pip install {' '.join(missing)}")
