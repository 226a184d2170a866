"""DICOM, by pydicom: rescaled, and white where the film is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simclr_lightning.data.readers.registry import Found, Reader, register


def read(path: Path) -> Found:
    """The first frame.

    Slope and intercept (Hounsfield units of a CT) are applied, and give float32; without them the stored integers stay
    as they are, whatever number of bits they use. MONOCHROME1, where low values are bright, is inverted within the
    range of the stored bits, so that dense parts are bright in all pictures. Colours become RGB.
    """
    import pydicom
    from pydicom.pixels.utils import pixel_array

    data = pydicom.dcmread(path)
    frames = int(data.get("NumberOfFrames") or 1)
    values = pixel_array(data, index=0)
    left_out = f"it has {frames} frames, and the first is read: save each as a file" if frames > 1 else ""
    if int(data.SamplesPerPixel) > 1:
        return Found(values, 2, left_out)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    if data.PhotometricInterpretation == "MONOCHROME1":
        signed, bits = bool(data.PixelRepresentation), int(data.BitsStored)
        ends = -1 if signed else (1 << bits) - 1  # lowest plus highest of the stored values
        values = (ends - values.astype(np.int64)).astype(values.dtype)
    if (slope, intercept) != (1.0, 0.0):
        values = (values * np.float64(slope) + intercept).astype(np.float32)
    return Found(values, None, left_out)


register(".dcm", ".dicom", reader=Reader("dicom", ("pydicom",), read))
