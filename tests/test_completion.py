"""What a shell offers is what the commands take, and bash completes it for real."""

from __future__ import annotations

import inspect
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from torchvision import models
from torchvision.models import list_models

import simclr_lightning
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.commands import COMMANDS
from simclr_lightning.completion import completion
from simclr_lightning.completion.next_words import _FAMILIES, DATASETS, OF_LIGHTNING, candidates
from simclr_lightning.completion.source_text import arguments_of
from simclr_lightning.console import main
from simclr_lightning.data import SOURCES
from simclr_lightning.models.resnet import RESNETS
from simclr_lightning.recipe_files import recipes
from simclr_lightning.views.presets import PRESETS


def options_where(*typed: str) -> dict[str, set[str]]:
    """The options of the commands that build a model and data, as their parsers have them where this is typed."""
    found: dict[str, set[str]] = {}

    class Stopped(SimCLRCLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            for name in OF_LIGHTNING:
                usage = self.parser_of(name).format_usage()
                found[name] = set(re.findall(r"--([\w.]+)", usage))
            raise SystemExit

    with pytest.raises(SystemExit):
        Stopped(args=[*typed])
    return found


@pytest.fixture(scope="module")
def parsers() -> dict[str, set[str]]:
    """Options of all commands."""
    return options_where()


def test_the_command_that_is_typed_has_its_options_and_no_other(parsers: dict[str, set[str]]) -> None:
    found = options_where("evaluate", "--draws", "2")
    assert found.pop("evaluate") == parsers["evaluate"]
    assert len(found) == len(OF_LIGHTNING) - 1
    for name, options in found.items():
        assert {"model", "data", "seed_everything"} <= parsers[name]
        assert options <= {"help", "config", "print_config"}, name


def offered(*words: str) -> set[str]:
    return {word.removeprefix("--") for word in candidates([*words, "--"])}


@pytest.mark.parametrize("command", OF_LIGHTNING)
def test_options_are_those_of_the_parser(command: str, parsers: dict[str, set[str]]) -> None:
    known = {name for name in parsers[command] if not name.endswith(".help") and name != "trainer"}
    found = offered(command)
    assert known <= found
    of_classes = ("model.", "data.", "trainer.logger.")
    known |= {"help", "config", "print_config"}  # which the usage has otherwise
    assert {name for name in found - known if not name.startswith(of_classes)} <= {"trainer.callbacks+"}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in OF_LIGHTNING])
def test_options_of_the_others(command: str) -> None:
    function = resolve_name(COMMANDS[command].function)
    found = {name.partition(".")[0] for name in offered(command)}  # of views.size the argument views
    assert found == {*inspect.signature(function).parameters, "help"}


@pytest.mark.parametrize("family", _FAMILIES)
def test_options_of_classes(family: str) -> None:
    """Each class that is offered is there, with these arguments."""
    modules, names = _FAMILIES[family]
    for name in names():
        places = [module for module in modules if hasattr(resolve_name(module), name)]
        if not places:
            assert name == "false"
            continue
        cls = getattr(resolve_name(places[0]), name)
        own = [argument.name for argument in arguments_of(places[0], name)]
        named = inspect.signature(cls).parameters.values()
        assert own == [one.name for one in named if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)], name


def test_values() -> None:
    assert candidates(["fit", "--config", ""]) == list(recipes())
    assert candidates(["init", "quickstart_l"]) == ["quickstart_linear"]
    assert set(candidates(["fit", "--data.dataset", ""])) == {*SOURCES, "hf:"}
    assert len(DATASETS) == len(SOURCES) + 1
    assert candidates(["fit", "--data.views.preset", ""]) == list(PRESETS)
    assert {*candidates(["fit", "--model.encoder", ""])} - {"timm/"} == {*RESNETS, *list_models(module=models)}
    assert candidates(["fit", "--model.optimizer", ""]) == ["lars", "sgd", "adamw"]
    assert candidates(["fit", "--model.optimizer=l"]) == ["--model.optimizer=lars"]
    assert candidates(["fit", "--model.optimizer", "=", "l"]) == ["lars"]  # as bash cuts it
    assert candidates(["fit", "--trainer.callbacks+=Online"]) == [
        "--trainer.callbacks+=OnlineKNN",
        "--trainer.callbacks+=OnlineLinearProbe",
    ]
    assert candidates(["fit", "--model.loss", "HardNegativeNTXent", "--model.loss.ta"]) == ["--model.loss.tau_plus"]
    assert candidates(["fit", "--model", "Supervised", "--model.loss"]) == []
    assert "bf16-mixed" in candidates(["fit", "--trainer.precision", "bf"])
    assert candidates(["export", "--format", "on"]) == ["onnx"]
    assert candidates(["fit", "--data.root", ""]) == []  # the shell's own names of files
    assert candidates(["nothing", "--x"]) == []
    assert candidates([""]) == [*COMMANDS, "--help", "--version"]


def test_a_shell_is_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        main(["completion", shell])
        assert "completion words" in capsys.readouterr().out


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key Tab in an interactive bash."""
    command = tmp_path / "simclr"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m simclr_lightning "$@"\n')
    command.chmod(0o755)
    completion("bash")
    (tmp_path / "complete.sh").write_text(capsys.readouterr().out)
    (tmp_path / "my_photos").mkdir()
    source = str(Path(simclr_lightning.__file__).parents[1])
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb", "PYTHONPATH": source}
    keyboard, screen = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=tmp_path,
        env=environment,
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )
    os.close(screen)
    typed = "simclr fi\t--config quickstart_l\t--model.optimizer=ad\t--data.root my_ph\t"
    told = b""
    try:
        os.write(keyboard, f"source complete.sh\r{typed}\x01echo \rexit\r".encode())
        deadline = time.monotonic() + 60
        while shell.poll() is None and time.monotonic() < deadline:
            if select.select([keyboard], [], [], 0.1)[0]:
                try:
                    told += os.read(keyboard, 4096)
                except OSError:  # the other end is closed
                    break
    finally:
        shell.kill()
        shell.wait()
        os.close(keyboard)
    lines = told.decode().replace("\r", "").splitlines()
    expected = "simclr fit --config quickstart_linear --model.optimizer=adamw --data.root my_photos/"
    assert expected in lines, told.decode()
