"""Draw curve.png from the evaluations beside this file, N_epochs.json each: accuracy against epochs of pre-training."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from simclr_lightning.drawing.palette import style

FOLDER = Path(__file__).parent
STYLES = {"pre-trained encoder": style(0), "random encoder": style(1), "raw pixels": style(8)}
TITLES = {"linear@1%": "linear, 1 % of the labels", "knn": "kNN", "linear": "linear, all labels"}


def main() -> None:
    """Read, draw, write."""
    found = {int(path.stem.split("_")[0]): json.loads(path.read_text()) for path in FOLDER.glob("*_epochs.json")}
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (protocol, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        curves: dict[str, list[tuple[int, float]]] = {}
        for epochs, content in sorted(found.items()):
            for one in content["figures"]:
                if one["protocol"] == protocol:
                    curves.setdefault(one["encoder"], []).append((epochs, one["accuracy"]))
        for encoder, points in curves.items():
            line = "-" if encoder == "pre-trained encoder" else ":"
            axes.plot(*zip(*points, strict=True), ls=line, label=encoder, **STYLES[encoder]._asdict())
        axes.set(xscale="log", xticks=sorted(found), xticklabels=sorted(found), title=title)
        axes.set(xlabel="epochs of pre-training", ylabel="accuracy, %")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(FOLDER / "curve.png", dpi=110)


if __name__ == "__main__":
    main()
