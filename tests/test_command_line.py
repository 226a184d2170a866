"""The command that is written beside a figure."""

from __future__ import annotations

import sys

import pytest

from simclr_lightning.command_line import typed_command


@pytest.mark.parametrize("program", ["simclr", "/usr/bin/simclr", "simclr.exe", "/x/simclr_lightning/__main__.py"])
def test_what_was_typed_is_repeated(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "evaluate", "--config", "my run/config.yaml", "--seed=3"])
    assert typed_command("evaluate") == "simclr evaluate --config 'my run/config.yaml' --seed=3"


@pytest.mark.parametrize(
    "typed",
    [
        ["--protocols", "linear,knn", "--draws", "2"],
        ["--draws", "2", "--protocols=linear,knn"],
        ["--protocols", "knn", "--draws", "2", "--protocols=linear", "--output", "here"],
    ],
)
def test_changes_replace_what_was_typed(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["simclr", "evaluate", *typed])
    command = typed_command("evaluate", {"protocols": "linear@1%", "output": "there"})
    assert command == "simclr evaluate --draws 2 --protocols linear@1% --output there"


@pytest.mark.parametrize(
    "argv",
    [["my_program.py", "evaluate"], ["/x/pytest/__main__.py", "evaluate"], ["simclr", "fit"], [""]],
)
def test_other_programs_have_no_command(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert typed_command("evaluate") is None
