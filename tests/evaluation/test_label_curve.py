"""The label-efficiency curve: its draws, its figures, its picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.evaluation import linear_accuracy
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.evaluation.label_curve import LabelCurve, balanced_draw, default_counts
from simclr_lightning.evaluation.report import Result
from simclr_lightning.features import RawPixels, clean_features

Make = Callable[..., Any]


@pytest.fixture
def targets() -> torch.Tensor:
    """Three classes of 12, 30 and 60 pictures, and 10 unlabelled ones."""
    return torch.tensor([0] * 12 + [1] * 30 + [2] * 60 + [-1] * 10)[torch.randperm(112)]


@pytest.mark.parametrize("per_class", [1, 5, 12])
def test_every_class_gives_the_same_number(targets: torch.Tensor, per_class: int) -> None:
    drawn = balanced_draw(targets, per_class, seed=3)
    assert targets[drawn].bincount().tolist() == [per_class] * 3
    assert torch.equal(drawn, torch.sort(drawn).values)
    assert len(set(drawn.tolist())) == len(drawn)


def test_draws_are_seeded_and_nested(targets: torch.Tensor) -> None:
    assert torch.equal(balanced_draw(targets, 5, seed=1), balanced_draw(targets, 5, seed=1))
    assert not torch.equal(balanced_draw(targets, 5, seed=1), balanced_draw(targets, 5, seed=2))
    assert torch.isin(balanced_draw(targets, 2, seed=1), balanced_draw(targets, 5, seed=1)).all()


@pytest.mark.parametrize("per_class", [0, 13])
def test_too_many_labels_are_named(targets: torch.Tensor, per_class: int) -> None:
    with pytest.raises(ValueError, match=rf"{per_class} labels per class .*class 0 has 12\. Choose from 1 to 12"):
        balanced_draw(targets, per_class)
    with pytest.raises(ValueError, match="no picture has a label"):
        balanced_draw(torch.full((4,), -1), 1)


@pytest.mark.parametrize(
    ("smallest", "counts"),
    [(1, []), (2, [1]), (12, [1, 2, 5, 10]), (100, [1, 2, 5, 10, 20, 50]), (101, [1, 2, 5, 10, 20, 50, 100])],
)
def test_counts_go_as_far_as_the_smallest_class(smallest: int, counts: list[int]) -> None:
    assert default_counts(torch.tensor([0] * smallest + [1] * 200 + [-1])) == counts


def test_figures_are_those_of_logistic_regression_by_hand(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path
) -> None:
    model, datamodule = columns(), pictures()
    curve = trainer().label_curve(model, datamodule, checkpoint, counts=[4, 1], draws=3, seed=5)
    encoders = ["raw pixels", "random encoder", "pre-trained encoder"]
    assert [(point.encoder, point.per_class, point.labels) for point in curve.points] == [
        (encoder, count, labels) for encoder in encoders for count, labels in ((1, 3), (4, 12), (None, 60))
    ]
    for encoder, module in (("raw pixels", RawPixels()), ("pre-trained encoder", model)):
        train, test = (clean_features(trainer(), module, datamodule, split) for split in ("train", "test"))
        one, four, whole = curve.curves[encoder]
        for point, count in ((one, 1), (four, 4)):
            draws = [balanced_draw(train.targets, count, seed) for seed in (5, 6, 7)]
            assert point.accuracies == [100 * linear_accuracy(train.take(draw), test) for draw in draws]
        assert whole.accuracies == [100 * linear_accuracy(train, test)]

    run = checkpoint.parent.parent
    content = json.loads((run / "label_curve.json").read_text())
    assert [point["accuracies"] for point in content["points"]] == [point.accuracies for point in curve.points]
    assert content["points"][2] == {
        "encoder": "raw pixels",
        "labels_per_class": "all",
        "labels": 60,
        "accuracy": curve.points[2].accuracy,
        "standard_deviation": None,
        "interval": None,
        "accuracies": curve.points[2].accuracies,
    }
    assert (content["seed"], content["test_split"], content["test_pictures"], content["classes"]) == (5, "test", 30, 3)
    assert content["checkpoints"] == {"pre-trained encoder": str(checkpoint)}
    table = (run / "label_curve.md").read_text().splitlines()
    assert "| labels per class | labels | raw pixels | random encoder | pre-trained encoder |" in table
    four = curve.points[1]
    assert any(line.startswith(f"| 4 | 12 | {four} {four.interval_text} |") for line in table)
    with Image.open(run / "label_curve.png") as image:
        assert image.size[0] > 1500


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"counts": [2, 50]}, r"50 labels per class .* has 20"),
        ({"counts": [0]}, "0 labels"),
    ],
)
def test_mistakes_are_named_before_features_are_computed(
    settings: dict[str, Any], message: str, trainer: Make, columns: Make, pictures: Make
) -> None:
    class Untouched(type(columns())):  # type: ignore[misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            raise AssertionError("Features were computed.")

    with pytest.raises(ValueError, match=message):
        trainer().label_curve(Untouched(), pictures(), **settings)


@pytest.fixture
def curve(points: list[Result]) -> LabelCurve:
    return LabelCurve(
        points, "digits", "test", 360, 10, "logistic regression", {}, 0, {}, "simclr label_curve", ["A note."]
    )


def test_loggers_get_a_step_a_number_of_labels(curve: LabelCurve) -> None:
    assert curve.metrics() == {
        1: {"label_curve/raw pixels": 45.0, "label_curve/pre-trained encoder": 82.0},
        100: {"label_curve/raw pixels": 91.0, "label_curve/pre-trained encoder": 97.0},
        143: {"label_curve/raw pixels": 96.4, "label_curve/pre-trained encoder": 97.8},
    }


def test_markdown_says_what_the_figures_are(curve: LabelCurve) -> None:
    text = curve.markdown()
    spread = "mean ± standard deviation over 2 class-balanced draws (seed 0) [95 % t-interval of the mean]"
    for part in ("360 test pictures of digits", spread, "A note."):
        assert part in text
    assert "| 1 | 10 | 45.0 ± 7.1 [-18.5, 108.5] | 82.0 ± 2.8 [56.6, 107.4] |" in text
    assert "```bash\nsimclr label_curve\n```" in text
    assert "| all | 1437 | 96.4 | 97.8 |" in text


def test_networks_can_be_fine_tuned_instead(trainer: Make, tmp_path: Path) -> None:
    model = SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, zero_init_residual=False)
    curve = trainer().label_curve(
        model,
        SimCLRDataModule("digits", label_fraction=0.03),
        counts=[1],
        draws=2,
        classifier="finetune",
        finetune=FineTuneRecipe(epochs=1),
        output=tmp_path,
    )
    assert [(point.encoder, point.per_class, len(point.accuracies)) for point in curve.points] == [
        ("random encoder", 1, 2),
        ("random encoder", None, 1),
    ]
    assert curve.settings == {"epochs": 1, "learning_rate": 0.05, "batch_size": 256, "draws": 2}
