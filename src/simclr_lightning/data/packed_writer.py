"""``simclr pack``: the files of a folder, as they are, in litdata's format."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.utilities.data import suggested_max_num_workers
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from simclr_lightning.data.decode import BadPictureError, opened
from simclr_lightning.data.packed import FORMAT, INDEX, MANIFEST, SplitFiles, is_packed
from simclr_lightning.data.packed_sources import PackedSource, packed_sources
from simclr_lightning.errors import ExistingFileError, InputError, check_number, require_packages

_PLAN = "plan.json"
_ITEM = 24  # bytes that an item takes beside its file: two sizes, the label, and its place in the table of the chunk
_LARGEST = 2**32 - 2**16  # bytes of a chunk, which litdata counts by 32 bits


def pack_pictures(root: str | Path, output: str | Path, chunk_mib: int = 64) -> Path:
    """Copy the pictures of a folder into a few large files, which ``--data.dataset packed`` reads.

    Files are copied as they are, not decoded. Millions of small files are slow to find, to copy and to read from
    network disks; a few chunks are not. Positions, labels, splits and names are those of the folder, so that a picture
    has the same views, and an evaluation the same result. Training pictures are spread over the chunks at random, since
    a batch is drawn from a few of them; those of validation and test stay in their order.

    The format is that of litdata: ``litdata.StreamingDataset("packed/train")`` gives pairs (bytes, label). A run that
    was stopped goes on where it was when the same command is typed again; only a complete set can be trained on.

    Args:
        root: folder that the data set ``folder`` understands (splits, class folders), or with tar shards as WebDataset
            writes them (``0001.jpg`` with ``0001.cls`` or ``0001.json``), which are not unpacked.
        output: folder of the packed set, new or of a run that was stopped.
        chunk_mib: size of a chunk in MiB, at least that of the largest file. A batch has pictures of 16 chunks, which
            memory should have room for; much smaller chunks are as slow as files.

    Returns:
        The folder of the packed set.

    Raises:
        ExistingFileError: if the output is there and not of a run that was stopped.
        MissingFileError: if there is no such folder, or no picture in it.
        MissingPackageError: if litdata is not installed.
        InputError: if an argument is out of range, a file is too large, changes while it is packed, or cannot be read.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("litdata")
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> from simclr_lightning import SimCLRDataModule
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("cat/1.png", "cat/2.png", "dog/3.png"):
        ...         path = Path(folder, "photos", name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (40, 30)).save(path)
        ...     packed = pack_pictures(f"{folder}/photos", f"{folder}/packed")  # doctest: +ELLIPSIS
        ...     data = SimCLRDataModule("packed", packed, batch_size=2)
        ...     data.setup()
        ...     data.num_pictures, data.class_names
        Packed: .../packed (3 pictures in 1 chunk)
        (3, ['cat', 'dog'])
    """
    check_number("chunk_mib", chunk_mib, "chunk_mib 64", least=1, most=_LARGEST >> 20)
    require_packages("simclr pack", ["litdata"])
    output = Path(os.path.expanduser(output))
    taken = output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / _PLAN).exists())
    if taken or is_packed(output):
        raise ExistingFileError(f"{output} exists and is not overwritten: name another folder, or remove it.")
    with _without_options():
        sources = packed_sources(root)
    plan = {split: _Plan(split, source, chunk_mib << 20) for split, source in sources.items()}
    _claim(output, {"format": FORMAT, **{split: part.fingerprint() for split, part in plan.items()}})
    unreadable = 0
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Packing pictures", total=sum(len(source.names) for source in sources.values()))
        for split, part in plan.items():
            unreadable += _write(output, part, sources[split], lambda done: progress.advance(bar, done))
    described = {split: part.described(sources[split]) for split, part in plan.items()}
    _replace(output / MANIFEST, json.dumps({"format": FORMAT, "splits": described}, indent=1).encode())
    (output / _PLAN).unlink()
    chunks = sum(len(part.chunks) for part in plan.values())
    pictures = sum(len(source.names) for source in sources.values())
    print(f"Packed: {output} ({pictures} pictures in {chunks} chunk{'s' * (chunks > 1)})")
    if unreadable:
        print(f"{unreadable} of them are no pictures by their headers: train with --data.on_bad_picture skip.")
    return output


@contextmanager
def _without_options() -> Iterator[None]:
    """The folder is no option here."""
    try:
        yield
    except InputError as error:
        error.args, error.options = (f"{str(error.args[0]).rstrip('.')}.",), ()
        raise


class _Plan:
    """Which chunk holds which pictures of a split: known before the first file is read, and the same in every run.

    Args:
        split: its name.
        source: its files.
        chunk_bytes: largest size of a chunk.
    """

    def __init__(self, split: str, source: PackedSource, chunk_bytes: int) -> None:
        self.split = split
        self.names, self.nbytes = source.names, source.nbytes
        needed = source.nbytes + _ITEM
        if needed.max() > _LARGEST - _ITEM:
            name = os.fsdecode(bytes(source.names[needed.argmax()]))
            raise InputError(f"{name} has {needed.max() / 2**30:.1f} GiB: a chunk holds 4 GiB at most.")
        self.chunk_bytes = max(chunk_bytes, int(needed.max()) + _ITEM)
        order = np.arange(len(needed))
        if split == "train":
            order = np.random.default_rng(0).permutation(order)
        self.chunks: list[NDArray[np.int64]] = []  # positions of each, ascending: files are then read in their order
        first = 0
        ends = needed[order].cumsum()
        while first < len(order):
            before = ends[first - 1] if first else 0
            stop = int(np.searchsorted(ends, before + self.chunk_bytes - _ITEM, side="right"))
            self.chunks.append(np.sort(order[first:stop]))
            first = stop

    def fingerprint(self) -> str:
        """Changes when files are added, removed, renamed, or another chunk would hold them."""
        digest = hashlib.sha256(f"{len(self.chunks)} {self.chunk_bytes}".encode())
        digest.update(self.names.view("u1").data)
        digest.update(self.nbytes.data)
        return digest.hexdigest()[:16]

    def described(self, source: PackedSource) -> dict[str, Any]:
        """The split's part of the manifest."""
        return {
            "pictures": len(self.nbytes),
            "bytes": int(self.nbytes.sum()),
            "folder": source.folder,
            "class_names": source.class_names,
        }


