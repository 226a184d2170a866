"""The content of a file of ``torch.save``: read as data, checked by its checksum; and what there is instead of it."""

from __future__ import annotations

import pickle
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from lightning.fabric.utilities.cloud_io import get_filesystem
from torch import Tensor

from simclr_lightning.checkpoints.seal import is_whole
from simclr_lightning.errors import InputError, require_packages, shown

_BROKEN = (
    *(EOFError, OSError, RuntimeError, LookupError, TypeError, ValueError),
    *(AttributeError, AssertionError, struct.error),
)
"""What ``torch.load`` raises, beside ``UnpicklingError``, for files that are cut off, damaged, or something else."""

BESIDE_PIECES = "meta.pt"
"""What is beside the weights in a folder of pieces, as FSDP2 writes by default; Lightning's name."""


def is_address(path: str | Path) -> bool:
    """Whether a file is named that is not on this machine.

    Example:
        >>> is_address("https://example.org/last.ckpt"), is_address("runs/last.ckpt")
        (True, False)
    """
    return isinstance(path, str) and "://" in path


def refuse_pieces(path: str | Path) -> None:
    """Raise InputError if a checkpoint is a folder of pieces, as FSDP2 writes by default.

    Example:
        >>> refuse_pieces("last.ckpt")
    """
    if not is_address(path) and (Path(path) / BESIDE_PIECES).is_file():
        raise InputError(
            f"The checkpoint {path} is a folder of pieces, from which only `simclr fit` by FSDP2 goes on. "
            "Let it write one file",
            "trainer.strategy.save_distributed_checkpoint false",
        )


def load_content(path: str | Path) -> Any:
    """What ``torch.save`` wrote, on the CPU, if it holds nothing but tensors and plain values.

    Args:
        path: of a file, or its address, from which it is fetched.

    Raises:
        InputError: if it holds objects of other classes, which are named, or is damaged, or something else, or cannot
            be fetched.

    Example:
        >>> load_content("memory://nowhere.ckpt")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: memory://nowhere.ckpt cannot be fetched (FileNotFoundError: \
/nowhere.ckpt): correct the address.
    """
    with _opened(path) as file:
        if is_whole(file) is False:
            raise DamagedFileError(path, "is damaged: it is not what was written, by the checksum in it")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, *_BROKEN) as error:
            file.seek(0)
            classes = _refused_classes(file, error)
            if not classes:
                raise DamagedFileError(path, "is damaged, cut off, or no file of torch.save") from error
            raise InputError(
                f"{path} holds objects of {', '.join(classes)}. It is read with weights_only=True, which refuses them: "
                "to load them is to run code that the file names.\nIf you trust its origin, keep the weights alone, in "
                f"an environment that has these classes:\ntorch.save({{'state_dict': torch.load({str(path)!r}, "
                "weights_only=False)['state_dict']}, 'weights.ckpt')"
            ) from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors, by name, on the CPU.

    Raises:
        MissingPackageError: if the package safetensors is missing.
        InputError: if the file is damaged, or something else.

    Example:
        >>> load_safetensors(Path(__file__))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: ...content.py is damaged, cut off, or no safetensors file: copy it anew.
    """
    require_packages(str(path), ["safetensors"])
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged, cut off, or no safetensors file: copy it anew.") from error
    return found


class DamagedFileError(InputError):
    """A file cannot be read; the message names the newest checkpoint beside it that can.

    Args:
        path: of the file.
        what: is wrong with it.

    Example:
        >>> raise DamagedFileError("last.ckpt", "is cut off")
        Traceback (most recent call last):
        simclr_lightning.checkpoints.content.DamagedFileError: last.ckpt is cut off: copy it anew, or name another \
checkpoint.
    """

    def __init__(self, path: str | Path, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path = path

    def __str__(self) -> str:
        # Looked for only when it is told: the file may be one of those that are looked through.
        beside = None if is_address(self.path) else newest_checkpoint(Path(self.path).parent).path
        other = "or name another checkpoint." if beside is None else f"or go on from another:\n--ckpt_path {beside}"
        return f"{shown(self.args[0])}: copy it anew, {other}"


class Newest(NamedTuple):
    """The newest checkpoint of a folder that can be read, where a newer one may be damaged.

    Attributes:
        path: None if there is none.
        damaged: those that are newer, and cannot be read.

    Example:
        >>> newest_checkpoint(Path("no/such/folder"))
        Newest(path=None, damaged=[])
    """

    path: Path | None
    damaged: list[Path]


def newest_checkpoint(folder: Path) -> Newest:
    """Look through the checkpoints of a folder, the newest first.

    Folders of pieces, as FSDP2 writes by default, are taken without a look at the pieces.

    Example:
        >>> newest_checkpoint(Path("no/such/folder")).path
    """
    damaged: list[Path] = []
    for path in sorted(folder.glob("*.ckpt"), key=_age, reverse=True):
        if _can_be_read(path):
            return Newest(path, damaged)
        damaged.append(path)
    return Newest(None, damaged)


def _age(path: Path) -> tuple[int, bool]:
    return path.stat().st_mtime_ns, path.name.startswith("last")  # which is written after its twin


def _can_be_read(path: Path) -> bool:
    if path.is_dir():
        return (path / BESIDE_PIECES).is_file()
    try:
        with path.open("rb") as file:
            whole = is_whole(file)
        if whole is None:  # of another program, or from before there were checksums
            load_content(path)
    except (InputError, OSError):
        return False
    return whole is not False


def _opened(path: str | Path) -> BinaryIO:
    return BytesIO(_fetched(str(path))) if is_address(path) else Path(path).open("rb")


def _fetched(address: str) -> bytes:
    try:
        with get_filesystem(address).open(address, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # each protocol has its own
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{address} cannot be fetched ({told}): correct the address.") from error


def _refused_classes(file: Any, error: Exception) -> list[str]:
    """All classes that are no plain values; of torch's oldest format, the first one."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except (pickle.UnpicklingError, *_BROKEN):  # no zip file
        return re.findall(r"GLOBAL (\S+) was not an allowed", str(error))
