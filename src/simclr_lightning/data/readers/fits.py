"""FITS, the format of astronomy, by astropy: scaled values, compressed or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclr_lightning.data.readers.registry import Found, Reader, register


def read(path: Path) -> Found:
    """The first image of two axes, or three, of which the first holds the bands; BSCALE and BZERO are applied.

    Integers of more than 16 bits become float32, which is exact up to 16,777,216.
    """
    from astropy.io import fits

    with fits.open(path, memmap=False) as units:
        pictures = [
            unit.data for unit in units if unit.is_image and unit.header.get("NAXIS", 0) in (2, 3) and unit.data.size
        ]
    if not pictures:
        raise ValueError("it holds no image of two or three axes")
    values = np.asarray(pictures[0])
    if values.dtype.kind in "iu" and values.dtype.itemsize > 2:
        values = values.astype(np.float32)
    left_out = f"it has {len(pictures)} images, and the first is read: save each as a file" if len(pictures) > 1 else ""
    return Found(values, 0 if values.ndim == 3 else None, left_out)


register(".fits", ".fit", ".fts", ".fits.gz", reader=Reader("fits", ("astropy",), read))
