"""What ``evaluate``, ``label_curve`` and ``ablate`` have written, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

EVALUATION = "Evaluation"
"""Title of a table that is complete."""

_LARGEST = 16 * 2**20  # bytes of a file
_MOST_FILES = 200
_UNTRAINED = "untrained"  # as a study calls it
_NONE = "–"


class Judgement(NamedTuple):
    """A table with all that one must know to read it.

    Attributes:
        title: what it is.
        file: it is from.
        header: names of the columns.
        rows: as many cells each.
        facts: sentences.
        commands: that give the figures again.
        versions: of the packages, by name.

    Example:
        >>> Judgement("Evaluation", "evaluation.json", ["protocol"], [["knn"]], [], [], {}).rows
        [['knn']]
    """

    title: str
    file: str
    header: list[str]
    rows: list[list[str]]
    facts: list[str]
    commands: list[str]
    versions: dict[str, str]


def find_judgements(folder: Path) -> tuple[list[Judgement], list[str]]:
    """Tables of the JSON files in a folder, and in folders in it; and which files are damaged.

    Example:
        >>> find_judgements(Path("no/such/folder"))
        ([], [])
    """
    tables: list[Judgement] = []
    notes: list[str] = []
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            notes.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}.")
            continue
        make = _maker(content)
        if make is None:
            continue
        try:
            tables.append(make(content, name))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"{name} is not as simclr writes it ({type(error).__name__}: {error}), and is left out.")
    return tables, notes


def is_judgement(file: Path) -> bool:
    """Whether a file looks like one of an evaluation, a label curve or a study.

    Example:
        >>> is_judgement(Path("no/such/file.json"))
        False
    """
    try:
        return _maker(json.loads(file.read_text(encoding="utf-8"))) is not None
    except (OSError, ValueError, RecursionError):
        return False


def _files(folder: Path) -> Iterator[Path]:
    found = [*folder.glob("*.json"), *folder.glob("*/*.json"), *folder.glob("*/*/*.json")]
    found = [file for file in found if file.is_file() and file.stat().st_size <= _LARGEST]
    yield from sorted(file for file in found if "checkpoints" not in file.parts)[:_MOST_FILES]


def _maker(content: Any) -> Any:
    if not isinstance(content, dict) or content.get("unit") != "percent":
        return None
    kinds = {"figures": _evaluation, "points": _label_curve, "runs": _study}
    return next((make for key, make in kinds.items() if isinstance(content.get(key), list)), None)


def _evaluation(content: dict[str, Any], file: str) -> Judgement:
    figures = content["figures"]
    encoders = list(dict.fromkeys(str(figure["encoder"]) for figure in figures))
    protocols = list(dict.fromkeys(str(figure["protocol"]) for figure in figures))
    cells = {(str(own["protocol"]), str(own["encoder"])): own for own in figures}
    rows, facts = [], []
    for protocol in protocols:
        own = next(figure for figure in figures if str(figure["protocol"]) == protocol)
        found = [cells.get((protocol, encoder)) for encoder in encoders]
        rows.append([protocol, str(own["labels"]), str(own["draws"]), *(_cell(one) for one in found)])
        facts.append(f"{protocol}: {own['what']}; {own['metric']}.")
    first = figures[0] if figures else {}
    if first:
        facts.insert(
            0,
            f"Accuracy (%) on {first['test_pictures']:,} {first['test_split']} pictures, seed {first['seed']}; mean ± "
            f"standard deviation over draws of labels, and in brackets the {content.get('interval', 'interval')}.",
        )
    checkpoints = dict.fromkeys(f"{own['encoder']}: {own['checkpoint']}." for own in figures if own.get("checkpoint"))
    commands = list(dict.fromkeys(str(own["command"]) for own in figures if own.get("command")))
    title = f"{EVALUATION} that was interrupted" if "asked" in content else EVALUATION
    facts += [*checkpoints, *map(str, content.get("notes", []))]
    header = ["protocol", "labels", "draws", *encoders]
    return Judgement(title, file, header, rows, facts, commands, _versions(content))


def _label_curve(content: dict[str, Any], file: str) -> Judgement:
    points = content["points"]
    encoders = list(dict.fromkeys(str(point["encoder"]) for point in points))
    counts = list(dict.fromkeys((str(point["labels_per_class"]), str(point["labels"])) for point in points))
    cells = {(str(own["labels_per_class"]), str(own["encoder"])): own for own in points}
    rows = [[count, labels, *(_cell(cells.get((count, encoder))) for encoder in encoders)] for count, labels in counts]
    facts = [
        f"Accuracy (%) on {content['test_pictures']:,} {content['test_split']} pictures of {content['dataset']}: "
        f"{content['classifier']}; mean ± standard deviation over draws of labels, and in brackets the "
        f"{content['interval']}.",
        *map(str, content.get("notes", [])),
    ]
    commands = [str(content["command"])] if content.get("command") else []
    header = ["labels per class", "labels", *encoders]
    return Judgement("Accuracy against labels", file, header, rows, facts, commands, _versions(content))


def _study(content: dict[str, Any], file: str) -> Judgement:
    names = [str(name) for name in content["operations"]]
    scores: dict[tuple[str, str], list[float]] = {}
    for run in content["runs"]:
        scores.setdefault((str(run["first"]), str(run["second"])), []).append(float(run["linear"]))
    rows = [[first, *(_mean(scores.get((first, second), [])) for second in names)] for first in names]
    facts = ["Linear accuracy (%); the row's operation comes first; mean ± standard deviation over seeds."]
    if (_UNTRAINED, _UNTRAINED) in scores:
        facts.append(f"The untrained encoder has {_mean(scores[_UNTRAINED, _UNTRAINED])}.")
    facts += [str(content["recommendation"])] if content.get("recommendation") else ["The study is not finished."]
    commands = [str(content["command"])] if content.get("command") else []
    header = ["first \\ second", *names]
    return Judgement("Study of augmentations", file, header, rows, facts, commands, _versions(content))


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return _NONE
    text = f"{float(figure['accuracy']):.1f}"
    if figure.get("standard_deviation") is not None:
        text += f" ± {float(figure['standard_deviation']):.1f}"
    if figure.get("interval") is not None:
        low, high = figure["interval"]
        text += f" [{float(low):.1f}, {float(high):.1f}]"
    return text


def _mean(values: list[float]) -> str:
    if not values:
        return _NONE
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _versions(content: dict[str, Any]) -> dict[str, str]:
    versions = content.get("versions")
    return {str(name): str(found) for name, found in versions.items()} if isinstance(versions, dict) else {}
