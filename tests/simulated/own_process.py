"""A simulated device is there for the whole life of a process, and would change what the other tests see.

A run of this folder alone takes place in its own process. A run of more hands the files here to some others.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SHARES = 3  # processes: each takes seconds to import torch and Lightning, and none may come near the time of one test


def is_alone(config: pytest.Config) -> bool:
    """Whether nothing but tests of this folder was asked for."""
    asked = [Path(config.invocation_params.dir, word.partition("::")[0]).resolve() for word in config.args]
    return all(path.is_relative_to(HERE) for path in asked)


def shares() -> list[tuple[str, list[Path]]]:
    """Of all files, the largest first, each to the share that has least: they take about as long."""
    parts: list[list[Path]] = [[] for _ in range(SHARES)]
    for path in sorted(HERE.glob("test_*.py"), key=lambda path: (-path.stat().st_size, path.name)):
        min(parts, key=lambda part: sum(own.stat().st_size for own in part)).append(path)
    return [(f"{number} of {SHARES}", part) for number, part in enumerate(parts, start=1)]


class Folder(pytest.Directory):
    """Imports nothing: one test a share."""

    def collect(self) -> Iterator[pytest.Item]:
        for name, paths in shares():
            yield Share.from_parent(self, name=name, paths=paths)


class Share(pytest.Item):
    """All tests of some files, in a process of their own."""

    def __init__(self, *, paths: Sequence[Path], **settings: Any) -> None:
        super().__init__(**settings)
        self.paths = paths

    def runtest(self) -> None:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
        command = [sys.executable, "-m", "pytest", *options, *map(str, self.paths)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.config.rootpath)
        if run.returncode:
            raise AssertionError(f"{self.name}, in a process of its own:\n{run.stdout[-20_000:]}{run.stderr[-2_000:]}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
