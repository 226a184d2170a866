"""``InputError``: what a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """A value that was typed, a file that was named or data that were given do not fit.

    The message has at most three lines: it names the value, what was expected, and what to do. The command line shows
    it without a traceback, wherever it was raised.

    Example:
        >>> raise InputError("batch_size is 0: choose 1 or more (--data.batch_size 256).")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: batch_size is 0: choose 1 or more (--data.batch_size 256).
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or a folder that was named does not exist."""
