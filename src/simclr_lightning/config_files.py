"""Configuration files, before the parser reads them: YAML that says one thing, once, and is no larger than it looks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from simclr_lightning.errors import InputError, MissingFileError

LARGEST = 2**20
"""Bytes of a file, and values of one after its aliases are written out."""

_ENDINGS = (".yaml", ".yml", ".json")
_OPTIONS = ("--config", "-c")
_DEEPEST = 100  # levels


def check_config_files(words: list[str]) -> dict[str, dict[str, Any]]:
    """Read every configuration file that is named on a command line.

    Args:
        words: of the command line, after ``simclr``.

    Returns:
        What is in them, by their names, in the order in which they are named.

    Raises:
        MissingFileError: if one that ``--config`` names is not there.
        InputError: if one is no YAML, has a key twice, refers to itself or grows by aliases without end, or has no
            keys.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "own.yaml")
        ...     _ = file.write_text("trainer: {max_epochs: 3}")
        ...     list(check_config_files(["fit", "--config", str(file)]).values())
        [{'trainer': {'max_epochs': 3}}]
    """
    return {name: _read(Path(name), is_whole=is_whole) for name, is_whole in _named(words)}


def _named(words: list[str]) -> Iterator[tuple[str, bool]]:
    """Names of files, and whether each is a whole configuration, or the part of one that an option is about."""
    for before, word in pairwise([*words[:1], *words]):
        option, equals, value = word.partition("=")
        if before in _OPTIONS or not (equals and option.startswith("-")):
            option, value = before, word
        if option in _OPTIONS:
            is_text = any(mark in value for mark in ":{\n") and not Path(value).is_file()
            if not is_text and value not in ("", "-", "null"):
                yield value, True
        elif option.startswith("--") and value.lower().endswith(_ENDINGS) and Path(value).is_file():
            yield value, False


def _read(path: Path, *, is_whole: bool) -> dict[str, Any]:
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check(root, path)
        content = yaml.safe_load(text)
    except InputError:  # a ValueError, too
        raise
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {_in_a_line(error)}. Correct it there.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested more than {_DEEPEST} levels deep: write it flatter.") from error
    except (ValueError, OverflowError) as error:  # of dates and numbers that there are not
        raise InputError(f"{path} has a value that YAML cannot read ({error}): put it in quotes.") from error
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        for key in ("model", "data", "trainer") if is_whole else ():
            if not isinstance(content.get(key), dict | str | None):
                raise InputError(f"{path} has {content[key]!r} as {key}, which has keys: write them below it.")
        return content
    if not is_whole:
        return {}
    found = "nothing" if content is None else f"a {type(content).__name__}" if not isinstance(content, dict) else "keys"
    raise InputError(
        f"{path} has no keys such as model:, data: and trainer:, as a configuration has, but {found}: write them, or "
        "name another file (--config)."
    )


def _text(path: Path) -> str:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it", "config FILE.yaml")
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes, and a configuration has less", "config FILE.yaml"
            )
        raw = path.read_bytes()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file {str(path)!r}: correct its name", "config FILE.yaml") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name another file", "config FILE.yaml") from error
    except ValueError as error:  # a null character in the name
        raise InputError(f"config is {str(path)!r}, which is no name of a file: correct it") from error
    try:
        return raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8, as YAML is: name another file", "config FILE.yaml") from error


def _check(root: Any, path: Path) -> None:
    """Count the values with every alias written out, which takes no longer than the file is; look for double keys."""
    sizes: dict[int, int] = {}
    open_ones: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_ones:
            raise InputError(f"{path} refers to itself in line {node.start_mark.line + 1}: write out what is meant.")
        if depth > _DEEPEST:
            raise RecursionError
        open_ones.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in seen and name != "<<":
                    raise InputError(
                        f"{path} has the key {name!r} twice, again in line {key.start_mark.line + 1}: which counts? "
                        "Remove the other."
                    )
                seen.add(name)
                total += size(key, depth + 1) + size(value, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item, depth + 1) for item in node.value)
        if total > LARGEST:
            raise InputError(
                f"{path} holds more than {LARGEST:,} values when its aliases (*name) are written out: write what is "
                "meant."
            )
        open_ones.discard(id(node))
        sizes[id(node)] = total
        return total

    if root is not None:
        size(root, 0)


def _in_a_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        told = " ".join(filter(None, (error.context, error.problem)))
        return f"{told} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return " ".join(str(error).split())
