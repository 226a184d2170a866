"""One of several processes is told to stop: all of them do, after the same step, and the rest is as if they had not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from tests.callbacks.test_save_when_stopped import Stop, assert_equal, fit
from tests.distributed.harness import run_in_processes

from simclr_lightning.distributed import rank, world_size

PLACES = [("on_train_batch_start", 2), ("on_validation_batch_end", 1)]


def run(folder: Path, place: tuple[str, int] | None) -> Any:
    """What is left of a run, or the status with which a process ends; rank one alone gets a signal."""
    values: dict[tuple[int, str], float] = {}
    callbacks: list[Callback] = [] if place is None or rank() == 0 else [Stop(*place)]
    try:
        content = fit(folder, values, *callbacks, devices=world_size(), strategy="ddp")
    except SystemExit as ended:
        return ended.code
    return content | {"values": {f"{step} {name}": value for (step, name), value in values.items()}}


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")  # of the probe, in Lightning's own words
def test_the_rest_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = run_in_processes(run, 2, tmp_path / "whole", None)
    for place in PLACES:
        # Where no cluster starts the processes, the first one has; it is killed when another one fails.
        assert run_in_processes(run, 2, tmp_path / "parts", place) == [143, 0]
    for rest, all_of_it in zip(run_in_processes(run, 2, tmp_path / "parts", None), whole, strict=True):
        values, expected = rest.pop("values"), all_of_it.pop("values")
        assert_equal(rest, all_of_it)
        assert values.items() <= expected.items()
