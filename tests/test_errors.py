"""Errors that a user can mend say what to type, by the names that the command at hand has for it."""

from __future__ import annotations

import pickle

import pytest

from simclr_lightning.errors import (
    ExistingFileError,
    InputError,
    MissingFileError,
    MissingPackageError,
    options_without,
    require_packages,
)

KINDS = {
    InputError: ValueError,
    MissingFileError: FileNotFoundError,
    ExistingFileError: FileExistsError,
    MissingPackageError: ImportError,
}


@pytest.mark.parametrize(("kind", "builtin"), KINDS.items())
def test_errors_are_pythons_own_too_and_survive_another_process(
    kind: type[InputError], builtin: type[Exception]
) -> None:
    error = pickle.loads(pickle.dumps(kind("no such thing", "data.root", "data.probe")))
    assert isinstance(error, builtin)
    assert isinstance(error, ValueError)
    assert str(error) == "no such thing (--data.root or --data.probe)."
    assert str(kind("something else.")) == "something else."


@pytest.mark.parametrize("kind", KINDS)
def test_advice_names_the_options_of_the_command(kind: type[InputError]) -> None:
    with pytest.raises(kind, match=r"^no such thing \(--root or --probe\)\.$"), options_without("data."):
        raise kind("no such thing", "data.root", "probe")
    with pytest.raises(kind, match=r"^something else$"), options_without("data."):
        raise kind("something else")
    with pytest.raises(RuntimeError, match=r"^--data\.root$"), options_without("data."):
        raise RuntimeError("--data.root")


def test_missing_packages_are_named_together() -> None:
    require_packages("A test", ["pytest"])
    with pytest.raises(MissingPackageError, match=r"^A test needs no_such, nor_this: pip install no_such nor_this$"):
        require_packages("A test", ["pytest", "no_such", "nor_this"])
