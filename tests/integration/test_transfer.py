"""The paper's transfer protocol through the command, on data sets whose metric is not top-1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_lightning.data.transfer_sets import VOC_CLASSES
from simclr_lightning.evaluation import frozen

OPTIONS = (
    *("--model.encoder", "resnet8", "--model.width", "0.125", "--data.dataset", "voc2007", "--data.download", "false"),
    *("--data.views.size", "20", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
)


def write_voc2007(root: Path) -> None:
    """Pictures of one shade for each class that they show, so that a classifier has something to learn."""
    folder = root / "VOCdevkit" / "VOC2007"
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        names = [f"{split}{number:03}" for number in range(2 * len(VOC_CLASSES))]
        shown = {name: {number % len(VOC_CLASSES), int(rng.integers(20))} for number, name in enumerate(names)}
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for number, kind in enumerate(VOC_CLASSES):
            lines = [f"{name} {1 if number in shown[name] else -1:>2}" for name in names]
            (folder / "ImageSets" / "Main" / f"{kind}_{split}.txt").write_text("\n".join(lines))
        for name in names:
            pixels = np.zeros((20, 24, 3), np.uint8)
            for number in shown[name]:
                pixels[number] = 255
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")


def test_voc2007_is_judged_by_the_mean_average_precision_of_all_its_classes(
    simclr: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (1e2, 1.0, 1e-2))  # 45 take a minute
    write_voc2007(tmp_path / "voc")
    simclr("evaluate", *OPTIONS, "--data.root", tmp_path / "voc", "--protocols", "transfer", "--output", tmp_path)
    figures = json.loads((tmp_path / "evaluation.json").read_text())["figures"]
    pixels = next(figure for figure in figures if figure["encoder"] == "raw pixels")
    assert pixels["metric"] == "map11"
    assert pixels["test_pictures"] == 40
    assert pixels["accuracy"] > 60  # chance is about 10; each class has a row of pixels of its own


def test_linear_evaluation_refuses_pictures_of_several_classes(simclr: Callable[..., None], tmp_path: Path) -> None:
    write_voc2007(tmp_path / "voc")
    with pytest.raises(ValueError, match="use transfer"):
        simclr("evaluate", *OPTIONS, "--data.root", tmp_path / "voc", "--protocols", "linear", "--output", tmp_path)
