"""A simulated device is there for the whole life of a process, and would change what the other tests see.

A run of this folder alone takes place in its own process. A run of more hands every file here to another process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def is_alone(config: pytest.Config) -> bool:
    """Whether nothing but tests of this folder was asked for."""
    asked = [Path(config.invocation_params.dir, word.partition("::")[0]).resolve() for word in config.args]
    return all(path.is_relative_to(HERE) for path in asked)


class Folder(pytest.Directory):
    """Imports nothing: one test a file."""

    def collect(self) -> Iterator[pytest.Item]:
        for path in sorted(HERE.glob("test_*.py")):
            yield File.from_parent(self, name=path.name, path=path)


class File(pytest.Item):
    """All tests of a file, in a process of their own."""

    def runtest(self) -> None:
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
        command = [sys.executable, "-m", "pytest", *options, str(self.path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.config.rootpath)
        if run.returncode:
            raise AssertionError(f"{self.name}, in a process of its own:\n{run.stdout[-20_000:]}{run.stderr[-2_000:]}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
