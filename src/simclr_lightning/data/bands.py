"""How many bands the pictures of a folder have: what its files say, and one number for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from torch import Tensor

from simclr_lightning.data.decode import BadPictureError, read_picture
from simclr_lightning.data.first_bytes import ending_of
from simclr_lightning.data.readers import reader_of
from simclr_lightning.data.readers.axes import tell_once
from simclr_lightning.errors import InputError


def bands_of(names: Iterable[str], content: Callable[[int], bytes | None]) -> int:
    """How many bands the files of a set have: three of photos, and of grey pictures of any format.

    Args:
        names: of files; of those that are not Pillow's, the first that can be read tells it.
        content: gives the bytes of the first, second, ... of them where they are not in a file of that name.

    Example:
        >>> bands_of(["photo.jpg"], lambda number: None)
        3
    """
    for number, name in enumerate(names):
        given = None if ending_of(name) and reader_of(name) is None else content(number)
        if reader_of(name, given) is None:
            continue
        try:
            bands = len(read_picture(name, content=given))
        except BadPictureError:
            continue  # which its loader tells
        return 3 if bands == 1 else bands
    return 3


def with_bands(pixels: Tensor, bands: int, path: str | os.PathLike[str]) -> Tensor:
    """A picture with as many bands as the others of its set.

    Args:
        pixels: (C, H, W).
        bands: of the set.
        path: of the file, for messages.

    Returns:
        (bands, H, W): a grey picture is repeated, and of a set of three bands others lose what is beyond the third,
        which is told once.

    Raises:
        InputError: if it has another number of bands.

    Example:
        >>> import torch
        >>> with_bands(torch.zeros(1, 4, 4), 3, "scan.dcm").shape
        torch.Size([3, 4, 4])
    """
    if len(pixels) == bands:
        return pixels
    if len(pixels) == 1 and bands == 3:
        return pixels.expand(3, -1, -1)
    if len(pixels) > 3 and bands == 3:
        tell_once("bands", f"{os.fspath(path)}: of its {len(pixels)} bands the first three are read, as of all others.")
        return pixels[:3]
    raise InputError(
        f"{os.fspath(path)} has {len(pixels)} band(s), and the first picture of its set {bands}: sort them into "
        "folders of their own",
        "data.root",
    )
