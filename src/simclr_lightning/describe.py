"""``simclr describe``: what is in a folder of pictures, before anything is trained on it."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simclr_lightning.data import Pictures, PictureSets
from simclr_lightning.data.chosen import choose_source
from simclr_lightning.data.contents import counted, duplicates, looked_at, summarised
from simclr_lightning.data.folder import picture_sets, splits_of
from simclr_lightning.data.splits import arrange
from simclr_lightning.errors import InputError, options_without, shown


def describe(
    root: str | Path,
    dataset: str = "folder",
    labels: str | Path | None = None,
    sample: int = 200,
    json: bool = False,
) -> dict[str, Any]:
    """Show what is in a folder of pictures; nothing is trained.

    Pictures by split and class, sizes, channels, bits and values, what is left out and why, and pictures that are in
    two splits. The header of every file is read, the pixels of a sample, and files of different splits whose sizes
    are equal are compared byte for byte.

    Args:
        root: folder of the pictures, or several, [a, b].
        dataset: folder, or another data set that lies under the root.
        labels: CSV or parquet with columns file, label and, perhaps, split.
        sample: pictures of each split whose pixels are read, evenly spaced; 0 for none.
        json: whether to print JSON instead of a table.

    Returns:
        What was found, as the JSON has it.

    Raises:
        MissingFileError: if there is no such folder, or no picture in it.
        InputError: if the data set is a stream, or an argument does not fit.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as photos:
        ...     for number, name in enumerate(("train/cat", "train/dog", "test/cat")):
        ...         Path(photos, name).mkdir(parents=True)
        ...         Image.new("RGB", (30, 20), (number, 0, 9)).save(Path(photos, name, "1.png"))
        ...     found = describe(photos, json=True)  # doctest: +ELLIPSIS
        {
        ...
        >>> found["splits"]["train"], found["sizes"]["largest"], found["values"]
        ({'pictures': 2, 'labelled': 2, 'classes': {'cat': 1, 'dog': 1}}, [20, 30], {'8 bits': [0, 9]})
    """
    if sample < 0:
        raise InputError(f"sample is {sample}: choose 0 (no pixels are read) or more (--sample 200).")
    with options_without("data."):
        chosen = choose_source(dataset, root, labels)
        named = splits_of(root, labels) if chosen.name == "folder" else None
        sets = chosen.source.load(chosen.root, False) if named is None else picture_sets(named)
        if not isinstance(sets, PictureSets):
            raise InputError(f"{dataset} comes as a stream, whose pictures cannot be counted.")
        findings = getattr(sets.train, "findings", None)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            rows = summarised(arrange(sets), findings)
    distinct: dict[str, Pictures] = _distinct(sets) if named is None else {**named}
    found = looked_at(distinct, sample, quiet=json)
    same = {
        f"{first}/{second}": pairs
        for number, first in enumerate(distinct)
        for second in list(distinct)[number + 1 :]
        if (pairs := duplicates(distinct[first], distinct[second]))
    }
    content = {
        "root": chosen.root,
        "splits": {split: counted(pictures) for split, pictures in distinct.items()},
        "unlabelled_splits": [split for split, own in distinct.items() if not bool((own.targets >= 0).any())],
        **found,
        "left_out": [] if findings is None else [asdict(left) for left in findings.left_out],
        "notes": [] if findings is None else findings.notes,
        "duplicates": {splits: {"count": len(pairs), "examples": pairs[:5]} for splits, pairs in same.items()},
        "warnings": ([] if findings is None else findings.warnings) + [str(warning.message) for warning in told],
    }
    single = [name for name, count in content["splits"]["train"]["classes"].items() if count == 1]
    if single:
        content["warnings"].append(
            f"{len(single):,} class(es) have one training picture: {', '.join(single[:5])}"
            f"{', ...' * (len(single) > 5)}."
        )
    content["warnings"] += [
        f"{len(pairs):,} picture(s) of {splits.split('/')[1]} are in {splits.split('/')[0]} as well, such as "
        f"{pairs[0][1]}: figures on them say too much."
        for splits, pairs in same.items()
    ]
    if json:
        print(dumps(content, indent=2))
    else:
        _print(content, rows)
    return content


def _distinct(sets: PictureSets) -> dict[str, Pictures]:
    """Splits, each once: one may serve as val and as test."""
    distinct: dict[str, Pictures] = {"train": sets.train}
    for split, pictures in (("test", sets.test), ("val", sets.val)):
        if pictures is not None and not any(pictures is other for other in distinct.values()):
            distinct[split] = pictures
    return distinct


def _print(content: dict[str, Any], rows: dict[str, str]) -> None:
    table = Table(title=content["root"], title_justify="left", show_header=False, box=None, padding=(0, 2))
    rows = dict(rows)
    left_out, notes = rows.pop("left out", None), rows.pop("found", None)
    sizes, total = content["sizes"], sum(split["pictures"] for split in content["splits"].values())
    if sizes:
        ends = ", ".join(f"{name} {sizes[name][0]} x {sizes[name][1]}" for name in ("smallest", "median", "largest"))
        rows["height x width"] = f"{ends} ({sizes['different']:,} different)"
    for name in ("channels", "bits"):
        rows[name] = ", ".join(f"{value} in {count:,}" for value, count in content[name].items())
    rows["values"] = "; ".join(f"{low:,} to {high:,} of {bits}" for bits, (low, high) in content["values"].items())
    rows["read"] = f"{content['headers_read']:,} headers of {total:,} pictures, pixels of {content['pixels_read']:,}"
    if content["unreadable"]:
        name, why = next(iter(content["unreadable"].items()))
        rows["cannot be read"] = f"{len(content['unreadable']):,}, such as {name}: {why}"
    rows |= {"left out": left_out} if left_out else {}
    rows |= {"found": notes} if notes else {}
    for splits, same in content["duplicates"].items():
        rows[f"in both of {splits}"] = f"{same['count']:,}, such as {same['examples'][0][1]}"
    for name, value in rows.items():
        table.add_row(shown(name), shown(value))
    console = Console(markup=False)  # folders may be called [set 1]
    console.print(table)
    for warning in content["warnings"]:
        console.print(f"Warning: {shown(warning)}", highlight=False, soft_wrap=True)
