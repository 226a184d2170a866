"""TIFF with any number of bands, in tiles or strips, BigTIFF, of ImageJ and OME, by tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclr_lightning.data.readers.registry import Found, Reader, register

_PLAIN = ("MINISBLACK", "RGB", "MINISWHITE")  # what palettes, CMYK and the like mean, Pillow knows
_BANDS = "CS"


def read(path: Path) -> Found | None:
    """The first picture of a file with all of its bands; None of photos, which Pillow reads.

    The axes that the file tells are C (channels) and S (samples of a pixel). An array of three axes that tifffile has
    saved without telling what they are is taken as it is. Other axes (pages, depth, time) are counted as left out,
    beyond their first.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        kind = getattr(series.keyframe.photometric, "name", "")
        axes, sizes = series.axes, dict(zip(series.axes, series.shape, strict=True))
        untold = series.kind == "shaped" and axes == "QYX"
        bands = int(np.prod([sizes.get(axis, 1) for axis in _BANDS]))
        if kind not in _PLAIN or (series.dtype == np.uint8 and bands in (1, 3) and not untold):
            return None
        values = series.asarray()
    if kind == "MINISWHITE" and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    if values.dtype.kind in "iu" and values.dtype.itemsize > 2 and values.min() >= 0 and values.max() <= 0xFFFF:
        values = values.astype(np.uint16)  # as Pillow's reading of such files
    if untold:
        return Found(values)
    left_out = ""
    for axis in [name for name in axes if name not in "CSYX"]:
        if sizes[axis] > 1:
            left_out = f"it has {sizes[axis]} pages, and the first is read: save each as a file"
        values = values.take(0, axes.index(axis))
        axes = axes.replace(axis, "")
    wanted = "".join(axis for axis in "CSYX" if axis in axes)
    values = values.transpose([axes.index(axis) for axis in wanted])
    return Found(values.reshape(-1, *values.shape[-2:]), 0, left_out)


register(".tif", ".tiff", reader=Reader("tiff", ("tifffile",), read))
