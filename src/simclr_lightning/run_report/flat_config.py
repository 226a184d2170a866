"""Configurations as options and their values, as one would type them, and what differs between some."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_MOST_OPTIONS = 5_000  # YAML can make billions of a few lines
_DEEPEST = 20
_LARGEST = 4 * 2**20  # bytes of a file
_LONGEST = 500  # characters of a value that are shown


class Difference(NamedTuple):
    """An option and its values, one a configuration, as texts; None where it is not there.

    Example:
        >>> Difference("data.batch_size", ["128", "256"]).differs
        True
    """

    option: str
    values: list[str | None]

    @property
    def differs(self) -> bool:
        """Whether the values are not all the same."""
        return len(set(self.values)) > 1


def read_config(file: Path) -> dict[str, str]:
    """Options and values of a YAML file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no configuration.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "config.yaml")
        ...     _ = file.write_text("model: {class_path: my.SimCLR, init_args: {width: 0.5, loss: null}}")
        ...     read_config(file)
        {'model': 'my.SimCLR', 'model.width': '0.5', 'model.loss': 'null'}
    """
    if file.stat().st_size > _LARGEST:
        raise ValueError("it is larger than 4 MiB")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise ValueError("it has no keys")
    return flattened(content)


def flattened(content: Mapping[str, Any]) -> dict[str, str]:
    """Options and values, of 5,000 at most.

    Example:
        >>> flattened({"data": {"views": {"size": None, "crop_area": [0.2, 1.0]}}})
        {'data.views.size': 'null', 'data.views.crop_area': '[0.2, 1.0]'}
    """
    return dict(islice(_flat("", content, 0), _MOST_OPTIONS))


def _flat(option: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict) and "class_path" in value:
        yield option, str(value["class_path"])
        arguments = {**_mapping(value.get("init_args")), **_mapping(value.get("dict_kwargs"))}
        for name, inner in arguments.items():
            yield from _flat(f"{option}.{name}", inner, depth + 1)
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{option}.{name}" if option else str(name), inner, depth + 1)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            named = isinstance(inner, dict) and "class_path" in inner
            name = str(inner["class_path"]).rpartition(".")[2] if named else str(number)
            yield from _flat(f"{option}.{name}", inner, depth + 1)
    else:
        yield option, as_text(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str:
    """A value as YAML has it, cut off where it is long.

    Example:
        >>> as_text(None), as_text(True), as_text([0.2, 1.0]), as_text("digits")
        ('null', 'true', '[0.2, 1.0]', 'digits')
    """
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):  # it holds itself
        text = "..."
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def compared(configs: Sequence[Mapping[str, str]]) -> list[Difference]:
    """All options of some configurations, in the order of the first.

    Example:
        >>> compared([{"a": "1"}, {"a": "2", "b": "x"}])
        [Difference(option='a', values=['1', '2']), Difference(option='b', values=[None, 'x'])]
    """
    options = dict.fromkeys(option for config in configs for option in config)
    return [Difference(option, [config.get(option) for config in configs]) for option in options]
