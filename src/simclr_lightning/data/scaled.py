"""JPEGs decoded at a fraction of their size, which libjpeg does in a fraction of the time."""

from __future__ import annotations

import os

from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from simclr_lightning.data.decode import BROKEN, opened, read_picture, to_rgb, unreadable
from simclr_lightning.views.workers import ScaledPicture

_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations whose height and width change places


def upright_size(path: str | os.PathLike[str], content: bytes | None = None) -> tuple[int, int]:
    """Height and width of a picture, turned upright by its EXIF orientation; only its header is read.

    Args:
        path: file of any format that Pillow reads.
        content: bytes of the file where they are at hand; ``path`` then says what it is called.

    Raises:
        BadPictureError: if there is no such picture; it names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("L", (60, 40)).save(file)
        ...     _ = file.seek(0)
        ...     upright_size(file.name)
        (40, 60)
    """
    try:
        with Image.open(opened(path, content)) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
            return (width, height) if turned else (height, width)
    except BROKEN as error:
        raise unreadable(path, error) from error


def read_scaled(path: str | os.PathLike[str], scale: int, content: bytes | None = None) -> Tensor | ScaledPicture:
    """Read one picture, turned upright; a JPEG at a fraction of its size.

    The inverse cosine transform gives 4, 2 or 1 pixel(s) a side for each block of 8, instead of 8 that are resized
    afterwards. The result is close to that, not equal.

    Args:
        path: file of any format that Pillow reads.
        scale: 1, 2, 4 or 8.
        content: bytes of the file where they are at hand; ``path`` then says what it is called.

    Returns:
        A scaled picture of a JPEG; (3, H, W) uint8 at full size of other formats, if ``scale`` is 1, or if the picture
        has to be turned and its sides are no multiples of the scale.

    Raises:
        BadPictureError: if the file is missing, corrupt or truncated; it names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        ...     Image.new("RGB", (61, 40)).save(file)
        ...     _ = file.seek(0)
        ...     read_scaled(file.name, 2).image.size
        (31, 20)
    """
    if scale > 1:
        try:
            with Image.open(opened(path, content)) as picture:
                width, height = picture.size
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
                # What exceeds whole multiples of the scale is at the end of rows and columns: turned, at their start.
                if turned and (width % scale or height % scale):
                    scale = 1
                elif picture.draft(None, (width // scale, height // scale)) is not None:
                    ImageOps.exif_transpose(picture, in_place=True)
                    return ScaledPicture(to_rgb(picture), scale)
        except BROKEN as error:
            raise unreadable(path, error) from error
    return read_picture(path, content)
