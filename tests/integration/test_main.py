"""The package as a program."""

from __future__ import annotations

import subprocess
import sys

import simclr_lightning


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "simclr_lightning", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert simclr_lightning.__version__ in done.stdout


def test_bad_input_is_told_without_a_traceback() -> None:
    command = [sys.executable, "-m", "simclr_lightning", "evaluate", "--ckpt_path", "no.ckpt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "simclr: error: There is no checkpoint no.ckpt" in done.stderr
