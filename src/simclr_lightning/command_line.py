"""The command that a figure is got again with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path


def typed_command(subcommand: str, changes: Mapping[str, str] | None = None) -> str | None:
    """The command that this process was started by, as it can be pasted into a shell.

    Args:
        subcommand: of ``simclr``, such as evaluate.
        changes: options without dashes and their values, which replace what was typed.

    Returns:
        None where the process is not ``simclr SUBCOMMAND``, but somebody's Python program.

    Example:
        >>> import sys
        >>> from unittest.mock import patch
        >>> with patch.object(sys, "argv", ["/usr/bin/simclr", "evaluate", "--protocols", "linear,knn"]):
        ...     typed_command("evaluate", {"protocols": "knn"})
        'simclr evaluate --protocols knn'
    """
    program, *words = sys.argv
    started = Path(program)
    is_ours = started.stem == "simclr" or (started.stem, started.parent.name) == ("__main__", "simclr_lightning")
    if not is_ours or subcommand not in words:
        return None
    changes = changes or {}
    kept = _without(words, {f"--{option}" for option in changes})
    return shlex.join(
        ["simclr", *kept, *(word for option, value in changes.items() for word in (f"--{option}", value))]
    )


def _without(words: list[str], options: Collection[str]) -> list[str]:
    """Leave options out that are typed as ``--option value`` or ``--option=value``."""
    kept: list[str] = []
    is_value = False
    for word in words:
        if not is_value and word.partition("=")[0] not in options:
            kept.append(word)
        is_value = not is_value and word in options
    return kept
