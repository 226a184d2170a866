"""What lies in a folder: pictures, and what is left out, which is counted."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.data.endings import missing_for
from simclr_lightning.data.first_bytes import ending_by_content, ending_of

_PROGRAMS = frozenset(("wandb", "mlruns", "lightning_logs", "__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN"))
"""Folders that programs make, in which nobody keeps his pictures."""

_PICTURES_OF_RUNS = {
    "features.png": "evaluation.json",
    "label_curve.png": "label_curve.json",
    "matrix.png": "matrix.json",
}
"""What our commands draw, and the record that they write beside it."""


@dataclass(frozen=True)
class LeftOut:
    """Files or folders that are no data.

    Attributes:
        reason: why.
        files: how many files or folders.
        example: the first of them, relative to the folder.

    Example:
        >>> str(LeftOut(".txt: no picture", 3, "notes.txt"))
        '3 x .txt: no picture (notes.txt)'
    """

    reason: str
    files: int
    example: str

    def __str__(self) -> str:
        return f"{self.files:,} x {self.reason} ({self.example})"


class Findings(NamedTuple):
    """What a user should know of a folder.

    Attributes:
        left_out: files and folders that are no data.
        notes: what was decided.
        warnings: what may not be what was meant.

    Example:
        >>> Findings([LeftOut("hidden", 1, ".DS_Store")], [], []).left_out[0].files
        1
    """

    left_out: list[LeftOut]
    notes: list[str]
    warnings: list[str]

    def warn(self) -> None:
        """Tell the warnings, on rank zero."""
        for warning in self.warnings:
            rank_zero_warn(warning)


class Walk:
    """Walks a folder. Links are followed; hidden files and folders, and what runs have written, are no data.

    Args:
        root: existing folder.

    Attributes:
        names: of the pictures, relative to the folder, sorted. None has been opened but those without an ending.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("dog/2.jpg", "cat/1.PNG", "cat/notes.txt", "pictures/epoch=0-step=0.png"):
        ...         Path(photos, name).parent.mkdir(exist_ok=True)
        ...         Path(photos, name).touch()
        ...     walk = Walk(Path(photos))
        >>> walk.names, [str(left) for left in walk.left_out]
        (['cat/1.PNG', 'dog/2.jpg'], ['1 x .txt: no picture (cat/notes.txt)', \
'1 x drawn by a run (pictures/epoch=0-step=0.png)'])
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._left_out: dict[str, LeftOut] = {}
        self.names = sorted(self._pictures())

    @property
    def left_out(self) -> list[LeftOut]:
        """What was left out, by reason."""
        return [self._left_out[reason] for reason in sorted(self._left_out)]

    def leave_out(self, reason: str, names: Collection[str]) -> None:
        """Count names that are no data, relative to the folder."""
        if names:
            count, example = len(names), next(iter(names))
            if reason in self._left_out:
                count, example = count + self._left_out[reason].files, self._left_out[reason].example
            self._left_out[reason] = LeftOut(reason, count, example)

    def _pictures(self) -> Iterator[str]:
        seen: set[str] = set()
        for folder, subfolders, files in os.walk(self.root, followlinks=True, onerror=self._unreadable):
            if (real := os.path.realpath(folder)) in seen:  # a link that leads back would never end
                subfolders.clear()
                continue
            seen.add(real)
            inside = os.path.relpath(folder, self.root)
            inside = "" if inside == os.curdir else inside
            if inside and _is_run(subfolders, files):
                self.leave_out("folder of a run", [inside])
                subfolders.clear()
                continue
            self._prune(inside, subfolders)
            here = set(files)
            for name in sorted(files):
                relative = os.path.join(inside, name)
                reason = self._reason(relative, name, here)
                if reason is None:
                    yield relative
                else:
                    self.leave_out(reason, [relative])

    def _reason(self, relative: str, name: str, beside: Collection[str]) -> str | None:
        """Why a file is no data; None if it is a picture."""
        if name.startswith("."):
            return "hidden"
        ending = ending_of(name)
        missing = missing_for(ending or ending_by_content(self.root / relative))
        if missing is not None:
            return f"{ending or 'without an ending'}: {missing}"
        return "drawn by a run" if ending == ".png" and _is_drawn(name, beside) else None

    def _prune(self, inside: str, subfolders: list[str]) -> None:
        kept = []
        for name in sorted(subfolders):
            if name.startswith("."):
                self.leave_out("hidden folder", [os.path.join(inside, name)])
            elif name.lower().endswith(".zarr"):
                self.leave_out(".zarr: a set of pictures, to be named as data.root", [os.path.join(inside, name)])
            elif name in _PROGRAMS:
                self.leave_out("folder of a program", [os.path.join(inside, name)])
            else:
                kept.append(name)
        subfolders[:] = kept

    def _unreadable(self, error: OSError) -> None:
        self.leave_out("folder that cannot be read", [os.path.relpath(str(error.filename), self.root)])


def _is_run(subfolders: Collection[str], files: Collection[str]) -> bool:
    """Whether a folder is that of a run, ours or Lightning's."""
    if "config.yaml" in files and ("checkpoints" in subfolders or "views" in subfolders):
        return True
    recorded = "metrics.csv" in files or any(name.startswith("events.out.tfevents") for name in files)
    return recorded and ("hparams.yaml" in files or "config.yaml" in files)


def _is_drawn(name: str, beside: Collection[str]) -> bool:
    """Whether one of our commands has drawn a picture."""
    if re.fullmatch(r"epoch=\d+(-step=\d+)?\.png", name):
        return True
    split, confusion, _ = name.partition("_confusion.png")
    record = f"{split}_classes.csv" if confusion else _PICTURES_OF_RUNS.get(name)
    return record in beside