def _claim(output: Path, plan: dict[str, str]) -> None:
    file = output / _PLAN
    if file.exists() and json.loads(file.read_text()) != plan:
        raise InputError(
            f"{output} has a part of another set, or the folder has changed since: remove it, or name another output."
        )
    output.mkdir(parents=True, exist_ok=True)
    _replace(file, json.dumps(plan).encode())


def _write(output: Path, plan: _Plan, source: PackedSource, advance: Callable[[int], None]) -> int:
    """Write the chunks of a split that are not there, and what is known of its pictures; gives how many are none."""
    from litdata.streaming.writer import BinaryWriter

    files = SplitFiles(output / plan.split)
    files.folder.mkdir(exist_ok=True)
    np.save(files.names, source.names)
    np.save(files.targets, source.targets.numpy())
    if source.multi_targets is not None:
        np.save(files.multi_targets, source.multi_targets.numpy())
    np.save(files.places, np.argsort(np.concatenate(plan.chunks), kind="stable"))
    if not files.sizes.exists():
        _replace(files.sizes, _empty((len(source.names), 2)))
    sizes = np.load(files.sizes, mmap_mode="r+")
    finished = (files.folder / INDEX).exists()
    with ThreadPoolExecutor(suggested_max_num_workers(1)) as threads:
        for number, positions in enumerate(plan.chunks):
            index = files.folder / f"{number}.{INDEX}"
            if not finished and not index.exists():
                unfinished = files.folder / "unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                writer = BinaryWriter(str(unfinished), chunk_bytes=plan.chunk_bytes, chunk_index=number)
                read = threads.map(lambda position: _read(source, position), positions.tolist())
                for place, (position, (content, size)) in enumerate(zip(positions.tolist(), read, strict=True)):
                    if len(content) != source.nbytes[position]:
                        raise InputError(f"{os.fsdecode(bytes(source.names[position]))} changed while it was packed.")
                    sizes[position] = size
                    writer[place] = (content, int(source.targets[position]))  # a dictionary would become Arrow
                writer.done()
                sizes.flush()
                (chunk,) = unfinished.glob("*.bin")
                (its_index,) = unfinished.glob(f"*.{INDEX}")
                _synced(chunk).replace(files.folder / chunk.name)
                _synced(its_index).replace(index)  # from here on the chunk is complete
                unfinished.rmdir()
            advance(len(positions))
    parts = [files.folder / f"{number}.{INDEX}" for number in range(len(plan.chunks))]
    if not finished:  # as the writer's merge does it, which waits for as many processes as the environment names
        told = [json.loads(part.read_text()) for part in parts]
        whole = {"chunks": [chunk for part in told for chunk in part["chunks"]], "config": told[0]["config"]}
        _replace(files.folder / INDEX, json.dumps(whole).encode())
    for part in parts:
        part.unlink(missing_ok=True)
    return int((sizes[:, 0] == 0).sum())


def _read(source: PackedSource, position: int) -> tuple[bytes, tuple[int, int]]:
    """Bytes of a file, and height and width of the picture, 0 where its header tells none."""
    name = os.fsdecode(bytes(source.names[position]))
    try:
        content = source.read(position)
    except OSError as error:
        raise InputError(f"Cannot read {name}: {error}. Mend or remove it, and type this again.") from error
    try:
        with opened(name, content=content) as picture:
            return content, picture.size()
    except BadPictureError:
        return content, (0, 0)


def _empty(shape: tuple[int, int]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.zeros(shape, np.int32))
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    _synced(part).replace(path)


def _synced(path: Path) -> Path:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path
