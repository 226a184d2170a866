"""The ``simclr`` command as a shell sees it: complaints about its input are one message, not a traceback."""

from __future__ import annotations

import os
import sys

from lightning.fabric.utilities.exceptions import MisconfigurationException

from simclr_lightning.cli import main
from simclr_lightning.errors import InputError

TRACEBACK = "SIMCLR_TRACEBACK"
"""Environment variable; anything but nothing shows where a complaint comes from."""


def run() -> None:
    """Entry point. Only what a user can mend loses its traceback: anything else may be a bug, here or elsewhere.

    Raises:
        SystemExit: with status 1, after a complaint.
    """
    try:
        main()
    except (InputError, MisconfigurationException) as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"simclr: error: {error}\n({TRACEBACK}=1 shows where this comes from.)", file=sys.stderr)
        raise SystemExit(1) from error
