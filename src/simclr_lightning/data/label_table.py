"""Labels and splits of pictures in a table: CSV or parquet with columns for file, label and, perhaps, split."""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from simclr_lightning.data.split_names import split_of
from simclr_lightning.data.tree import Labelled, Tree
from simclr_lightning.errors import InputError, MissingFileError, require_packages

_COLUMNS = {
    "file": (
        "file", "filename", "file_name", "file_path", "filepath", "path", "image", "image_path", "image_name",
        "image_id", "img", "picture", "id_code", "id",
    ),
    "label": ("label", "class", "class_name", "target", "category", "diagnosis", "species"),
    "split": ("split", "subset", "partition", "set"),
}  # fmt: skip
"""What columns are called, the first that is there; upper or lower case."""


class Row(NamedTuple):
    """What a table says of a picture.

    Attributes:
        file: its name, as it stands there.
        label: its class, None where it has none.
        split: train, val or test; None where the table has no such column.

    Example:
        >>> Row("cat/1.jpg", "cat", None).label
        'cat'
    """

    file: str
    label: str | None
    split: str | None


def read_table(path: str | os.PathLike[str]) -> list[Row]:
    """Read a table of labels.

    Args:
        path: CSV (separated by commas, semicolons or tabs), or parquet, which needs pyarrow. Columns: ``file`` (or
            file_name, path, image, id, ...), ``label`` (or class, target, ...) and, if there is one, ``split``, in
            which any name of a split will do.

    Returns:
        A row for each picture.

    Raises:
        MissingFileError: if there is no such file.
        MissingPackageError: if it is parquet, and pyarrow is missing.
        InputError: if there is no column for the file or the label, no row, or an unknown split.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     rows = ("image,label,split", "1.jpg,cat,Training", "2.jpg,,TEST")
        ...     _ = Path(folder, "labels.csv").write_text(os.linesep.join(rows))
        ...     read_table(Path(folder, "labels.csv"))
        [Row(file='1.jpg', label='cat', split='train'), Row(file='2.jpg', label=None, split='test')]
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise MissingFileError(f"There is no table of labels {os.fspath(path)!r}: correct its name", "data.labels")
    columns = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    found = {column: _found(columns, names) for column, names in _COLUMNS.items()}
    if found["file"] is None or found["label"] is None:
        raise InputError(
            f"The table {os.fspath(path)!r} has the columns {', '.join(columns) or '(none)'}, and needs one called "
            "file and one called label (and, if you like, split): rename them.",
        )
    files = [_text(value) for value in columns[found["file"]]]
    if not any(files):
        raise InputError(f"The table {os.fspath(path)!r} names no picture: it should hold one a row.")
    labels = [_text(value) for value in columns[found["label"]]]
    words = [None] * len(files) if found["split"] is None else [_text(value) for value in columns[found["split"]]]
    splits = [None if word is None else split_of(word) for word in words]
    for number, (word, split) in enumerate(zip(words, splits, strict=True)):
        if found["split"] is not None and split is None:
            raise InputError(
                f"The table {os.fspath(path)!r} says {word or 'nothing'!r} in the column {found['split']} of row "
                f"{number + 1}: write train, val or test there."
            )
    return [Row(*row) for row in zip((file or "" for file in files), labels, splits, strict=True) if row[0]]


def labelled_by(rows: Sequence[Row], tree: Tree, base: str, table: str) -> Tree:
    """Labels, and splits where the table has them, in place of those that the folders tell.

    Pictures that no row names stay in the split of their folder, without a label.

    Args:
        rows: of the table, see :func:`read_table`.
        tree: the pictures as their folders have them.
        base: the folder that names are relative to.
        table: its name, for messages.

    Raises:
        InputError: if a row names no picture, or several, or two rows contradict each other.

    Example:
        >>> tree = Tree({"train": Labelled(["a/1.jpg", "a/2.jpg", "a/3.jpg"], [None, None, None])})
        >>> rows = [Row("1.jpg", "cat", "train"), Row("a/2", "dog", "val")]
        >>> found = labelled_by(rows, tree, "photos", "labels.csv")
        >>> found.parts["train"], found.parts["val"], found.notes
        (Labelled(names=['a/1.jpg', 'a/3.jpg'], labels=['cat', None]), Labelled(names=['a/2.jpg'], labels=['dog']), \
['pictures that labels.csv does not name, and that stay unlabelled: 1'])
    """
    places = {name: split for split, part in tree.parts.items() for name in part.names}
    places |= dict.fromkeys(tree.left_out.get("beside the splits", ()), "")
    said: dict[str, Row] = {}
    found = _matches(rows, places, base, table)
    for row in rows:
        name = found[row.file]
        if name in said and said[name][1:] != row[1:]:
            raise InputError(f"The table {table!r} says two things of {name}: {said[name][1:]} and {row[1:]}.")
        said[name] = row
    parts: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    beside, unlabelled = list[str](), 0
    for name in sorted(places):
        own = said.get(name)
        if own is not None:
            parts[own.split or places[name] or "train"].append((name, own.label))
        elif places[name]:
            parts[places[name]].append((name, None))
            unlabelled += 1
        else:
            beside.append(name)
    if not parts["train"]:
        raise InputError(f"The table {table!r} leaves no picture to train on: write train into its column split.")
    left_out = {reason: names for reason, names in tree.left_out.items() if reason != "beside the splits"}
    notes = list(tree.notes)
    if unlabelled:
        notes.append(f"pictures that {os.path.basename(table)} does not name, and that stay unlabelled: {unlabelled:,}")
    labelled = {}
    for split, pairs in parts.items():
        labelled[split] = Labelled([name for name, _ in pairs], [label for _, label in pairs])
    return Tree(labelled, left_out | ({"beside the splits": beside} if beside else {}), notes)


def ordered_classes(classes: Iterable[str]) -> list[str]:
    """Classes by name, or by number where all are numbers.

    Example:
        >>> ordered_classes(["10", "9", "0"]), ordered_classes(["dog", "cat"])
        (['0', '9', '10'], ['cat', 'dog'])
    """
    names = sorted(classes)
    return sorted(names, key=int) if all(name.lstrip("-").isdecimal() for name in names) else names


def _matches(rows: Sequence[Row], places: Mapping[str, str], base: str, table: str) -> dict[str, str]:
    """The picture that each name stands for: with or without folders in front, with or without its ending."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in places:
        file = os.path.basename(name)
        by_file[file].append(name)
        by_file[os.path.splitext(file)[0]].append(name)
    found, missing = {}, []
    for row in rows:
        asked = _relative(row.file, base)
        if asked in places:
            found[row.file] = asked
            continue
        near = {name for name in by_file[os.path.basename(asked)] if _same_end(name, asked)}
        if len(near) > 1:
            raise InputError(
                f"The table {table!r} names {row.file}, and there are several such pictures "
                f"({', '.join(sorted(near)[:2])}): put their folder in front of the name."
            )
        if near:
            found[row.file] = near.pop()
        else:
            missing.append(row.file)
    if missing:
        raise InputError(
            f"{len(missing):,} of the {len(rows):,} pictures in the table {table!r} are not in "
            f"{base!r}: {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}. Correct the "
            "folder or the table",
            "data.root",
            "data.labels",
        )
    return found


