"""The messages in docs/command_line.md are those that the commands have."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "theme" / "wrong_lines.py"))
LINES: list[tuple[str, str]] = list(SCRIPT["lines"](SCRIPT["PAGE"].read_text(encoding="utf-8")))


def test_there_are_sixty_of_at_most_three_lines() -> None:
    assert len(dict(LINES)) == len(LINES) >= 60
    assert {typed: told for typed, told in LINES if not 1 <= len(told.splitlines()) <= 3} == {}


def test_a_sample_says_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SCRIPT["make_place"](tmp_path)
    monkeypatch.chdir(tmp_path)

    sample = LINES if os.environ.get("SIMCLR_FAULTS") else LINES[::9]
    assert {typed: SCRIPT["message_of"](typed) for typed, _ in sample} == dict(sample)
