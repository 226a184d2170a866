"""Columns of metrics.csv: steps that were done again, epochs, and points that a picture does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simclr_lightning.run_report.metric_columns import Metrics, read_metrics, thinned


def write(file: Path, *rows: str) -> Path:
    file.write_text("\n".join(["epoch,step,a,b", *rows, ""]))
    return file


def test_steps_that_were_done_again_take_the_place_of_the_first(tmp_path: Path) -> None:
    """After an interruption, in the same file or in the next one."""
    first = write(tmp_path / "metrics.csv", "0,0,1,9", "0,1,2,", "0,2,3,", "1,3,4,8", "1,4,5,", "1,3,40,80", "1,5,60,")
    second = write(tmp_path / "metrics-2.csv", "1,5,600,", "2,6,700,7")
    found = read_metrics([first, second])
    assert found.columns["a"].steps.tolist() == [0, 1, 2, 3, 5, 6]
    assert found.columns["a"].values.tolist() == [1, 2, 3, 40, 600, 700]
    assert found.columns["b"].values.tolist() == [9, 80, 7]
    assert found.ends == {0: 2, 1: 5, 2: 6}
    assert not found.notes


def test_epochs_of_steps() -> None:
    """A last epoch that is not over counts as long as the one before; rows without an epoch lie between."""
    metrics = Metrics(ends={0: 9, 1: 19, 2: 24})
    assert metrics.epochs(np.array([0.0, 9, 14, 19, 24])).tolist() == [0.1, 1, 1.5, 2, 2.5]
    odd = Metrics(ends={0: 9, 1: 4, 3: 39})
    assert (np.diff(odd.epochs(np.arange(50.0))) >= 0).all()


@pytest.mark.parametrize("number", [1, 400, 401, 50_000])
def test_a_thinned_curve_looks_the_same(number: int) -> None:
    rng = np.random.default_rng(0)
    x, y = np.arange(float(number)), rng.normal(size=number).cumsum()
    y[number // 3 : number // 2] = np.nan
    places, values = thinned(x, y)
    assert len(places) <= 400
    assert (np.diff(places) > 0).all()
    assert (places[0], places[-1]) == (x[0], x[-1])
    assert np.array_equal(values, y[places.astype(int)], equal_nan=True)
    if number > 1:
        assert (np.nanmin(values), np.nanmax(values)) == (np.nanmin(y), np.nanmax(y))
        assert np.isnan(values).any()
