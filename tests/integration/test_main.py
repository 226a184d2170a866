"""The package as a program."""

from __future__ import annotations

import subprocess
import sys

import simclr_lightning


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "simclr_lightning", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert simclr_lightning.__version__ in done.stdout
