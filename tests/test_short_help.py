"""`simclr fit --help` shows what the parsers know, and `--help all` every option."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from simclr_lightning.console import main
from simclr_lightning.short_help import FIRST


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as done:
        main(list(words))
    assert done.value.code == 0
    return capsys.readouterr().out


def test_the_options_that_matter_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "fit", "--help")
    for group, names in FIRST.items():
        assert f"\n{group}:\n" in text
        for name in names:  # each with words of its own
            assert re.search(rf"\n  --{re.escape(name)}\n {{8}}\w", text), name
    assert "--trainer.barebones" not in text
    assert "--ckpt_path" in text
    assert "\nExamples:\n" in text
    assert len(text.splitlines()) < 120


def test_options_of_a_command_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "evaluate", "-h")
    assert re.search(r"\nOf evaluate:\n(?s:.*)\n  --protocols\n {8}\w(?s:.*)\nPictures:", text)
    assert "\n  # judge the encoder\n" in text


def test_every_option_is_somewhere() -> None:
    """In a process of its own: it lists every subclass that is known, those of other tests as well."""
    command = [sys.executable, "-m", "simclr_lightning", "fit", "--help", "all"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    for name in ("trainer.barebones", "trainer.max_epochs", "model", "data", "ckpt_path", "weights_only"):
        assert f"  --{name}" in text
