"""The ``simclr`` command as a shell sees it: it answers at once, and complaints about input are no tracebacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from pkgutil import resolve_name
from typing import Any

from simclr_lightning.command_line import as_flags, as_list
from simclr_lightning.commands import COMMANDS, Command, check_command, overview
from simclr_lightning.config_files import check_config_files
from simclr_lightning.errors import InputError
from simclr_lightning.option_errors import option_error
from simclr_lightning.recipe_files import with_recipes
from simclr_lightning.versions import version_of

TRACEBACK = "SIMCLR_TRACEBACK"
"""Environment variable; anything but nothing shows where a complaint comes from."""


_FLAGS = ("--dry_run",)  # of the commands of LightningCLI
_SPINS = "10000"


def run() -> None:
    """Entry point. Only what a user can mend loses its traceback: anything else may be a bug, here or elsewhere.

    Raises:
        SystemExit: with status 1, after a complaint.
    """
    _wait_politely()
    try:
        main()
    except Exception as error:
        if os.environ.get(TRACEBACK) or not _is_complaint(error):
            raise
        print(f"simclr: error: {error}\n({TRACEBACK}=1 shows where this comes from.)", file=sys.stderr)
        raise SystemExit(1) from error


def _wait_politely() -> None:
    """Let torch's threads on a CPU sleep sooner where they wait for each other.

    GNU's OpenMP tries 300,000 times first. Where the processor is shared, it is thereby kept from the thread that is
    waited for: two threads beside two busy processes trained on 163 pictures a second, with this on 290
    (benchmarks/results/waiting_threads.md). It reads this when torch is imported, which comes later. What was typed
    holds.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def main(args: list[str] | None = None) -> None:
    """The command, without what :func:`run` does about complaints.

    torch and Lightning, which take seconds to import, are imported only for what needs them.

    Args:
        args: the command line after ``simclr``, ``sys.argv[1:]`` by default.

    Raises:
        InputError: whatever is wrong with what was typed.
        SystemExit: with status 2 where nothing was typed, and whatever argparse exits with.
    """
    words = sys.argv[1:] if args is None else args
    if not words:
        print(overview(), file=sys.stderr)
        raise SystemExit(2)
    if words[0] in ("--help", "-h"):
        print(overview())
    elif words[0] == "--version":
        print(f"simclr {version_of('simclr-lightning')}")
    elif words[:2] == ["completion", "words"]:  # a shell asks, each time that somebody presses Tab
        from simclr_lightning.completion.next_words import candidates

        for word in candidates(words[2:]):
            print(word)
    else:
        if not words[0].startswith("-"):
            check_command(words[0])
        _start(words, is_typed=args is None)


def _start(words: list[str], *, is_typed: bool) -> None:
    command = COMMANDS.get(words[0])
    if command is not None and command.function:
        function = resolve_name(command.function)
        check_config_files(words)
        with _quiet():
            _call(command, function, words)
        return
    known = as_flags(with_recipes(words), _FLAGS)
    from simclr_lightning.cli import SimCLRCLI

    with _quiet():
        SimCLRCLI(args=None if is_typed and known == words else known)


def _quiet() -> AbstractContextManager[None]:
    """What Lightning tells everybody is left out, where it was imported."""
    if "lightning" not in sys.modules:
        return nullcontext()
    from simclr_lightning.compat import without_noise

    return without_noise()


def _call(command: Command, function: Callable[..., Any], words: list[str]) -> None:
    from jsonargparse import ArgumentError, auto_cli

    typed = as_flags(words[1:], command.flags)
    if command.first and typed and not typed[0].startswith("-"):
        typed.insert(0, command.first)
    if command.several:
        typed = as_list(typed)
    try:
        auto_cli(
            function,
            args=typed,
            as_positional=command.positional,  # simclr describe ROOT
            prog=f"simclr {words[0]}",
            exit_on_error=False,
            allow_abbrev=False,
        )
    except ArgumentError as error:
        options = signature(function).parameters
        raise option_error(str(error), words[0], options, positional=command.positional, words=words) from error


def _is_complaint(error: Exception) -> bool:
    if isinstance(error, InputError):
        return True
    if "lightning" not in sys.modules:
        return False
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    return isinstance(error, MisconfigurationException)
