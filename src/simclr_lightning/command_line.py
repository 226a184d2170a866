"""What was typed: the command that a figure is got again with, and names that YAML would read as something else."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml


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


def with_stand_ins(words: list[str], options: Mapping[str, bool]) -> tuple[list[str], dict[str, str]]:
    """Replace the names of files that YAML would read as something else: ``null``, ``[set 1]``, ``a: b``, ``007``.

    Args:
        words: of the command line.
        options: that take the name of a file, with dashes, and whether null may stand for none at all.

    Returns:
        The words, and what their stand-ins stand for: see :func:`put_back`.

    Example:
        >>> words, names = with_stand_ins(["fit", "--root", "a: b", "--probe=null"], {"--root": False, "--probe": True})
        >>> words, names
        (['fit', '--root', 'name_0_as_typed', '--probe=null'], {'name_0_as_typed': 'a: b'})
    """
    names: dict[str, str] = {}
    changed = []
    before = ""
    for word in words:
        is_value = before in options
        option, equals, value = (before, "", word) if is_value else word.partition("=")
        if option in options and (is_value or equals) and not _is_plain(value, null=options[option]):
            stand_in = f"name_{len(names)}_as_typed"
            names[stand_in] = value
            changed.append(f"{option}={stand_in}" if equals else stand_in)
        else:
            changed.append(word)
        before = "" if is_value else word
    return changed, names


def as_flags(words: list[str], flags: Collection[str]) -> list[str]:
    """Let options that are true or false be typed without a value, which means true.

    Example:
        >>> as_flags(["photos", "--json"], {"--json"}), as_flags(["--json", "false"], {"--json"})
        (['photos', '--json=true'], ['--json', 'false'])
    """
    return [
        f"{word}=true" if word in flags and (words[number + 1 :] or [""])[0].lower() not in ("true", "false") else word
        for number, word in enumerate(words)
    ]


def as_list(words: list[str]) -> list[str]:
    """Let arguments without a name be typed one after the other: together they are one list, as JSON.

    Example:
        >>> as_list(["one", "null", "--output", "page.html"]), as_list(["--help"])
        (['["one", "null"]', '--output', 'page.html'], ['--help'])
    """
    listed: list[str] = []
    kept: list[str] = []
    before = ""
    for word in words:
        is_value = before.startswith("--") and "=" not in before and before != "--help"
        (kept if is_value or word.startswith("-") else listed).append(word)
        before = "" if is_value else word
    return [json.dumps(listed, ensure_ascii=False), *kept] if listed else kept


def put_back(arguments: MutableMapping[str, Any], names: Mapping[str, str]) -> None:
    """Put names in the place of their stand-ins, in what was made of the words.

    Example:
        >>> arguments = {"root": "name_0_as_typed", "seed": 0}
        >>> put_back(arguments, {"name_0_as_typed": "a: b"})
        >>> arguments
        {'root': 'a: b', 'seed': 0}
    """
    for argument, value in list(arguments.items()):
        if isinstance(value, str) and value in names:
            arguments[argument] = names[value]


def _is_plain(value: str, *, null: bool) -> bool:
    """Whether YAML reads a value as it stands, or as nothing where that may be meant."""
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return True  # so does jsonargparse
    return read == value or (null and read is None)
