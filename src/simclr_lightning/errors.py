"""Errors that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


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
        message = str(self.args[0])
        return f"{message} ({' or '.join(f'--{option}' for option in self.options)})." if self.options else message


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
