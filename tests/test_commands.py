"""Every command is listed, and what needs no torch does not wait for it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import simclr_lightning
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.commands import COMMANDS, overview
from simclr_lightning.console import main
from simclr_lightning.errors import InputError

SOURCE = Path(simclr_lightning.__file__).parent


def test_help_lists_every_command() -> None:
    of_lightning = {name for name, command in COMMANDS.items() if not command.function}
    assert of_lightning == set(SimCLRCLI.subcommands())
    for name, command in COMMANDS.items():
        assert f"  {name} " in overview()
        assert command.purpose in overview()
        if command.function:
            assert callable(pkgutil.resolve_name(command.function))
    lines = overview().splitlines()
    assert len(lines) <= 40  # a screen
    assert max(map(len, lines)) <= 120


def test_the_overview_needs_nothing_heavy() -> None:
    commands = [["--help"], ["-h"], ["--version"], ["recipes"], ["recipes", "cifar10/ablations"]]
    commands += [["completion", "bash"], ["completion", "words", "fit", "--model.loss", "NTXentLoss", "--"]]
    code = f"""
import sys
from simclr_lightning.console import main
for words in {commands}:
    main(words)
heavy = {{"torch", "lightning", "numpy", "scipy", "sklearn", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "cifar10/ablations/base" in done.stdout
    assert "--model.loss.temperature" in done.stdout


def test_nothing_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([])
    assert done.value.code == 2
    assert capsys.readouterr().err == f"{overview()}\n"


@pytest.mark.parametrize(("typed", "meant"), [("fti", "fit"), ("evalute", "evaluate"), ("label-curve", "label_curve")])
def test_a_command_that_is_spelled_wrongly(typed: str, meant: str) -> None:
    with pytest.raises(InputError, match=rf"There is no command '{typed}': did you mean `simclr {meant}`\?"):
        main([typed, "--data.root", "photos"])


def test_a_command_like_no_other() -> None:
    with pytest.raises(InputError, match="There is no command 'quux': `simclr --help` lists them all"):
        main(["quux"])


def test_every_public_name_is_found_when_it_is_used() -> None:
    code = """
import sys, simclr_lightning
assert "torch" not in sys.modules
names = dir(simclr_lightning)
assert set(simclr_lightning.__all__) <= set(names)
for name in simclr_lightning.__all__:
    assert getattr(simclr_lightning, name) is not None
assert simclr_lightning.losses.NTXentLoss is simclr_lightning.NTXentLoss
assert not hasattr(simclr_lightning, "quux") and not hasattr(simclr_lightning, "_quux")
from simclr_lightning import *
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="needs fork")
def test_every_room_may_be_imported_first() -> None:
    """Of this package: what it needs is imported once, and each room in a process of its own.

    A room runs the same way whichever of its files is asked for, and test_architecture has no circle within one.
    """
    modules = sorted(
        f"{SOURCE.name}.{path.stem}"
        for path in SOURCE.iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and not path.stem.startswith("__"))
    )
    code = f"""
import importlib, os, sys
import simclr_lightning.console, simclr_lightning.cli, simclr_lightning.ablation, simclr_lightning.export
for name in [name for name in sys.modules if name.startswith("simclr_lightning")]:
    del sys.modules[name]
failed = []
for name in {modules}:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
assert not failed, failed
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
