"""Which files are read as pictures, and what is needed for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

from PIL import Image

from simclr_lightning.data.first_bytes import ending_by_content, ending_of
from simclr_lightning.data.readers import READERS

try:
    from pillow_heif import register_heif_opener  # of the extra "heic"

    register_heif_opener()
except ImportError:
    pass

ENDINGS: dict[str, tuple[str, tuple[str, ...]] | None] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib")),
    **dict.fromkeys((".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".avif")),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c")),
    **dict.fromkeys((".heic", ".heif"), ("heic", ("pillow_heif",))),
}
"""Endings of the files that are read, in lower case; where Pillow does not read them, the extra and its packages."""
for _ending, _reader in READERS.items():
    if _reader.read is not None:
        ENDINGS.setdefault(_ending, (_reader.extra, _reader.packages))


@cache
def missing_for(ending: str) -> str | None:
    """What is missing to read files of such an ending; None where they are read.

    Example:
        >>> missing_for(".jpg"), missing_for(".txt")
        (None, 'no picture')
    """
    if ending not in ENDINGS:
        return "no picture"
    needs = ENDINGS[ending]
    if needs is not None:
        extra, packages = needs
        return None if all(map(find_spec, packages)) else f"needs pip install 'simclr-lightning[{extra}]'"
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
