"""The ``simclr`` command as a shell sees it: complaints about its input are one message, not a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from simclr_lightning.cli import main

TRACEBACK = "SIMCLR_TRACEBACK"
"""Environment variable; anything but nothing shows where a complaint comes from."""


def run() -> None:
    """Entry point. Whatever this package did not raise itself keeps its traceback: it may be a bug, here or elsewhere.

    Raises:
        SystemExit: with status 1, after a complaint.
    """
    try:
        main()
    except Exception as error:
        if os.environ.get(TRACEBACK) or not _is_complaint(error):
            raise
        print(f"simclr: error: {error}\n({TRACEBACK}=1 shows where this comes from.)", file=sys.stderr)
        raise SystemExit(1) from error


def _is_complaint(error: Exception) -> bool:
    """Whether a ``raise`` of this package is where it began."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(Path(__file__).parent) and (last.line or "").startswith("raise ")
