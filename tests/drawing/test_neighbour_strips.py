"""Strips of nearest neighbours."""

from __future__ import annotations

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from simclr_lightning.drawing import choose_queries, draw_neighbours, nearest
from simclr_lightning.errors import InputError

FEATURES = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 1.0]])
PICTURES = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 5, 5) * 60


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    figures: list[Axes] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **settings: object) -> None:
        figures.extend(figure.axes)
        save(figure, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_the_nearest_come_first_and_not_oneself() -> None:
    found = nearest(FEATURES * torch.tensor([[1.0], [7.0], [2.0], [3.0]]), torch.tensor([0, 2]), k=9)
    assert found.places.tolist() == [[1, 3, 2], [3, 1, 0]]
    assert found.similarities[0].tolist() == pytest.approx([1 / 1.01**0.5, 0.5**0.5, 0.0], abs=1e-6)
    with pytest.raises(InputError, match="two or more"):
        nearest(FEATURES[:1], torch.tensor([0]), k=1)


def test_queries_are_of_many_classes_and_the_same_each_time() -> None:
    targets = torch.tensor([0] * 50 + [1] * 2 + [2] * 5 + [-1])
    chosen = choose_queries(targets, 4)
    assert targets[chosen].tolist() == [-1, 0, 1, 2]
    assert chosen.equal(choose_queries(targets, 4))
    assert not chosen.equal(choose_queries(targets, 4, seed=1))
    assert sorted(choose_queries(targets, 99).tolist()) == list(range(58))
    assert len(set(choose_queries(torch.full((20,), -1), 6).tolist())) == 6


def test_right_and_wrong_are_told_by_more_than_colour(axes: list[Axes]) -> None:
    targets = torch.tensor([0, 0, 1, 1])
    found = nearest(FEATURES, torch.tensor([0]), k=3)
    draw_neighbours(found, PICTURES, targets, title="Epoch 1", class_names=["cat$", "dog$"])
    texts = [text.get_text() for text in axes[0].texts[2:]]
    assert texts == ["cat$", "✓ 0.995", "✗ 0.707\ndog$", "✗ 0.000\ndog$"]
    frames = [patch for patch in axes[0].patches if isinstance(patch, Rectangle)]
    lines = [frame.get_linestyle() for frame in frames]
    assert lines[1] in ("-", "solid")
    assert lines[2] == lines[3] != lines[1]
    shown = [image.get_array() for image in axes[0].images]
    assert [int(picture[0, 0, 0]) for picture in shown if picture is not None] == [0, 60, 180, 120]


def test_without_labels_there_is_no_verdict(axes: list[Axes]) -> None:
    found = nearest(FEATURES, torch.tensor([0, 1]), k=1)
    draw_neighbours(found, PICTURES, torch.tensor([-1, 0, -1, -1]), title="T")
    assert [text.get_text() for text in axes[0].texts[2:]] == ["", "0.995", "class 0", "0.995"]
