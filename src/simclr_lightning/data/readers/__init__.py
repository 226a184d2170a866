"""Files that hold numbers rather than photos: one small file for each format, registered by the ending of the name."""

from simclr_lightning.data.readers import dicom, fits, hdf5, numpy_files, tiff, zarr_files  # noqa: F401  # register
from simclr_lightning.data.readers.axes import channel_axis, picture_tensor
from simclr_lightning.data.readers.registry import READERS, Found, Reader, read_file, reader_of

__all__ = [
    "READERS",
    "Found",
    "Reader",
    "channel_axis",
    "picture_tensor",
    "read_file",
    "reader_of",
]
