"""Tables of results as Markdown and JSON, with the machine and the versions that they hold for, and plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = [
    *("simclr-lightning", "torch", "torchvision", "triton", "lightning", "torchmetrics", "jsonargparse", "numpy"),
    *("pillow", "simplejpeg", "numba"),
    *("lightly", "lightning-bolts", "solo-learn", "kornia", "albumentations", "opencv-python-headless", "timm"),
    "pytorch-metric-learning",
]


def write(
    out: Path,
    name: str,
    title: str,
    note: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    data: Any,
    closing: Sequence[str] = (),
) -> None:
    """Write NAME.md and NAME.json, and print the former.

    Args:
        out: folder of the files; it is made if need be.
        name: of the files.
        title: of the table.
        note: how the figures were measured.
        header: columns of the table.
        rows: cells of the table.
        data: what the JSON file holds as "results".
        closing: lines below the table, which say what follows from it.
    """
    date, computer, installed = datetime.now(UTC).date().isoformat(), machine(), versions()
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    made_with = ", ".join(f"{package} {version}" for package, version in installed.items())
    where = f"{date}; {', '.join(computer.values())}; {made_with}.\n"
    below = [*(f"* {line}" for line in closing), ""] if closing else []
    text = "\n".join([f"# {title}", "", note, "", *lines, "", *below, where])
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    report = {"title": title, "note": note, "date": date, "machine": computer, "versions": installed, "results": data}
    report |= {"closing": list(closing)} if closing else {}
    (out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{text}", flush=True)


def plot(path: Path, x: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
    """Draw curves on logarithmic axes.

    Args:
        path: of the PNG.
        x: label of the horizontal axes.
        panels: by the label of the vertical axis, the points of every contestant.
    """
    from matplotlib.figure import Figure  # not pyplot, which wants a display
    from matplotlib.ticker import NullLocator

    from simclr_lightning.drawing.palette import style

    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    shown: dict[str, Any] = {}
    sizes = sorted({size for curves in panels.values() for points in curves.values() for size, _ in points})
    for axis, (label, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (name, points) in enumerate(curves.items()):  # in all panels alike
            if points:
                axis.loglog(*zip(*points, strict=True), label=name, **style(number)._asdict())
        axis.set(xlabel=x, ylabel=label)
        axis.set_xticks(sizes, [f"{size:,g}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
        shown |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=2 * len(panels), fontsize="small", frameon=False
    )
    figure.savefig(path, dpi=120)


def unit(seconds: float) -> tuple[float, str]:
    """Factor and name of the unit in which times of this size are read best."""
    return (1e6, "µs") if seconds < 5e-4 else (1e3, "ms") if seconds < 5 else (1.0, "s")


def spread(values: Sequence[float]) -> tuple[str, str]:
    """Median, and smallest to largest, in three digits; empty without values."""
    if not values:
        return "", ""
    return digits(statistics.median(values)), f"{digits(min(values))} to {digits(max(values))}"


def digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def versions() -> dict[str, str]:
    installed = {str(found.name).lower().replace("_", "-"): found.version for found in metadata.distributions()}
    return {package: installed[package] for package in PACKAGES if package in installed}


def machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()}, Python {platform.python_version()}",
    }
