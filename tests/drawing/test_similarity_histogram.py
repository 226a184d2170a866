"""Histograms of similarities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from simclr_lightning.drawing import draw_similarities
from simclr_lightning.drawing.similarity_histogram import pair_cosines
from simclr_lightning.errors import InputError
from simclr_lightning.metrics import pair_similarities


def test_pairs_are_those_of_the_loss() -> None:
    first, second = torch.randn(2, 7, 5)
    positive, negative, hardest = pair_cosines(first, second)
    rows = F.normalize(torch.cat([first, second]), dim=1)
    expected = [(rows[one] @ rows[other]).item() for one in range(14) for other in range(one) if one % 7 != other % 7]
    assert sorted(negative.tolist()) == pytest.approx(sorted(expected), abs=1e-6)
    assert positive.tolist() == pytest.approx(F.cosine_similarity(first, second).tolist(), abs=1e-6)
    found = pair_similarities(first, second)
    assert positive.mean().item() == pytest.approx(found.positive.item(), abs=1e-6)
    assert hardest.mean().item() == pytest.approx(found.hardest_negative.item(), abs=1e-6)


def test_each_histogram_is_in_shares_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: object, **settings: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    draw_similarities(*torch.randn(2, 20, 4).double(), title="Epoch 1, step 9")
    (axes,) = figures[0].axes
    for patch in axes.patches:
        assert isinstance(patch, StepPatch)
        values, _, _ = patch.get_data()
        assert np.sum(values) == pytest.approx(1, abs=1e-5)
    told = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert ["negative pairs" in told[0], "hardest negative" in told[1], "positive pairs" in told[2]] == [True] * 3
    assert ["(760;" in told[0], "(40;" in told[1], "(20;" in told[2]] == [True] * 3
    assert axes.get_title(loc="left") == "Epoch 1, step 9"
    assert "cosine" in axes.get_xlabel()
    assert axes.get_xlim() == (-1, 1)


def test_collapsed_projections_are_drawn() -> None:
    assert draw_similarities(torch.ones(5, 3), torch.ones(5, 3), title="T").mode == "RGB"


def test_too_few_pictures() -> None:
    with pytest.raises(InputError, match="two or more pictures"):
        pair_cosines(torch.ones(1, 3), torch.ones(1, 3))
