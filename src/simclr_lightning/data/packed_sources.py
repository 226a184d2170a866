"""What can be packed: the files of a folder, or of tar shards, as bytes."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_lightning.data.endings import ENDINGS, missing_for
from simclr_lightning.data.first_bytes import check_is_file
from simclr_lightning.data.folder import find_roots, folder_sets
from simclr_lightning.data.pictures import FilePictures
from simclr_lightning.data.readers import reader_of
from simclr_lightning.data.split_names import split_of
from simclr_lightning.errors import InputError, MissingFileError

_LABELS = ("cls", "label", "class", "class_name")  # keys of a .json file; the first is also an ending


class PackedSource(NamedTuple):
    """Files of a split that are to be packed.

    Attributes:
        names: (N,) byte strings, what the files are called.
        nbytes: (N,) int64, their sizes.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.
        multi_targets: (N, classes) int64 where a picture may show several, see ``Pictures``, or None.
        folder: that the names are relative to, seen from the root.
        read: gives the bytes of the file at a position.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     _ = Path(photos, "1.jpg").write_bytes(b"pixels")
        ...     packed_sources(photos)["train"].read(0)
        b'pixels'
    """

    names: NDArray[np.bytes_]
    nbytes: NDArray[np.int64]
    targets: Tensor
    class_names: list[str] | None
    multi_targets: Tensor | None
    folder: str
    read: Callable[[int], bytes]


def packed_sources(root: str | os.PathLike[str]) -> dict[str, PackedSource]:
    """The splits of a folder, of pictures or of tar shards.

    Args:
        root: existing folder. Where it holds files that end in .tar, they are taken as WebDataset writes them: see
            :func:`tar_sources`. Otherwise as the data set ``folder`` takes it.

    Returns:
        The files of "train" and, where there are any, of "val" and "test".

    Raises:
        MissingFileError: if there is no such folder, or no picture in it.
        InputError: if a shard cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg"):
        ...         Path(photos, name).parent.mkdir(parents=True, exist_ok=True)
        ...         _ = Path(photos, name).write_bytes(b"pixels")
        ...     sources = packed_sources(photos)
        >>> list(sources), sources["val"].names.tolist(), sources["val"].targets.tolist()
        (['train', 'val'], [b'val/cat/3.jpg', b'val/dog/4.jpg'], [0, 1])
    """
    find_roots(root)  # complains of what is no folder
    root = Path(os.path.expanduser(root))
    shards = sorted(path for path in root.rglob("*") if path.suffix == ".tar" and path.is_file())
    if shards:
        return tar_sources(root, shards)
    sets = folder_sets(root)
    test = None if sets.test is sets.val else sets.test  # one may serve as both
    found = {"train": sets.train, "val": sets.val, "test": test}
    return {split: _files(root, pictures) for split, pictures in found.items() if isinstance(pictures, FilePictures)}


def _files(root: Path, pictures: FilePictures) -> PackedSource:
    sizes = np.array([pictures.path(position).stat().st_size for position in range(len(pictures))], np.int64)
    return PackedSource(
        pictures.files,
        sizes,
        pictures.targets,
        pictures.class_names,
        pictures.multi_targets,
        os.path.relpath(pictures.root, root),
        lambda position: _content(pictures.path(position)),
    )


def _content(path: Path) -> bytes:
    check_is_file(path)
    return path.read_bytes()


def tar_sources(root: Path, shards: list[Path]) -> dict[str, PackedSource]:
    """The pictures in tar shards as WebDataset writes them; the shards are read, not unpacked.

    Files of one name but for what follows its first dot are a sample: ``0001.jpg`` with ``0001.cls``, which holds the
    number or the name of the class, or with ``0001.json``, an object that has it under cls, label, class or class_name.
    A shard belongs to the split that a folder or a part of its name tells (``val/00.tar``, ``photos-test-00.tar``), or
    to train.

    Args:
        root: folder of the shards.
        shards: files below it.

    Returns:
        The pictures of "train" and, where there are any, of "val" and "test".

    Raises:
        MissingFileError: if there is no picture to train on.
        InputError: if a shard is damaged or compressed, or a label is no number or name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     shard = Path(folder, "photos-000.tar")
        ...     with tarfile.open(shard, "w") as tar:
        ...         for name, content in {"0001.jpg": "pixels", "0001.cls": "7"}.items():
        ...             _ = Path(folder, name).write_text(content)
        ...             tar.add(Path(folder, name), name)
        ...     source = tar_sources(Path(folder), [shard])["train"]
        ...     source.names.tolist(), source.targets.tolist(), source.read(0)
        ([b'photos-000.tar/0001.jpg'], [7], b'pixels')
    """
    samples: dict[str, list[_Sample]] = {}
    for shard in shards:
        samples.setdefault(_split_of(shard.relative_to(root)), []).extend(_samples(root, shard))
    if not samples.get("train"):
        raise MissingFileError(
            f"There is no picture to train on in the {len(shards)} tar file(s) in {os.fspath(root)!r}. Looked for "
            f"files that end in {', '.join(ENDINGS)} in shards that are not called val or test."
        )
    labels = {sample.label for part in samples.values() for sample in part}
    names = sorted(label for label in labels if isinstance(label, str)) or None
    if names and any(isinstance(label, int) for label in labels):
        raise InputError(f"Some labels in {os.fspath(root)!r} are numbers and some names, such as {names[0]!r}.")
    ordered = {split: samples[split] for split in ("train", "val", "test") if samples.get(split)}
    return {split: _tarred(part, names) for split, part in ordered.items()}


class _Sample(NamedTuple):
    shard: Path
    name: str
    offset: int
    nbytes: int
    label: int | str | None


def _split_of(shard: Path) -> str:
    words = shard.with_suffix("").as_posix().lower().replace("_", "-").replace(".", "-").replace("/", "-").split("-")
    return next((split for word in words if (split := split_of(word))), "train")


def _samples(root: Path, shard: Path) -> Iterator[_Sample]:
    pictures: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int | str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                key = f"{folder}/{stem}"
                if not member.isfile() or file.startswith("."):
                    continue
                if missing_for(f".{ending.lower()}") is None and (key not in pictures or reader_of(file) is None):
                    pictures[key] = member
                elif ending in ("cls", "json"):
                    content = tar.extractfile(member)
                    assert content is not None  # a plain file
                    label = _label(content.read(), ending, f"{shard}: {member.name}")
                    if label is not None and (ending == "cls" or key not in labels):
                        labels[key] = label
            if shard.stat().st_size < tar.offset + tarfile.BLOCKSIZE:  # tarfile takes a cut header for the end
                raise tarfile.ReadError("it is cut off")
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"Cannot read the shard {os.fspath(shard)}: {error}. Shards are plain .tar files: fetch a damaged one "
            "again, and uncompress others (gunzip)."
        ) from error
    folder = shard.relative_to(root).as_posix()
    for key, member in pictures.items():
        yield _Sample(shard, f"{folder}/{member.name}", member.offset_data, member.size, labels.get(key))


def _label(content: bytes, ending: str, name: str) -> int | str | None:
    try:
        told: Any = content.decode().strip()
        if ending == "json":
            told = json.loads(told)
            told = next((told[key] for key in _LABELS if key in told), None) if isinstance(told, Mapping) else None
    except ValueError as error:
        raise InputError(f"Cannot read the label in {name}: {error}.") from error
    if isinstance(told, str) and told.lstrip("-").isdecimal():
        told = int(told)
    if told is not None and (isinstance(told, bool) or not isinstance(told, (int, str))):
        raise InputError(f"The label in {name} is {told!r}: expected the number or the name of a class.")
    return None if told == "" or (isinstance(told, int) and told < 0) else told


def _tarred(samples: list[_Sample], class_names: list[str] | None) -> PackedSource:
    number = {name: place for place, name in enumerate(class_names or ())}
    targets = [-1 if s.label is None else number[s.label] if isinstance(s.label, str) else s.label for s in samples]

    def read(position: int) -> bytes:
        sample = samples[position]
        with sample.shard.open("rb") as file:
            file.seek(sample.offset)
            return file.read(sample.nbytes)

    return PackedSource(
        np.array([os.fsencode(sample.name) for sample in samples]),
        np.array([sample.nbytes for sample in samples], np.int64),
        torch.tensor(targets),
        class_names,
        None,
        ".",
        read,
    )
