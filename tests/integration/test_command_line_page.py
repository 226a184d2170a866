"""The messages in docs/command_line.md are those that the commands have."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "theme" / "wrong_lines.py"


def test_there_are_sixty_of_at_most_three_lines() -> None:
    names = runpy.run_path(str(SCRIPT))
    lines = list(names["lines"](names["PAGE"].read_text(encoding="utf-8")))
    assert len(dict(lines)) == len(lines) >= 60
    assert {typed: told for typed, told in lines if not 1 <= len(told.splitlines()) <= 3} == {}


def test_a_sample_says_what_the_page_says() -> None:
    """In a process of its own: a message names the classes that this one has, those of other tests among them."""
    every = "1" if os.environ.get("SIMCLR_FAULTS") else "9"
    done = subprocess.run([sys.executable, SCRIPT, "--check", every], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
