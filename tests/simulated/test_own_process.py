"""No test of another folder ever meets the simulated device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def collected(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def test_a_run_of_more_takes_each_file_as_one_test() -> None:
    both = collected("tests/simulated", "tests/test_errors.py")
    assert "test_device.py\n" in both
    assert "test_planted" not in both
    assert "test_errors.py::" in both


def test_a_run_of_this_folder_takes_its_tests_one_by_one() -> None:
    assert "::test_copies_tell_their_way_and_size" in collected("tests/simulated/test_device.py")
    assert "test_device.py::test_copies_tell_their_way_and_size" in collected(
        "tests/simulated/test_device.py::test_copies_tell_their_way_and_size"
    )
