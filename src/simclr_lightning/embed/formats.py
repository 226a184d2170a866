"""The finished file: parts in, one archive or table out, in the memory of one part."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simclr_lightning.embed.parts import Parts


class Format(NamedTuple):
    """One format.

    Attributes:
        write: writes the parts; the classes have these names, or none.
        packages: what writing needs.
    """

    write: Callable[[Path, Parts, list[str] | None], None]
    packages: tuple[str, ...] = ()


def write_npz(path: Path, parts: Parts, class_names: list[str] | None) -> None:
    """NumPy's archive, not compressed, with the same bytes for the same features.

    Its arrays are features (N, F) float32, files (N,), targets (N,) int64, -1 where unlabelled, class_names (K,), empty
    where the classes have no names, and settings (), what the features depend on, as JSON.
    """
    rows = sum(len(targets) for targets in parts.arrays("targets"))
    longest = max((files.dtype for files in parts.arrays("files")), key=lambda dtype: dtype.itemsize)
    (width,) = {features.shape[1] for features in parts.arrays("features")}
    with zipfile.ZipFile(path, "w") as archive:
        _write_array(archive, "features", (rows, width), np.dtype(np.float32), parts.arrays("features"))
        _write_array(archive, "files", (rows,), longest, parts.arrays("files"))
        _write_array(archive, "targets", (rows,), np.dtype(np.int64), parts.arrays("targets"))
        for name, value in (
            ("class_names", np.array(class_names or [], np.str_)),
            ("settings", np.array(json.dumps(parts.settings))),
        ):
            _write_array(archive, name, value.shape, value.dtype, [value])


def write_parquet(path: Path, parts: Parts, class_names: list[str] | None) -> None:
    """A table with a row for each picture: file, target, class, and features as a list of fixed size.

    ``target`` is -1 and ``class`` null where a picture is unlabelled. The table's metadata has class_names and
    settings, what the features depend on, as JSON.
    """
    import pyarrow
    from pyarrow import parquet

    (width,) = {features.shape[1] for features in parts.arrays("features")}
    vector = pyarrow.list_(pyarrow.float32(), width)
    schema = pyarrow.schema(
        {"file": pyarrow.string(), "target": pyarrow.int64(), "class": pyarrow.string(), "features": vector},
        metadata={"class_names": json.dumps(class_names), "settings": json.dumps(parts.settings)},
    )
    names = dict(enumerate(class_names or []))
    with parquet.ParquetWriter(path, schema, use_dictionary=["class"]) as writer:
        for part in parts:
            columns = [
                pyarrow.array(part.files.tolist(), pyarrow.string()),
                pyarrow.array(part.targets),
                pyarrow.array([names.get(target) for target in part.targets.tolist()], pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(part.features.reshape(-1), type=vector),
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))


def _write_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]
) -> None:
    """As np.savez does it, but from blocks, so that the whole is never in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.astype(dtype).tobytes())


FORMATS = {".npz": Format(write_npz), ".parquet": Format(write_parquet, ("pyarrow",))}
"""Formats by the suffix of the file."""
