"""What every part is given: the device, how large things are, and where its results go."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
RIGHT, WRONG = "right", "WRONG"
PASS, SHORT = "pass", "short"
MISSING, FAULT = "not installed", "FAULT"
REHEARSED = "rehearsed"
"""Of a figure with an aim, where there is no GPU: it says nothing."""


class Check:
    """Where a part works, and the rows that it reports.

    Every row is written at once, as a line of JSON, so that what was measured before a fault or a time limit is kept.

    Args:
        part: its name, in every row.
        path: file of the rows.
        rehearse: tiny sizes on the CPU, to find faults of the script. Otherwise full sizes on the GPU.
        seconds: that the part may take.
        photographs: folder of JPEG files in class folders; None: they are drawn.
    """

    def __init__(
        self, part: str, path: Path, *, rehearse: bool, seconds: float = 60.0, photographs: Path | None = None
    ) -> None:
        self.part, self.path, self.rehearse, self.photographs = part, path, rehearse, photographs
        self.device = torch.device("cpu" if rehearse else "cuda")
        self._end = time.monotonic() + seconds

    def sized(self, full: T, tiny: T) -> T:
        """The first on a GPU, the second in a rehearsal."""
        return tiny if self.rehearse else full

    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def must(self, name: str, right: bool, note: str, **details: Any) -> None:
        """Something that has to be so."""
        self._row(name, verdict=RIGHT if right else WRONG, note=note, **details)

    def figure(
        self,
        name: str,
        value: float | None,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
        **details: Any,
    ) -> None:
        """A figure, with the issue's aim where it has one."""
        aim, verdict = "", ""
        if value is not None and (at_most is not None or at_least is not None):
            aim = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
            reached = value <= at_most if at_most is not None else value >= (at_least or 0.0)
            verdict = REHEARSED if self.rehearse else PASS if reached else SHORT
        self._row(name, value=value, unit=unit, aim=aim, verdict=verdict, note=note, **details)

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """A fault inside is a row, and the part goes on; so is a package that is missing, or too little memory."""
        try:
            yield
        except ImportError as missing:
            self._row(name, verdict=MISSING, note=str(missing))
        except torch.OutOfMemoryError as error:
            self._row(name, verdict="", note="out of memory", traceback=str(error))
        except Exception as error:
            note = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self._row(name, verdict=FAULT, note=note, traceback=traceback.format_exc())
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _row(self, name: str, **row: Any) -> None:
        details = {key: row.pop(key) for key in list(row) if key not in ("value", "unit", "aim", "verdict", "note")}
        line = {"part": self.part, "name": name, "value": None, "unit": "", "aim": "", **row, "details": details}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
