"""What kind of file it is: by the ending of its name, and by its first bytes where it has none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FIRST_BYTES: tuple[tuple[int, bytes, str], ...] = (  # where, what, and whose it is
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", ".jp2"),
    (0, b"\xff\x4f\xff\x51", ".j2k"),
    (4, b"ftypavif", ".avif"),
    (4, b"ftypheic", ".heic"),
    (4, b"ftypheix", ".heic"),
    (4, b"ftypmif1", ".heic"),
    (128, b"DICM", ".dcm"),
    (0, b"SIMPLE  =", ".fits"),
    (0, b"BM", ".bmp"),
    *((0, f"P{number}{space}".encode(), ".ppm") for number in range(1, 7) for space in " \n\t\r"),
)
_LOOKED_AT = 132  # bytes


def ending_of(name: str) -> str:
    """Ending of a file's name in lower case, with its dot; "" where there is none, or only numbers: IM0001, 1.2.840.

    Example:
        >>> ending_of("a.tmp.JPEG"), ending_of("m31.fits.gz"), ending_of("IM0001"), ending_of("1.2.840.10008")
        ('.jpeg', '.fits.gz', '', '')
    """
    if name.lower().endswith(".fits.gz"):
        return ".fits.gz"
    ending = os.path.splitext(name)[1].lower()
    return "" if ending[1:].isdigit() or ending == "." else ending


def ending_by_content(path: str | os.PathLike[str], content: bytes | None = None) -> str:
    """The ending that a file should have by its first bytes; "" where these are those of no picture.

    Args:
        path: of the file.
        content: its bytes where they are at hand.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (2, 2)).save(f"{folder}/scan", "PNG")
        ...     ending_by_content(f"{folder}/scan"), ending_by_content(f"{folder}/nowhere")
        ('.png', '')
    """
    try:
        if content is None:
            if not Path(path).is_file():  # of a pipe, to read would wait for ever
                return ""
            with Path(path).open("rb") as file:
                content = file.read(_LOOKED_AT)
    except OSError:
        return ""
    for start, signature, ending in _FIRST_BYTES:
        if content[start : start + len(signature)] == signature:
            return ending
    return ""


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
