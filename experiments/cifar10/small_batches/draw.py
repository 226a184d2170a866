"""Draw held_out.png from held_out.json: accuracy against the batch, a line for each loss."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from simclr_lightning.drawing.palette import style

FOLDER = Path(__file__).parent
NAMES = {
    "ntxent": "NT-Xent",
    "decoupled": "decoupled",
    "weighted": "decoupled, weighted",
    "hard": "hard negatives",
}


def main() -> None:
    """Read, draw, write."""
    rows = json.loads((FOLDER / "held_out.json").read_text())["rows"]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 2), {"knn": "kNN", "linear": "linear"}.items(), strict=True):
        for number, (loss, name) in enumerate(NAMES.items()):
            points = sorted((row["batch_size"], row[key]) for row in rows if row["loss"] == loss)
            axes.plot(*zip(*points, strict=True), label=name, **style(number)._asdict())
        sizes = sorted({row["batch_size"] for row in rows})
        axes.set(xscale="log", xticks=sizes, xticklabels=sizes, title=title)
        axes.set(xlabel="pictures a batch", ylabel="accuracy, %")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(FOLDER / "held_out.png", dpi=110)


if __name__ == "__main__":
    main()
