"""What may be read as a file."""

from __future__ import annotations

import os
import stat


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise OSError of a pipe, a socket or a device, of which to read would wait for ever.

    What is missing, and links that lead nowhere, are left to whoever opens them.

    Example:
        >>> check_is_file(os.devnull)
        Traceback (most recent call last):
        OSError: it is a pipe, a socket or a device, and no file
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is a pipe, a socket or a device, and no file")
