"""Zarr: a folder (``.zarr``) of chunks, versions 2 and 3, by zarr. It holds a set of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_lightning.data.readers.registry import Reader, register


def arrays(path: Path) -> Mapping[str, Any]:
    """The arrays by their paths in the store."""
    import zarr

    root = zarr.open(str(path), mode="r")
    if isinstance(root, zarr.Array):
        return {"": root}
    return {name: item for name, item in sorted(root.members(max_depth=None)) if isinstance(item, zarr.Array)}


register(".zarr", reader=Reader("zarr", ("zarr",), None, arrays))
