"""From one file to the pixels of one picture."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simclr_lightning.data.fast_jpeg import decode_fast
from simclr_lightning.data.first_bytes import check_is_file
from simclr_lightning.data.pillow_files import (
    left_out,
    open_bare,
    orientation_of,
    raise_guard,
    upright,
    upright_size_of,
)
from simclr_lightning.data.readers import read_file, reader_of
from simclr_lightning.errors import InputError


class BadPictureError(InputError):
    """A picture could not be read; the message names it.

    Example:
        >>> read_picture("nowhere.jpg")
        Traceback (most recent call last):
        simclr_lightning.data.decode.BadPictureError: Cannot read the picture nowhere.jpg: [Errno 2] No such file or \
directory: 'nowhere.jpg'.
    """


class OpenedPicture(NamedTuple):
    """A picture's file, of which the header has been read; what :func:`opened` gives.

    Attributes:
        size: gives height and width, upright.
        pixels: gives the picture, (C, H, W).
        left_out: what of the file is not in the picture, and what to do about it; "" where nothing is.
        header: the file as Pillow has opened it; None of the formats of ``data.readers``.
        image: a JPEG that Pillow can decode at a fraction of its size, and its EXIF orientation; None of others.

    Example:
        >>> OpenedPicture(lambda: (40, 60), lambda: torch.zeros(3, 40, 60)).left_out
        ''
    """

    size: Callable[[], tuple[int, int]]
    pixels: Callable[[], Tensor]
    left_out: str = ""
    header: Image.Image | None = None
    image: tuple[Image.Image, int] | None = None


def read_picture(
    path: str | os.PathLike[str], max_megapixels: float | None = None, content: bytes | None = None
) -> Tensor:
    """Read one picture, turned upright by its EXIF orientation.

    Args:
        path: file of any format that Pillow reads, of an animation the first frame; or of the formats of
            ``data.readers``. A TIFF that Pillow reads is read without the bands that are beyond its colours.
        max_megapixels: as :func:`opened` takes it.
        content: as :func:`opened` takes it.

    Returns:
        (3, H, W) uint8, RGB: the three bytes of a pixel are neighbours in memory. Grey pictures of 16 bits are uint16,
        and those of other formats have the type and the bands that are in the file.

    Raises:
        BadPictureError: if the file is missing, corrupt, truncated or too large; it names the file.
        MissingPackageError: if its format needs a package that is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("L", (60, 40)).save(file)
        ...     _ = file.seek(0)
        ...     read_picture(file.name).shape
        torch.Size([3, 40, 60])
    """
    with opened(path, max_megapixels, content) as picture:
        return picture.pixels()


@contextmanager
def opened(
    path: str | os.PathLike[str], max_megapixels: float | None = None, content: bytes | None = None
) -> Iterator[OpenedPicture]:
    """Open one picture: all reading of files goes through here.

    Whatever a decoder raises, here or on what is done with the picture within the context, is the file's fault.

    Args:
        path: of the file.
        max_megapixels: pictures with more are refused before they are decoded. None: those that Pillow refuses, at
            ``2 * Image.MAX_IMAGE_PIXELS``, which is 179 megapixels.
        content: bytes of the file where they are at hand; ``path`` then says what it is called.

    Raises:
        BadPictureError: if the file is missing, corrupt, truncated or too large; it names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("L", (60, 40)).save(file)
        ...     _ = file.seek(0)
        ...     with opened(file.name) as picture:
        ...         picture.size()
        (40, 60)
    """
    try:
        with _opened(Path(path), max_megapixels, content) as picture:
            yield picture
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\((\d+) pixels", str(error))
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise too_large(path, int(pixels[1]) if pixels else 0, max_megapixels or limit) from error
    except Exception as error:
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike[str], error: Exception) -> BadPictureError:
    """What to raise where a decoder raises something.

    Example:
        >>> unreadable("a.jpg", OSError("truncated"))
        BadPictureError('Cannot read the picture a.jpg: truncated.')
    """
    return BadPictureError(f"Cannot read the picture {os.fspath(path)}: {fault(error)}.")


def fault(error: Exception) -> str:
    """What an error of a decoder says, in one line.

    Example:
        >>> fault(OSError("truncated.")), fault(MemoryError()), fault(KeyError(7))
        ('truncated', 'MemoryError', 'KeyError: 7')
    """
    said = re.sub(r" <_io.BytesIO object at \w+>", "", " ".join(str(error).split())).rstrip(".")
    if said and isinstance(error, (OSError, SyntaxError, ValueError, RuntimeError)):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def pixels_of(picture: Image.Image) -> Tensor:
    """(3, H, W) uint8, the pixels of a picture in mode RGB.

    Example:
        >>> pixels_of(Image.new("RGB", (2, 1), "red")).tolist()
        [[[255, 255]], [[0, 0]], [[0, 0]]]
    """
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def tensor_of(picture: Image.Image) -> Tensor:
    """A picture of any mode as three channels: grey values of 16 bits as they are, all else as 8-bit RGB.

    Returns:
        (3, H, W) uint16 or uint8.

    Raises:
        ValueError: as :func:`to_rgb`; also if the values are 32-bit integers beyond 16 bits.

    Example:
        >>> tensor_of(Image.new("I;16", (2, 1), 4095)).tolist()
        [[[4095, 4095]], [[4095, 4095]], [[4095, 4095]]]
    """
    if picture.mode.startswith("I"):
        return _from_16_bits(np.asarray(picture)).expand(3, -1, -1)
    return pixels_of(to_rgb(picture))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Turn a picture of any mode into 8-bit RGB.

    Args:
        picture: transparent pixels are laid on white, palette, CMYK and the like are converted by Pillow. The fourth
            band of a TIFF is left out, whatever it is called: in most it is near-infrared light, and no transparency.

    Returns:
        Picture in mode RGB.

    Raises:
        ValueError: if the values have no known range (floating point).

    Example:
        >>> to_rgb(Image.new("RGBA", (2, 1))).getpixel((0, 0))  # transparent
        (255, 255, 255)
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        picture.load()
        return picture
    if picture.mode == "F":
        raise ValueError(
            "Pillow does not read floating-point numbers: pip install 'simclr-lightning[tiff]', or convert it"
        )
    if picture.format == "TIFF":
        return picture.convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


@contextmanager
def _opened(path: Path, max_megapixels: float | None, content: bytes | None) -> Iterator[OpenedPicture]:
    if content is None:
        check_is_file(path)
    reader = reader_of(path, content)
    found = None if reader is None else read_file(reader, path, content)
    if found is None:
        with _opened_by_pillow(path, max_megapixels, content) as picture:
            yield picture
        return
    values, left_out_of_it = found
    height, width = values.shape[-2:]
    if max_megapixels is not None and width * height > 1e6 * max_megapixels:
        raise too_large(path, width * height, max_megapixels)
    yield OpenedPicture(lambda: (height, width), lambda: values, left_out_of_it)


@contextmanager
def _opened_by_pillow(path: Path, max_megapixels: float | None, content: bytes | None) -> Iterator[OpenedPicture]:
    if max_megapixels is not None:
        raise_guard(max_megapixels)
    picture: Image.Image
    try:
        picture = Image.open(path if content is None else BytesIO(content))
    except Image.DecompressionBombError:
        raise
    except Exception as error:
        picture = open_bare(path, error, content)
    with picture:
        width, height = picture.size
        if max_megapixels is not None and width * height > 1e6 * max_megapixels:
            raise too_large(path, width * height, max_megapixels)
        turn = orientation_of(picture)
        jpeg = picture.format == "JPEG"

        def pixels() -> Tensor:
            if jpeg and turn == 1 and picture.mode in ("RGB", "L"):
                fast = decode_fast(path, content)
                if fast is not None:
                    return fast
            try:
                return tensor_of(upright(picture))
            except Exception as error:
                with open_bare(path, error, content) as again:
                    return tensor_of(upright(again))

        yield OpenedPicture(
            lambda: upright_size_of(picture, path, content),
            pixels,
            left_out(picture),
            picture,
            (picture, turn) if jpeg else None,
        )


def too_large(path: str | os.PathLike[str], pixels: int, limit: float) -> BadPictureError:
    """What to raise of a picture with more pixels than the limit of megapixels.

    Example:
        >>> too_large("a.png", 3_000_000, 2.0).options
        ('data.max_megapixels 3',)
    """
    return BadPictureError(
        f"Cannot read {os.fspath(path)}: it has {pixels / 1e6:,.1f} megapixels, and the limit is "
        f"{limit:,.4g}. If its header is right, raise the limit",
        f"data.max_megapixels {math.ceil(pixels / 1e6)}",
    )


def _from_16_bits(values: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Tensor:
    values = values.astype(np.int64)  # Pillow gives 16-bit files of either byte order, some as 32-bit integers
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(
            f"integers from {values.min()} to {values.max()} exceed 16 bits: convert the picture to 8 or 16 bits."
        )
    return torch.from_numpy(values.astype(np.uint16))
