"""A checksum inside a file of ``torch.save``: whatever bit of it changes, it is found before the file is used."""

from __future__ import annotations

import hashlib
import os
import re
from typing import BinaryIO

_LABEL = b"simclr-lightning sha256 "
_LENGTH = len(_LABEL) + 2 * hashlib.sha256().digest_size
_LENGTH_FIELD = _LENGTH.to_bytes(2, "little")
_END = re.compile(b"PK\x05\x06.{16}" + re.escape(_LENGTH_FIELD), re.DOTALL)
"""The last record of a zip file, which such files are, before a comment of our length."""


def seal(file: BinaryIO) -> None:
    """Append the SHA-256 of a file that ``torch.save`` has just written, as the comment of the zip file that it is.

    Whoever reads zip files, ``torch.load`` of any release among them, passes over it.

    Args:
        file: open for reading and writing, in the form that ``torch.save`` writes by default.

    Example:
        >>> import io
        >>> import torch
        >>> file = io.BytesIO()
        >>> torch.save({"step": 3}, file)
        >>> seal(file)
        >>> is_whole(file), torch.load(file)
        (True, {'step': 3})
    """
    file.seek(-2, os.SEEK_END)
    file.write(_LENGTH_FIELD)
    size = file.tell()
    digest = _digest(file, size)
    file.seek(size)
    file.write(_LABEL + digest)
    file.seek(0)


def is_whole(file: BinaryIO) -> bool | None:
    """Whether a sealed file is as it was written; None where it was not sealed, so that nobody knows.

    Example:
        >>> import io
        >>> is_whole(io.BytesIO(b"something else"))
    """
    size = file.seek(0, os.SEEK_END) - _LENGTH
    file.seek(max(0, size - 2 * _LENGTH))
    last = file.read()
    # Two marks, so that no single change makes a sealed file look like one that never was.
    sealed = _LABEL in last or _END.search(last) is not None
    whole = last.endswith(_LABEL + _digest(file, size)) if sealed else None
    file.seek(0)
    return whole


def _digest(file: BinaryIO, size: int) -> bytes:
    """Of the first so many bytes."""
    file.seek(0)
    digest, left = hashlib.sha256(), size
    while left and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()