def _relative(file: str, base: str) -> str:
    file = os.path.normpath(file.replace("\\", "/")) if "\\" in file and os.sep == "/" else os.path.normpath(file)
    if os.path.isabs(file):
        inside = os.path.relpath(file, os.path.abspath(base))
        return file if inside.startswith(os.pardir) else inside
    return file


def _same_end(name: str, asked: str) -> bool:
    """Whether both are the same as far as both go, from the file towards the root."""
    ours, theirs = PurePath(name), PurePath(asked)
    if ours.name != theirs.name:
        ours = ours.with_suffix("")
    shorter = min(len(ours.parts), len(theirs.parts))
    return ours.parts[-shorter:] == theirs.parts[-shorter:]


def _found(columns: Mapping[str, Any], names: Sequence[str]) -> str | None:
    by_name = {column.strip().lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _text(value: Any) -> str | None:
    if isinstance(value, float):  # a column of integers with gaps
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    text = "" if value is None else str(value).strip()
    return text or None


def _csv(path: Path) -> dict[str, list[Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        rows = list(csv.DictReader(file, delimiter=delimiter))
    return {column: [row[column] for row in rows] for column in (rows[0] if rows else ()) if column is not None}


def _parquet(path: Path) -> dict[str, list[Any]]:
    require_packages(f"The table {path.name}", ["pyarrow"])
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {column: table[column].to_pylist() for column in table.column_names}
