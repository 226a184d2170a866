"""The picture of the features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from simclr_lightning.evaluation import Features, plots
from simclr_lightning.evaluation.plots import plot_features, plot_label_curve
from simclr_lightning.evaluation.report import Result


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **settings: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def blobs(count: int, classes: int) -> Features:
    targets = torch.arange(count) % classes
    return Features(torch.eye(max(classes, 8))[targets] + 0.01 * torch.randn(count, max(classes, 8)), targets)


def points_of(axes: Axes) -> list[NDArray[np.float64]]:
    return [np.asarray(points.get_offsets(), dtype=np.float64) for points in axes.collections]


def colours_of(axes: Axes) -> int:
    return len({tuple(np.asarray(points.get_facecolor())[0]) for points in axes.collections})


def test_each_encoder_has_a_panel_with_all_pictures(drawn: list[Figure], tmp_path: Path) -> None:
    panels = {"raw pixels": blobs(45, 3), "pre-trained encoder": blobs(45, 3)}
    plot_features(panels, tmp_path / "features.png", split="test", class_names=["cat", "dog", "eel"])
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == list(panels)
    assert [len(points) for axes in figure.axes for points in points_of(axes)] == [15] * 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "eel"]
    assert "45 test pictures" in figure.get_suptitle()
    with Image.open(tmp_path / "features.png") as image:
        assert image.size[0] > 1000


def test_classes_that_are_apart_are_drawn_apart(drawn: list[Figure], tmp_path: Path) -> None:
    plot_features({"features": blobs(60, 3)}, tmp_path / "features.png", split="test")
    groups = [torch.as_tensor(points) for points in points_of(drawn[0].axes[0])]
    centres = torch.stack([group.mean(0) for group in groups])
    assert max(torch.cdist(group, group).max() for group in groups) < torch.pdist(centres).min()
    assert colours_of(drawn[0].axes[0]) == 3


def test_a_large_split_is_thinned_evenly(drawn: list[Figure], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plots, "_MOST_PICTURES", 20)
    targets = torch.arange(200) // 100  # sorted by class, as folders are
    features = Features(torch.randn(200, 4), targets)
    plot_features({"features": features}, tmp_path / "features.png", split="test")
    assert [len(points) for points in points_of(drawn[0].axes[0])] == [10, 10]


def test_up_to_twenty_classes_have_a_colour_and_a_marker_each(drawn: list[Figure], tmp_path: Path) -> None:
    plot_features({"features": blobs(50, 12)}, tmp_path / "features.png", split="test")
    assert len(drawn[0].legends[0].get_texts()) == 12
    every = drawn[0].axes[0].collections
    shapes = [np.asarray(points.get_paths()[0].vertices).tobytes() for points in every]
    colours = [tuple(np.asarray(points.get_facecolor())[0]) for points in every]
    assert len(set(zip(colours, shapes, strict=True))) == 12


def test_more_classes_are_coloured_by_their_numbers(drawn: list[Figure], tmp_path: Path) -> None:
    plot_features({"features": blobs(50, 25)}, tmp_path / "features.png", split="test")
    (points,) = drawn[0].axes[0].collections
    assert len(np.unique(np.asarray(points.get_facecolor()), axis=0)) == 25
    assert not drawn[0].legends
    assert drawn[0].axes[1].get_ylabel() == "number of the class, of 25"


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    features = blobs(30, 3)
    for name in ("first.png", "second.png"):
        plot_features({"features": features}, tmp_path / name, split="test", seed=3)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def plot(points: list[Result], path: Path) -> None:
    curves: dict[str, list[Result]] = {}
    for point in points:
        curves.setdefault(point.encoder, []).append(point)
    plot_label_curve(
        curves, path, classes=10, dataset="digits", split="test", what="360 test pictures, 10 classes; a classifier"
    )


def test_the_label_curve_has_what_a_reader_needs(points: list[Result], drawn: list[Figure], tmp_path: Path) -> None:
    plot(points, tmp_path / "curve.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "100", "all\n(144)"]
    assert axes.get_xlabel() == "labels per class"
    assert axes.get_ylabel() == "test accuracy (%)"
    assert "digits" in axes.get_title(loc="left")
    texts = "\n".join(text.get_text() for text in axes.texts)
    for part in (
        "360 test pictures, 10 classes",
        "Mean of 2 class-balanced draws",
        "95 % t-interval",
        "chance, 10 %",
        "pre-trained encoder 97.8",
    ):
        assert part in texts
    lines = [line for line in axes.get_lines() if len(np.asarray(line.get_xdata())) == 3]
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[45.0, 91.0, 96.4], [82.0, 97.0, 97.8]]
    assert len({line.get_color() for line in lines}) == 2
    assert len({line.get_marker() for line in axes.get_lines()} - {"None", ""}) == 2
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    interval = points[0].interval
    assert interval is not None
    assert np.allclose(sorted(set(band[band[:, 0] == 1][:, 1])), interval)


def test_names_at_the_curves_do_not_overlap(drawn: list[Figure], tmp_path: Path) -> None:
    ends = {"raw pixels": 97.0, "random encoder": 97.1, "pre-trained encoder": 97.2, "supervised": 60.0}
    plot(
        [Result(name, "linear", 10, [end], per_class=count) for name, end in ends.items() for count in (1, None)],
        tmp_path / "curve.png",
    )
    (axes,) = drawn[0].axes
    heights = {text.get_text().rpartition(" ")[0]: text.get_position()[1] for text in axes.texts}
    three = sorted(heights[name] for name in list(ends)[:3])
    assert np.diff(three).min() > 3
    assert heights["raw pixels"] < heights["random encoder"] < heights["pre-trained encoder"]
    assert heights["supervised"] == 60.0
