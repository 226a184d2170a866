"""Where pre-training has not paid, the figures are put into words."""

from __future__ import annotations

import pytest

from simclr_lightning.evaluation.report import Result
from simclr_lightning.evaluation.verdict import verdicts

JUDGED = ["pre-trained encoder", "model as it is"]


def results(**figures: dict[str, list[float]]) -> list[Result]:
    return [Result(encoder, protocol, 10, draws) for protocol, row in figures.items() for encoder, draws in row.items()]


@pytest.mark.parametrize("judged", JUDGED)
def test_each_rival_names_the_protocols_by_which_it_is_better(judged: str) -> None:
    said = verdicts(
        results(
            knn={"raw pixels": [73.2], "random encoder": [44.0], judged: [73.1], "supervised": [10.0]},
            linear={"raw pixels": [82.0], "random encoder": [90.0], judged: [85.0]},
            few={"raw pixels": [70.0, 72.0], "random encoder": [38.0, 40.0], judged: [60.0, 68.0]},
        )
    )
    pixels, random = said
    assert pixels.startswith(
        f"Raw pixels are better than the {judged} by knn (73.2 against 73.1), few (71.0 against 64.0)"
    )
    assert random.startswith(f"The random encoder is better than the {judged} by linear (90.0 against 85.0): ")


def test_nothing_is_said_where_the_encoder_is_better_or_equal_as_shown() -> None:
    figures = {"raw pixels": [73.24], "random encoder": [40.0], "pre-trained encoder": [73.16]}
    assert verdicts(results(knn=figures)) == []


def test_nothing_is_said_where_nothing_was_trained() -> None:
    assert verdicts(results(knn={"raw pixels": [73.0], "random encoder": [40.0], "supervised": [20.0]})) == []


def test_other_encoders_and_training_from_scratch_do_not_count() -> None:
    figures = {"raw pixels": [73.0], "pre-trained encoder": [80.0], "supervised": [90.0]}
    scratch = {"random encoder": [99.0], "pre-trained encoder": [98.0]}
    assert verdicts(results(knn=figures) + [Result(e, "finetune@100%", 9, draws) for e, draws in scratch.items()]) == []
