"""Files that Pillow opens: which way up they are, and what of them is not read."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

from PIL import Image

from simclr_lightning.data.metadata import orientation, without_metadata

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""
_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations whose height and width change places
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}
"""Of a pixel's colour by a TIFF's PhotometricInterpretation; what is beyond them are other bands."""


def left_out(picture: Any) -> str:
    """What of a file does not become pixels, and what to do about it; "" where nothing is left out, or is no file.

    Example:
        >>> left_out(Image.new("RGB", (2, 1)))
        ''
    """
    parts = []
    if _is_animated(picture):
        parts.append("it has several pages or frames, and the first is read: save each that is wanted as a file")
    tags: Any = getattr(picture, "tag_v2", {})
    bands, colours = tags.get(277, 1), _SAMPLES.get(tags.get(262, 0), 1)
    if bands > colours:
        parts.append(
            f"it has {bands} bands, and the first {colours} are read: pip install 'simclr-lightning[tiff]' reads all"
        )
    return "; ".join(parts)


def raise_guard(max_megapixels: float) -> None:
    """Let Pillow open pictures of so many megapixels: its guard is one for the process, and is only ever raised here.

    Example:
        >>> raise_guard(10)  # less than it allows by default
    """
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, math.ceil(1e6 * max_megapixels))


def open_bare(path: Path, error: Exception, content: bytes | None = None) -> Image.Image:
    """Open a picture without its metadata, at which Pillow may have stumbled.

    Args:
        path: of the file.
        error: that Pillow raised.
        content: bytes of the file where they are at hand.

    Raises:
        Exception: the error, if nothing can be left out, or that does not help.

    Example:
        >>> open_bare(Path("nowhere.jpg"), ValueError("damaged"))
        Traceback (most recent call last):
        ValueError: damaged
    """
    if content is None and path.is_file():
        content = path.read_bytes()
    bare = None if content is None else without_metadata(content)
    if bare is None:
        raise error
    try:
        picture = Image.open(io.BytesIO(bare.data))
    except Exception:
        raise error from None
    if bare.exif:
        picture.info["exif"] = bare.exif
    return picture


def orientation_of(picture: Image.Image) -> int:
    """EXIF orientation of a picture, 1 to 8; that of a TIFF is 1 once it is loaded, because Pillow turns it then.

    Example:
        >>> orientation_of(Image.new("RGB", (2, 1)))
        1
    """
    if picture.format == "TIFF":
        value = picture.tag_v2.get(274)  # type: ignore[attr-defined]
        return value if value in TURNS else 1
    block = picture.info.get("exif")
    if block is None and "Raw profile type exif" in picture.info:  # of a PNG by ImageMagick, in hexadecimal digits
        digits = "".join(str(picture.info["Raw profile type exif"]).split("\n")[3:])
        block = bytes.fromhex(digits) if re.fullmatch("([0-9a-fA-F]{2})*", digits) else b""
    found = orientation(block) if block else 1
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    told = _IN_XMP.search(xmp.encode() if isinstance(xmp, str) else xmp) if found == 1 else None
    return int(told[1]) if told else found


def upright(picture: Image.Image) -> Image.Image:
    """Load a picture and turn it upright.

    Example:
        >>> upright(Image.new("RGB", (2, 1))).size
        (2, 1)
    """
    picture.load()  # of a PNG, the orientation may come after the pixels
    turn = TURNS.get(orientation_of(picture))
    return picture if turn is None else picture.transpose(turn)


def upright_size_of(picture: Image.Image, path: Path, content: bytes | None = None) -> tuple[int, int]:
    """Height and width, upright, of a picture that is not loaded yet; the bytes of its file may be at hand.

    Example:
        >>> upright_size_of(Image.new("RGB", (2, 1)), Path("new.png"))
        (1, 2)
    """
    width, height = picture.size
    turn = orientation_of(picture)
    if picture.format == "TIFF":  # newer releases of Pillow have exchanged the sides
        width, height = picture.tag_v2[256], picture.tag_v2[257]  # type: ignore[attr-defined]
    elif picture.format == "PNG" and turn == 1:  # it may come after the pixels
        bare = without_metadata(path.read_bytes() if content is None else content)
        turn = orientation(bare.exif) if bare is not None else 1
    return (width, height) if turn in _ON_THEIR_SIDE else (height, width)


def _is_animated(picture: Any) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # the next frame is damaged, and not wanted
        return True
