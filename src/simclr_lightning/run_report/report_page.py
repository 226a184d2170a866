"""The command ``simclr report``: one page of what the folders of runs hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from simclr_lightning.errors import ExistingFileError, InputError
from simclr_lightning.run_report.charts import COLOURS, DASHES, look_of, printable
from simclr_lightning.run_report.curve_groups import as_figure, draw_curves
from simclr_lightning.run_report.flat_config import compared
from simclr_lightning.run_report.illness import health_of
from simclr_lightning.run_report.picture_files import Budget, show_pictures
from simclr_lightning.run_report.run_facts import facts_of
from simclr_lightning.run_report.run_files import Run, labels_of, read_run
from simclr_lightning.versions import version_of

_MOST_RUNS = COLOURS * len(DASHES)
_GENERATOR = "simclr report"
_HERE = Path(__file__).parent


def report_runs(
    runs: list[str],
    output: str = "",
    axis: Literal["epoch", "step"] = "epoch",
    steps: int = 12,
    megabytes: float = 20.0,
) -> Path:
    """Write one HTML page of what the folders of runs hold; nothing is trained, and no checkpoint is changed.

    What was run, what is wrong with it, curves, pictures, evaluations, configurations and their differences. The page
    needs nothing beside itself: it can be mailed, printed and read without a network.

    Args:
        runs: folders, one after the other, such as runs/folder/version_0 runs/folder/version_1; also those that
            evaluate, label_curve and ablate have written.
        output: file of the page; by default report.html in the folder, if it is one.
        axis: of the curves; steps are taken where a run does not tell its epochs.
        steps: pictures of one kind, at most: the first, the last, and others between them.
        megabytes: that all pictures may take together.

    Returns:
        The file.

    Raises:
        MissingFileError: if a folder is not that of a run.
        InputError: if a number is out of range, there are too many runs, or the file cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as run:
        ...     _ = Path(run, "metrics.csv").write_text("epoch,step,train/loss" + chr(10) + "0,3,4.8" + chr(10))
        ...     page = report_runs([run])  # doctest: +ELLIPSIS
        ...     "var(--c0)" in page.read_text()
        Report: ...report.html (... kB)
        True
    """
    folders = [Path(run) for run in runs]
    _check(folders, output, steps, megabytes)
    file = Path(output) if output else folders[0] / "report.html"
    _check_file(file)
    found = [read_run(folder) for folder in folders]
    html = render(found, labels_of(folders), axis=axis, steps=steps, bytes_=int(megabytes * 1e6))
    _write(file, html)
    print(f"Report: {file} ({len(html.encode()) / 1000:,.0f} kB)")
    return file


def _check(folders: Sequence[Path], output: str, steps: int, megabytes: float) -> None:
    if not folders:
        raise InputError("No run is named: simclr report runs/folder/version_0.")
    if len(folders) > _MOST_RUNS:
        raise InputError(
            f"{len(folders)} runs are named, of which no more than {_MOST_RUNS} can be told apart in one picture: name "
            "fewer of them."
        )
    if len(folders) > 1 and not output:
        raise InputError(f"Where does the page of {len(folders)} runs go? Name its file (--output report.html).")
    if steps < 1:
        raise InputError(f"steps is {steps}: choose 1 (the last picture of each kind) or more (--steps 12).")
    if not megabytes >= 0:
        raise InputError(f"megabytes is {megabytes}: choose 0 (no pictures) or more (--megabytes 20).")


def _check_file(file: Path) -> None:
    if file.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{file} is no name of a page: it ends in .html (--output {file.with_suffix('.html')}).")
    if file.is_dir():
        raise InputError(f"{file} is a folder: name a file (--output {file / 'report.html'}).")
    if file.exists():
        with file.open(encoding="utf-8", errors="replace") as content:
            if f'content="{_GENERATOR}"' not in content.read(2000):
                raise ExistingFileError(
                    f"{file} exists, and simclr report has not written it: name another (--output report-2.html)."
                )


def _write(file: Path, html: str) -> None:
    unfinished = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(html, encoding="utf-8")
        os.replace(unfinished, file)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror}): name another file (--output report.html)."
        ) from error


def render(runs: Sequence[Run], labels: Sequence[str], *, axis: str, steps: int, bytes_: int) -> str:
    """The page.

    Args:
        runs: at least one.
        labels: their short names.
        axis: epoch or step.
        steps: pictures of one kind.
        bytes_: that pictures may take.

    Example:
        >>> page = render([Run(Path("runs/one"))], ["<one>"], axis="epoch", steps=1, bytes_=0)
        >>> "<one>" in page, "&lt;one&gt;" in page
        (False, True)
    """
    known = [run.metrics for run in runs if run.metrics is not None and run.metrics.columns]
    if axis == "epoch" and not all(metrics.ends for metrics in known):
        axis = "step"
    budget = Budget(bytes_)
    content: dict[str, Any] = {
        "generator": _GENERATOR,
        "labels": labels,
        "looks": [look_of(number) for number in range(len(runs))],
        "look_of": look_of,
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "version": version_of("simclr-lightning"),
        "facts": _beside([facts_of(run) for run in runs]),
        "health": [health_of(run.folder, run.metrics, run.temperature) if run.is_training else None for run in runs],
        "axis": axis,
        "sections": draw_curves(labels, [run.metrics for run in runs], axis),
        "figures": _figures(runs),
        "pictures": [{key: show_pictures(found, budget, steps) for key, found in run.pictures.items()} for run in runs],
        "counts": [{key: len(found) for key, found in run.pictures.items()} for run in runs],
        "judgements": [run.judgements for run in runs],
        "configs": compared([run.config for run in runs]),
        "changed": runs[-1].starts[-1].changed if len(runs) == 1 and runs[0].starts else None,
        "resumed": [
            [
                (start.file, [own for own in compared([before.config, start.config]) if own.differs])
                for before, start in zip(run.starts, run.starts[1:], strict=False)
            ]
            for run in runs
        ],
        "notes": [run.notes for run in runs],
        "left_out": budget.left_out,
    }
    return _environment().get_template("page.html.jinja").render(content)


def _environment() -> Environment:
    """Everything is escaped, whatever it is called and wherever it stands."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup((_HERE / "page.css").read_text(encoding="utf-8"))  # our own
    return environment


def _beside(facts: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for own in facts for name in own)
    return [(name, [own.get(name, "–") for own in facts]) for name in names]


def _figures(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, str, str] | None]]]:
    """Last, lowest and highest value of every metric, by run."""
    names = sorted({name for run in runs if run.metrics for name in run.metrics.columns})
    table: list[tuple[str, list[tuple[str, str, str] | None]]] = []
    for name in names:
        row: list[tuple[str, str, str] | None] = []
        for run in runs:
            column = run.metrics.columns.get(name) if run.metrics else None
            if column is None:
                row.append(None)
                continue
            finite = column.values[abs(column.values) < float("inf")]
            lowest, highest = (as_figure(finite.min()), as_figure(finite.max())) if len(finite) else ("–", "–")
            row.append((as_figure(column.values[-1]), lowest, highest))
        table.append((name, row))
    return table
