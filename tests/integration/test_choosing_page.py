"""Every line of the table of docs/choosing.md can be typed: it is parsed, and what it names is built."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.console import main

PAGE = Path(__file__).parents[2] / "docs" / "choosing.md"
ROWS = dict(re.findall(r"^\| (?!you have)(.+?) \| `(simclr fit .+)` \|$", PAGE.read_text(), re.MULTILINE))
ELSEWHERE = {line for page in PAGE.parent.glob("*.md") for line in page.read_text().splitlines()}  # which are run
SMALL = "--trainer.accelerator cpu --data.num_workers 0"


def test_every_line_is_found() -> None:
    lines = PAGE.read_text().split("## What to type")[1].split("\n\n")[1].splitlines()
    assert len(ROWS) == len(lines) - 2 > 10


@pytest.mark.parametrize("row", [row for row, command in ROWS.items() if command not in ELSEWHERE])
def test_line_builds(
    row: str, photos: Path, write_pictures: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures("cifar10", ["train/cat", "test/cat"], smallest=32, largest=32)
    (tmp_path / "pairs.csv").write_text("file,group\ntrain/cat/0.jpg,a\ntrain/cat/1.jpg,a\n")
    monkeypatch.chdir(tmp_path)
    started: list[Any] = []
    monkeypatch.setattr("simclr_lightning.simclr.start_from", lambda *start: started.append(start))  # no download
    built: list[SimCLRCLI] = []
    monkeypatch.setattr(SimCLRCLI, "_run_subcommand", lambda self, subcommand: built.append(self))
    small = SMALL if "torchvision" in ROWS[row] else f"{SMALL} --model.width 0.125"
    monkeypatch.setattr(sys, "argv", [*shlex.split(ROWS[row]), *small.split()])
    main()
    (cli,) = built
    assert bool(started) == ("init_from" in ROWS[row])
    typed = cli.config.fit
    for option, value in re.findall(r"--(model\.micro_batch_size|data\.batch_size|model\.stem) (\S+)", ROWS[row]):
        part, name = option.split(".")
        assert str(typed[part].init_args[name]) == value
    cli.datamodule.setup("fit")
