"""The command ``simclr doctor``."""

from __future__ import annotations

import platform
from json import dumps
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simclr_lightning.doctor.extras import extras, misfits, versions
from simclr_lightning.doctor.last_run import findings
from simclr_lightning.doctor.this_machine import machine


def diagnose(run: str = "", json: bool = False) -> dict[str, Any]:
    """Show what this installation and this machine have, and what a run warns of; nothing is trained.

    Versions, devices, memory that loader workers share, room on disk, and every extra with what it adds. With the
    folder of a run: collapse, a loss at its floor, values that are not finite, pictures that could not be read, a
    checkpoint that is missing or damaged.

    Args:
        run: folder of a run, such as runs/folder/version_0.
        json: whether to print JSON instead of a table.

    Returns:
        What was found, as the JSON has it.

    Raises:
        MissingFileError: if the folder is not that of a run.

    Example:
        >>> found = diagnose(json=True)  # doctest: +ELLIPSIS
        {
        ...
        >>> found["versions"]["python"].split(".")[0]
        '3'
    """
    words = findings(Path(run)) if run else None
    found, warnings = machine()
    content: dict[str, Any] = {
        "versions": {"python": platform.python_version(), **versions()},
        "machine": found,
        "extras": extras(),
        "run": None if words is None else {"folder": run, "findings": [word._asdict() for word in words]},
        "warnings": [f"The package needs {name}." for name in misfits()] + warnings,
    }
    if json:
        print(dumps(content, indent=2))
    else:
        _print(content)
    return content


def _print(content: dict[str, Any]) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    rows = {"versions": ", ".join(f"{name} {found or 'missing'}" for name, found in content["versions"].items())}
    rows |= _machine_rows(content["machine"])
    _table(console, "", rows)
    told = {
        name: f"{'missing ' + ', '.join(own['missing']) if own['missing'] else 'installed'}: {own['adds']}"
        for name, own in content["extras"].items()
    }
    _table(console, '\nExtras (pip install "simclr-lightning[NAME]")', told)
    if not told:
        console.print("unknown: the package is on the path without being installed (pip install -e .)")
    run = content["run"]
    if run is not None:
        console.print(f"\n{run['folder']}: {'nothing is wrong' if not run['findings'] else 'warns of'}")
        for word in run["findings"]:
            console.print(f"  {word['name']}: {word['text']}")
    console.print("" if content["warnings"] else "\nNo warnings about this machine.")
    for warning in content["warnings"]:
        console.print(f"Warning: {warning}")


def _machine_rows(found: dict[str, Any]) -> dict[str, str]:
    cpu = found["cpu"]
    told = [name for name, has in (("AVX-512 bfloat16", cpu["avx512_bf16"]), ("AMX", cpu["amx_bf16"])) if has]
    advice = ""
    if cpu["amx_bf16"] is not None:
        advice = (
            "; --trainer.precision bf16-mixed is about twice as fast on it"
            if cpu["amx_bf16"]
            else "; without AMX, --trainer.precision 32-true is the faster one on it"
        )
    rows = {
        "system": found["system"],
        "CPU": f"{cpu['cores']} core(s), {cpu['threads']} thread(s), {', '.join([cpu['capability'], *told])}{advice}",
        "accelerators": ", ".join(
            own["name"] + (f" ({own['memory']:.0f} GiB)" if own["memory"] else "") for own in found["accelerators"]
        )
        or "none",
        "loader workers": f"{found['workers']} by default, for pictures that are read from disk",
    }
    for name in ("memory", "shared_memory", "disk"):
        room = found[name]
        if room is not None:
            free = f"{room['free']:.1f} GiB free of " if "free" in room else ""
            rows[name.replace("_", " ")] = f"{free}{room['total']:.1f} GiB"
    return rows


def _table(console: Console, title: str, rows: dict[str, str]) -> None:
    if title:
        console.print(title)
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
