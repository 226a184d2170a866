"""JPEGs by the decoders that are faster than Pillow's, and give the same pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

try:
    import simplejpeg  # of the extra "fast": the same pixels as Pillow's, a third faster
except ImportError:
    simplejpeg = None
try:
    from torchvision.io import ImageReadMode, decode_jpeg  # the same pixels, too; deprecated since 0.29, without a date
except ImportError:
    decode_jpeg = None


def decode_fast(path: str | os.PathLike[str], content: bytes | None = None) -> Tensor | None:
    """The pixels of a JPEG in RGB or grey.

    Args:
        path: of the file.
        content: its bytes where they are at hand.

    Returns:
        (3, H, W) uint8; None where neither decoder is installed, or it reads no such file: Pillow reads it after all,
        or says what is wrong with it.

    Example:
        >>> decode_fast(os.devnull) is None
        True
    """
    try:
        if simplejpeg is not None:
            data = Path(path).read_bytes() if content is None else content
            pixels = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
            return torch.from_numpy(pixels).permute(2, 0, 1)
        if decode_jpeg is not None:
            array = np.fromfile(path, np.uint8) if content is None else np.frombuffer(bytearray(content), np.uint8)
            decoded: Tensor = decode_jpeg(torch.from_numpy(array), ImageReadMode.RGB)
            return decoded
    except Exception:  # of any kind, warnings that are made errors among them
        pass
    return None
