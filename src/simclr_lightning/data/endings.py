"""Which files are pictures: by their endings, and by their first bytes where they have none."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

try:
    from pillow_heif import register_heif_opener  # of the extra "heic"

    register_heif_opener()
except ImportError:
    pass

ENDINGS: dict[str, str | None] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib")),
    **dict.fromkeys((".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".avif")),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c")),
    **dict.fromkeys((".heic", ".heif"), "pillow_heif"),
}
"""Endings of the files that are read, in lower case, and the package that reads them where Pillow does not."""

PACKAGES = {"pillow_heif": "pillow-heif"}
"""By which name a package is installed, where it is not the one by which it is imported."""

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
    (0, b"BM", ".bmp"),
    *((0, f"P{number}{space}".encode(), ".ppm") for number in range(1, 7) for space in " \n\t\r"),
)


def ending_of(name: str) -> str:
    """Ending of a file's name in lower case, with its dot; "" where there is none, or only numbers: IM0001, 1.2.840.

    Example:
        >>> ending_of("a.tmp.JPEG"), ending_of("IM0001"), ending_of("1.2.840.10008")
        ('.jpeg', '', '')
    """
    ending = os.path.splitext(name)[1].lower()
    return "" if ending[1:].isdigit() or ending == "." else ending


def ending_by_content(path: str | os.PathLike[str]) -> str:
    """The ending that a file should have by its first bytes; "" where these are those of no picture.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Image.new("L", (2, 2)).save(f"{folder}/scan", "PNG")
        ...     ending_by_content(f"{folder}/scan"), ending_by_content(f"{folder}/nowhere")
        ('.png', '')
    """
    try:
        with Path(path).open("rb") as file:
            first = file.read(32)
    except OSError:
        return ""
    for start, signature, ending in _FIRST_BYTES:
        if first[start : start + len(signature)] == signature:
            return ending
    return ""


@cache
def missing_for(ending: str) -> str | None:
    """What is missing to read files of such an ending; None where they are read.

    Example:
        >>> missing_for(".jpg"), missing_for(".txt")
        (None, 'no picture')
    """
    if ending not in ENDINGS:
        return "no picture"
    package = ENDINGS[ending]
    if package is not None:
        return None if find_spec(package) else f"needs pip install {PACKAGES.get(package, package)}"
    Image.init()
    known = Image.registered_extensions().get(ending) in Image.OPEN
    return None if known else "not read by the installed Pillow"


def is_picture(name: str, path: Callable[[], str]) -> bool:
    """Whether a file is read as a picture.

    Args:
        name: of the file.
        path: tells where it is; called only for names without an ending, whose files are opened.

    Example:
        >>> is_picture("a.JPG", lambda: "a.JPG"), is_picture("notes.txt", lambda: "notes.txt")
        (True, False)
    """
    return missing_for(ending_of(name) or ending_by_content(path())) is None
