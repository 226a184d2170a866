"""What is left out, what is typed back, and advice that names the right options."""

from __future__ import annotations

from pathlib import Path

import pytest

from simclr_lightning.ablation.options import command_line, default_val_fraction, own_options, resolved_recipe
from simclr_lightning.views import ViewRecipe


def test_views_fit_the_data_set_and_are_small() -> None:
    assert resolved_recipe(None, "folder") == ViewRecipe(size=32)
    assert resolved_recipe(None, "digits") == ViewRecipe("digits")
    assert resolved_recipe("stl10", "folder") == ViewRecipe("stl10")
    assert resolved_recipe(ViewRecipe(size=50), "folder").size == 50


def test_validation_pictures_serve_and_test_pictures_do_not(tmp_path: Path) -> None:
    for name in ("with/train", "with/valid", "tested/train", "tested/test", "flat/cat", "flat/dog"):
        (tmp_path / name).mkdir(parents=True)
    assert default_val_fraction("folder", tmp_path / "with", None) == 0
    assert default_val_fraction("folder", tmp_path / "tested", None) == 0.2
    assert default_val_fraction("folder", tmp_path / "flat", None) == 0.2
    assert default_val_fraction("folder", tmp_path / "flat", tmp_path / "with") == 0
    assert default_val_fraction("cifar10", tmp_path / "with", None) == 0.2


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, RuntimeError])
def test_advice_names_the_options_of_this_command(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^correct --root \(or --probe\)$"), own_options():
        raise kind("correct --data.root (or --data.probe)")
    with pytest.raises(kind, match=r"^something else$"), own_options():
        raise kind("something else")


def test_the_command_has_what_is_not_said_by_default() -> None:
    defaults = {"root": "data", "symmetric": False, "operations": "crop,blur", "seeds": 2, "views": None}
    typed = {
        "root": "my photos",
        "symmetric": True,
        "operations": ["crop", "sobel"],
        "seeds": 2,
        "views": ViewRecipe("cifar10", size=20, eval_size=32, crop_area=(0.2, 1.0), additive_brightness=True),
    }
    assert command_line(typed, defaults) == (
        "simclr ablate --root 'my photos' --symmetric true --operations crop,sobel --views.preset cifar10 "
        "--views.size 20 --views.eval_size 32 '--views.crop_area' '[0.2,1.0]' --views.additive_brightness true"
    ).replace("'--views.crop_area'", "--views.crop_area")
    assert command_line({**defaults, "views": ViewRecipe("cifar10", size=20)}, defaults) == (
        "simclr ablate --views.preset cifar10 --views.size 20"
    )
