"""Maps of features: what lies where, and how it is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from simclr_lightning.drawing import check_method, draw_map, two_dimensional
from simclr_lightning.drawing.embedding_map import Method, draw_thumbnails, scatter_classes
from simclr_lightning.errors import InputError, MissingPackageError

FILES = Path(__file__).parent


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **settings: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def blobs(count: int = 60, classes: int = 3) -> tuple[Tensor, Tensor]:
    targets = torch.arange(count) % classes
    return torch.eye(max(classes, 8))[targets] + 0.02 * torch.randn(count, max(classes, 8)), targets


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_classes_that_are_apart_are_apart_in_the_map(method: Method) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    features, targets = blobs()
    found = two_dimensional(features, method, seed=1)
    points = torch.from_numpy(found.points)
    groups = [points[targets == label] for label in range(3)]
    centres = torch.stack([group.mean(0) for group in groups])
    assert max((group - group.mean(0)).norm(dim=1).max() for group in groups) < torch.pdist(centres).min()
    assert np.array_equal(found.points, two_dimensional(features, method, seed=1).points)
    assert found.name.lower().replace("-", "") == method


def test_principal_components_are_those_of_unit_features() -> None:
    features = torch.randn(40, 6) * torch.tensor([5.0, 3, 1, 1, 1, 1])
    found = two_dimensional(features)
    rows = torch.nn.functional.normalize(features).double()
    rows = rows - rows.mean(0)
    _, values, directions = torch.linalg.svd(rows)
    expected = rows @ directions[:2].T
    np.testing.assert_allclose(np.abs(found.points), expected.abs().numpy(), atol=1e-4)
    share = 100 * (values[0] ** 2 / values.square().sum()).item()
    assert f"({share:.2g} % of the variance)" in found.axes[0]


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("features", [torch.ones(9, 5), torch.zeros(9, 5), torch.rand(3, 5), torch.rand(9, 1)])
def test_what_is_no_cloud_is_drawn_too(method: Method, features: Tensor) -> None:
    """Collapsed, dead, few, one-dimensional."""
    found = two_dimensional(features, method)
    assert found.points.shape == (len(features), 2)
    assert np.isfinite(found.points).all()
    assert draw_map(found, torch.full((len(features),), -1), title="T").width > 300


def test_a_method_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing can be found
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    with pytest.raises(MissingPackageError, match=r'pip install "simclr-lightning\[umap\]"'):
        check_method("umap")
    with pytest.raises(InputError, match="no map by 'isomap': choose pca, tsne or umap"):
        check_method("isomap")


def test_classes_have_colours_markers_and_names(drawn: list[Figure]) -> None:
    features, targets = blobs()
    targets[:6] = -1
    draw_map(two_dimensional(features), targets, title="Epoch 3", class_names=["_back$", "a$b", "x" * 40])
    (figure,) = drawn
    axes = figure.axes[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "_back$",
        "a$b",
        "x" * 21 + "…",
        "unlabelled",
    ]
    assert axes.get_title(loc="left") == "Epoch 3"
    assert "principal component" in axes.get_xlabel()
    colours = {tuple(np.asarray(points.get_facecolor())[0]) for points in axes.collections}
    shapes = {np.asarray(points.get_paths()[0].vertices).tobytes() for points in axes.collections}
    assert len(colours) == len(shapes) == 4


def test_without_labels_there_is_one_colour_and_no_legend(drawn: list[Figure]) -> None:
    features, targets = blobs()
    draw_map(two_dimensional(features), torch.full_like(targets, -1), title="T")
    assert not drawn[0].legends
    assert len(drawn[0].axes[0].collections) == 1


def test_many_classes_are_coloured_by_their_numbers(drawn: list[Figure]) -> None:
    features, targets = blobs(60, 30)
    draw_map(two_dimensional(features), targets, title="T")
    axes, bar = drawn[0].axes
    (points,) = axes.collections
    assert np.asarray(points.get_array()).tolist() == targets.tolist()
    assert bar.get_ylabel() == "number of the class, of 30"


def test_names_in_another_script_are_no_warning(drawn: list[Figure]) -> None:
    features, targets = blobs()
    draw_map(two_dimensional(features), targets, title="猫", class_names=["猫", "狗", "鳗"])
    assert len(drawn) == 1


def test_pictures_are_drawn_where_they_find_room(drawn: list[Figure]) -> None:
    features, targets = blobs(300)
    pictures = torch.randint(256, (300, 3, 8, 8), dtype=torch.uint8)
    found = two_dimensional(features)
    draw_map(found, targets, title="T", pictures=pictures)
    axes = Figure().subplots()
    shown = draw_thumbnails(axes, found.points, pictures)
    assert 3 <= shown.sum() < 300
    counts = [len(np.asarray(points.get_offsets())) for points in drawn[0].axes[0].collections]
    assert int(np.sum(counts)) == 300
    scatter_classes(axes, found.points[~shown], targets.numpy()[~shown], ["a", "b", "c"], size=3)
    assert {type(artist).__name__ for artist in axes.artists} == {"AnnotationBbox"}
    assert len(axes.artists) == shown.sum()
