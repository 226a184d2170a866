"""Complaints without a traceback, everything else with it."""

from __future__ import annotations

import os

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from simclr_lightning import ViewRecipe, console


def complain() -> None:
    ViewRecipe(size=0)


def break_elsewhere() -> None:
    raise ValueError("of another project")


def test_a_complaint_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(console.TRACEBACK, raising=False)
    monkeypatch.setattr(console, "main", complain)
    with pytest.raises(SystemExit, match="1"):
        console.run()
    assert capsys.readouterr().err.startswith("simclr: error: size is 0: a view needs at least one pixel")


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(console.TRACEBACK, "1")
    monkeypatch.setattr(console, "main", complain)
    with pytest.raises(ValueError, match="size is 0"):
        console.run()


def test_errors_of_others_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(console.TRACEBACK, raising=False)
    monkeypatch.setattr(console, "main", break_elsewhere)
    with pytest.raises(ValueError, match="of another project"):
        console.run()


def test_what_breaks_inside_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is no complaint."""

    def bug() -> None:
        ViewRecipe(size="large")  # type: ignore[arg-type]

    monkeypatch.delenv(console.TRACEBACK, raising=False)
    monkeypatch.setattr(console, "main", bug)
    with pytest.raises(TypeError):
        console.run()


def test_what_lightning_calls_a_misconfiguration_is_a_complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def misconfigured() -> None:
        raise MisconfigurationException("of the Trainer")

    monkeypatch.delenv(console.TRACEBACK, raising=False)
    monkeypatch.setattr(console, "main", misconfigured)
    with pytest.raises(SystemExit, match="1"):
        console.run()
    assert capsys.readouterr().err.startswith("simclr: error: of the Trainer")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["nothing typed", "a count typed", "a policy typed"],
)
def test_threads_that_wait_leave_the_processor_to_others(
    typed: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(os, "environ", dict(typed))
    monkeypatch.setattr(console, "main", lambda: found.append(os.environ.get("GOMP_SPINCOUNT")))
    console.run()
    assert found == [expected]
