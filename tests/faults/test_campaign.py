"""A sample of ``make faults``: a training that is killed twice at the most, and goes on, ends as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults import campaign
from tests.faults.campaign import Campaign, differences


def test_killed_runs_end_as_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "COMMON", [*campaign.COMMON, "--trainer.max_epochs", "2", "--model.width", "0.125"])
    sample = Campaign(tmp_path, seed=0, kinds=["one process"])
    chain = sample.chain("one process", most=2)
    assert chain.differences == []
    assert sample.table()[0]["runs"] == 1


def test_differences_are_found() -> None:
    one: dict[str, Any] = {"a": [torch.zeros(2), 1.0], "b": {"c": 1}}
    other: dict[str, Any] = {"a": [torch.zeros(2), 1.0], "b": {"c": 2}}
    assert differences(one, one) == []
    assert differences(one, other) == ["b.c"]
    other["a"][0][1] = -1e-30
    other["d"] = None
    assert differences(one, {**other, "a": [other["a"][0], 2.0]}) == ["a[0]", "a[1]", "b.c"]
    assert differences({"a": 1}, {"a": 1, "d": 3}) == ["d"]
