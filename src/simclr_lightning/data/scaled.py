"""JPEGs decoded at a fraction of their size, which libjpeg does in a fraction of the time."""

from __future__ import annotations

import os

from torch import Tensor

from simclr_lightning.data.decode import opened, to_rgb
from simclr_lightning.data.pillow_files import TURNS
from simclr_lightning.views.workers import ScaledPicture


def read_scaled(
    path: str | os.PathLike[str], scale: int, max_megapixels: float | None = None, content: bytes | None = None
) -> Tensor | ScaledPicture:
    """Read one picture, turned upright; a JPEG at a fraction of its size.

    The inverse cosine transform gives 4, 2 or 1 pixel(s) a side for each block of 8, instead of 8 that are resized
    afterwards. The result is close to that, not equal.

    Args:
        path: file of any format that Pillow reads.
        scale: 1, 2, 4 or 8.
        max_megapixels: as ``decode.opened`` takes it.
        content: as ``decode.opened`` takes it.

    Returns:
        A scaled picture of a JPEG; (3, H, W) uint8 at full size of other formats, if ``scale`` is 1, or if the picture
        has to be turned and its sides are no multiples of the scale.

    Raises:
        BadPictureError: if the file is missing, corrupt or truncated; it names the file.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        ...     Image.new("RGB", (61, 40)).save(file)
        ...     _ = file.seek(0)
        ...     read_scaled(file.name, 2).image.size
        (31, 20)
    """
    with opened(path, max_megapixels, content) as picture:
        if scale > 1 and picture.image is not None:
            image, turn = picture.image
            width, height = image.size
            # What exceeds whole multiples of the scale is at the end of rows and columns: turned, at their start.
            whole = turn == 1 or not (width % scale or height % scale)
            if whole and image.draft(None, (width // scale, height // scale)) is not None:
                smaller = to_rgb(image)
                return ScaledPicture(smaller if turn == 1 else smaller.transpose(TURNS[turn]), scale)
        return picture.pixels()
