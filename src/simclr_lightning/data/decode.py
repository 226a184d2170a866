"""From one file to the pixels of one RGB picture."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from simclr_lightning.errors import InputError

try:
    import simplejpeg  # of the extra "fast": the same pixels as Pillow's, a third faster
except ImportError:
    simplejpeg = None
try:
    from torchvision.io import ImageReadMode, decode_jpeg  # the same pixels, too; deprecated since 0.29, without a date
except ImportError:
    decode_jpeg = None

BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are corrupt, truncated, unreadable or absurdly large."""


class BadPictureError(InputError):
    """A picture could not be read; the message names it.

    Example:
        >>> read_picture("nowhere.jpg")
        Traceback (most recent call last):
        simclr_lightning.data.decode.BadPictureError: Cannot read the picture nowhere.jpg: [Errno 2] No such file or \
directory: 'nowhere.jpg'.
    """


def read_picture(path: str | os.PathLike[str], content: bytes | None = None) -> Tensor:
    """Read one picture, turned upright by its EXIF orientation.

    Args:
        path: file of any format that Pillow reads; of an animation, the first frame.
        content: bytes of the file where they are at hand; ``path`` then says what it is called.

    Returns:
        (3, H, W) uint8, RGB. The three bytes of a pixel are neighbours in memory.

    Raises:
        BadPictureError: if the file is missing, corrupt or truncated; it names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("L", (60, 40)).save(file)
        ...     _ = file.seek(0)
        ...     read_picture(file.name).shape
        torch.Size([3, 40, 60])
    """
    try:
        with Image.open(opened(path, content)) as picture:  # reads the header, and refuses absurdly large pictures
            if (simplejpeg or decode_jpeg) and _is_plain_jpeg(picture):
                try:
                    return _plain_jpeg(Path(path).read_bytes() if content is None else content)
                except (ValueError, RuntimeError, DeprecationWarning):
                    pass  # Pillow reads it after all, or says what is wrong with it
            ImageOps.exif_transpose(picture, in_place=True)
            return pixels_of(to_rgb(picture))
    except BROKEN as error:
        raise unreadable(path, error) from error


def opened(path: str | os.PathLike[str], content: bytes | None) -> str | os.PathLike[str] | BytesIO:
    """What Pillow opens: a file, or its bytes.

    Example:
        >>> opened("1.jpg", None)
        '1.jpg'
    """
    return path if content is None else BytesIO(content)


def unreadable(path: str | os.PathLike[str], error: Exception) -> BadPictureError:
    """What to raise where Pillow raises one of ``BROKEN``.

    Example:
        >>> unreadable("a.jpg", OSError("truncated"))
        BadPictureError('Cannot read the picture a.jpg: truncated.')
    """
    return BadPictureError(f"Cannot read the picture {os.fspath(path)}: {str(error).rstrip('.')}.")


def pixels_of(picture: Image.Image) -> Tensor:
    """(3, H, W) uint8, the pixels of a picture in mode RGB.

    Example:
        >>> pixels_of(Image.new("RGB", (2, 1), "red")).tolist()
        [[[255, 255]], [[0, 0]], [[0, 0]]]
    """
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a picture of any mode into 8-bit RGB.

    Args:
        picture: 16-bit values are scaled to 8 bits, transparent pixels are laid on white, palette, CMYK and the like
            are converted by Pillow.

    Returns:
        Picture in mode RGB.

    Raises:
        ValueError: if the values have no known range (floating point, or 32-bit integers beyond 16 bits).

    Example:
        >>> to_rgb(Image.new("RGBA", (2, 1))).getpixel((0, 0))  # transparent
        (255, 255, 255)
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        picture.load()
        return picture
    if picture.mode == "F":
        raise ValueError("floating-point pictures have no known range of values: convert them to 8 or 16 bits.")
    if picture.mode.startswith("I"):
        return _from_16_bits(np.asarray(picture)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def picture_of(item: Any) -> Any:
    """The picture of what a data set gives: a picture, or a picture and its label.

    Example:
        >>> picture_of(("a picture", 3)), picture_of("a picture")
        ('a picture', 'a picture')
    """
    return item[0] if isinstance(item, (tuple, list)) else item


def decoded(picture: Any, shape: torch.Size | None, name: str) -> Tensor:
    """Pixels of a picture that somebody's data set gives.

    Args:
        picture: PIL picture, or uint8 tensor (C, H, W).
        shape: that all tensors must have; None: the data set gives PIL pictures.
        name: of the picture, for messages.

    Returns:
        (C, H, W) uint8; RGB of a PIL picture.

    Raises:
        BadPictureError: if it cannot be decoded.
        InputError: if it is something else, or has another shape.

    Example:
        >>> decoded(Image.new("L", (60, 40)), None, "Picture 0").shape
        torch.Size([3, 40, 60])
    """
    check_picture(picture, shape, name)
    if isinstance(picture, Tensor):
        return picture
    try:
        return pixels_of(to_rgb(picture))
    except BROKEN as error:
        raise BadPictureError(f"Cannot read {name}: {str(error).rstrip('.')}.") from error


def check_picture(picture: Any, shape: torch.Size | None, name: str) -> None:
    """Complain of what is no picture; see :func:`decoded`.

    Example:
        >>> check_picture(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.Size([1, 8, 8]), "Picture 0")
    """
    if isinstance(picture, Image.Image) and shape is None:
        return
    if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.ndim != 3:
        got = f"{tuple(picture.shape)} {picture.dtype}" if isinstance(picture, Tensor) else type(picture).__name__
        raise InputError(
            f"{name} is a {got}: the data set should return PIL pictures, or uint8 tensors (C, H, W), always the "
            "same. Leave out transforms such as ToTensor: the views are made by the recipe."
        )
    if picture.shape != shape:
        raise InputError(
            f"{name} has shape {tuple(picture.shape)}, picture 0 has {tuple(shape or ())}: tensors must all have the "
            "same channels and size. Return PIL pictures where sizes differ."
        )


def _is_plain_jpeg(picture: Image.Image) -> bool:
    upright = picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return picture.format == "JPEG" and picture.mode in ("RGB", "L") and upright


def _plain_jpeg(content: bytes) -> Tensor:
    if simplejpeg is not None:
        pixels = simplejpeg.decode_jpeg(content, fastdct=False, fastupsample=False)
        return torch.from_numpy(pixels).permute(2, 0, 1)
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    decoded_picture: Tensor = decode_jpeg(data, ImageReadMode.RGB)
    return decoded_picture


def _from_16_bits(values: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Image.Image:
    values = values.astype(np.int64)  # Pillow gives 16-bit files of either byte order, some as 32-bit integers
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(
            f"integers from {values.min()} to {values.max()} exceed 16 bits: convert the picture to 8 or 16 bits."
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
