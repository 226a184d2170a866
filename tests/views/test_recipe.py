from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from jsonargparse import ArgumentParser, Namespace

from simclr_lightning.errors import InputError
from simclr_lightning.views.presets import PRESETS
from simclr_lightning.views.recipe import ViewRecipe


class Consumer:
    def __init__(self, views: ViewRecipe | str | list[ViewRecipe] | None = None) -> None:
        self.views = views


def parser() -> ArgumentParser:
    result = ArgumentParser(exit_on_error=False)
    result.add_argument("--config", action="config")
    result.add_class_arguments(Consumer, "data")
    return result


def views_of(config: Namespace) -> Any:
    return parser().instantiate(config).data.views


def test_imagenet_preset_has_the_numbers_of_the_papers_appendix_a() -> None:
    recipe = ViewRecipe()
    assert recipe.preset == "imagenet"
    assert (recipe.size, recipe.crop, recipe.crop_area, recipe.crop_ratio) == (224, 1.0, (0.08, 1.0), (3 / 4, 4 / 3))
    assert (recipe.interpolation, recipe.flip, recipe.rotation, recipe.noise) == ("bicubic", 0.5, 0.0, 0.0)
    assert (recipe.jitter, recipe.jitter_strength, recipe.additive_brightness) == (0.8, 1.0, False)
    assert recipe.ranges() == (0.8, 0.8, 0.8, 0.2)
    assert (recipe.grey, recipe.blur, recipe.blur_sigma) == (0.2, 0.5, (0.1, 2.0))
    assert (recipe.mean, recipe.std) == (None, None)


def test_cifar10_preset_is_32_pixels_half_the_jitter_and_no_blur() -> None:
    assert ViewRecipe("cifar10") == ViewRecipe("cifar10", size=32, jitter_strength=0.5, blur=0.0)
    back = dataclasses.replace(ViewRecipe("cifar10"), size=224, eval_size=224, jitter_strength=1.0, blur=0.5)
    assert dataclasses.replace(back, preset="imagenet") == ViewRecipe()
    assert ViewRecipe("cifar10").ranges() == (0.4, 0.4, 0.4, 0.1)


def test_article_preset_differs_from_imagenet_in_the_crop_area_only() -> None:
    assert ViewRecipe("article").crop_area == (0.2, 1.0)
    assert dataclasses.replace(ViewRecipe("article"), preset="imagenet", crop_area=(0.08, 1.0)) == ViewRecipe()


@pytest.mark.parametrize("preset", ["grayscale", "digits"])
def test_presets_for_one_channel_use_no_colour(preset: str) -> None:
    recipe = ViewRecipe(preset)
    assert (recipe.saturation, recipe.hue, recipe.grey) == (0, 0, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fills_every_field(preset: str) -> None:
    recipe = ViewRecipe(preset)
    assert [f.name for f in dataclasses.fields(recipe) if getattr(recipe, f.name) is None] == [
        "eval_crop",
        "mean",
        "std",
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_two_views_of_each_picture(preset: str) -> None:
    assert ViewRecipe(preset).count == 2
    assert ViewRecipe(preset, count=6) == dataclasses.replace(ViewRecipe(preset), count=6)


@pytest.mark.parametrize(("size", "kernel"), [(224, 23), (96, 9), (64, 7), (32, 3), (20, 3), (16, 1)])
def test_blur_kernel_is_a_tenth_of_the_size_made_odd(size: int, kernel: int) -> None:
    assert ViewRecipe(size=size).blur_kernel == kernel


def test_what_is_given_wins_over_the_preset_even_zero_and_false() -> None:
    recipe = ViewRecipe("cifar10", flip=0.0, crop_area=(0.5, 1.0), additive_brightness=False)
    assert (recipe.flip, recipe.crop_area, recipe.jitter_strength) == (0.0, (0.5, 1.0), 0.5)


def test_lists_become_tuples_so_that_recipes_stay_hashable() -> None:
    recipe = ViewRecipe(crop_area=[0.2, 1.0], mean=[0.5], std=[0.25])  # type: ignore[arg-type]
    assert recipe == ViewRecipe(crop_area=(0.2, 1.0), mean=(0.5,), std=(0.25,))
    assert len({recipe, pickle.loads(pickle.dumps(recipe))}) == 1


def test_evaluation_size_is_the_size_of_the_views_unless_it_is_given() -> None:
    assert ViewRecipe("cifar10", size=20).eval_size == 20
    assert ViewRecipe("cifar10", size=20, eval_size=32).eval_size == 32


def test_asdict_gives_the_same_recipe_back() -> None:
    recipe = ViewRecipe("stl10", flip=0.25)
    assert ViewRecipe(**dataclasses.asdict(recipe)) == recipe


def test_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"'cifar11'.*Did you mean cifar10.*imagenet, cifar10, stl10, grayscale"):
        ViewRecipe("cifar11")
    with pytest.raises(ValueError, match=r"Unknown view preset 'zzz'\. Choose one of imagenet"):
        ViewRecipe("zzz")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 0, "size is 0"),
        ("eval_size", -1, "eval_size is -1"),
        ("eval_crop", 1.1, "eval_crop is 1.1: expected a share of the shorter side"),
        ("crop_area", (0.0, 1.0), "crop_area is 0.0"),
        ("crop_area", (0.2, 1.5), "crop_area is 1.5"),
        ("crop_area", (1.0, 0.2), r"lower end comes first, write \(0.2, 1.0\)"),
        ("crop_ratio", (-1.0, 1.0), "crop_ratio is -1.0"),
        ("crop", 1.1, "crop is 1.1: expected a probability from 0 to 1"),
        ("interpolation", "nearest", "choose bicubic or bilinear"),
        ("flip", -0.1, "flip is -0.1"),
        ("rotation", 181.0, "rotation is 181.0: expected an angle from 0 to 180"),
        ("jitter", 2.0, "jitter is 2.0"),
        ("jitter_strength", -1.0, "jitter_strength is -1.0"),
        ("brightness", float("nan"), "brightness is nan"),
        ("contrast", float("inf"), "contrast is inf"),
        ("saturation", -0.5, "saturation is -0.5"),
        ("hue", 0.6, r"hue \* jitter_strength is 0.6: expected a hue shift of at most 0.5 turns"),
        ("grey", 20, "grey is 20: expected a probability"),
        ("blur", 3.0, "blur is 3.0"),
        ("blur_sigma", (0.0, 2.0), "blur_sigma is 0.0"),
        ("noise", -0.1, "noise is -0.1"),
        ("mean", (0.5,), r"give both, or neither"),
        ("count", 0, "count is 0: draw at least one view of each picture"),
        ("count", -2, "count is -2"),
    ],
)
def test_values_out_of_range_are_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViewRecipe(**{field: value})


def test_normalisation_is_checked() -> None:
    with pytest.raises(ValueError, match="one number per channel"):
        ViewRecipe(mean=(0.5, 0.5), std=(0.5,))
    with pytest.raises(ValueError, match=r"std is 0\.0: expected numbers above 0"):
        ViewRecipe(mean=(0.5,), std=(0.0,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 32.0),
        ("size", True),
        ("flip", "0.5"),
        ("flip", True),
        ("crop_area", 0.5),
        ("crop_area", (0.1, 0.5, 1.0)),
        ("additive_brightness", 1),
        ("count", 2.0),
        ("count", True),
    ],
)
def test_values_of_the_wrong_type_are_named(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} is "):
        ViewRecipe(**{field: value})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        (["--data.views", "cifar10"], "cifar10"),
        (["--data.views", "null"], None),
        (["--data.views.preset", "cifar10", "--data.views.size", "28"], ViewRecipe("cifar10", size=28)),
        (["--data.views.size", "28", "--data.views.preset", "cifar10"], ViewRecipe("cifar10", size=28)),
        (["--data.views.flip", "0"], ViewRecipe(flip=0.0)),
        (["--data.views", "{preset: stl10, crop_area: [0.2, 1.0]}"], ViewRecipe("stl10", crop_area=(0.2, 1.0))),
        (["--data.views.count", "4"], ViewRecipe(count=4)),
        (
            ["--data.views", "[{size: 32}, {preset: cifar10, size: 16, count: 4}]"],
            [ViewRecipe(size=32), ViewRecipe("cifar10", size=16, count=4)],
        ),
        (
            ["--data.views.mean", "[0.1, 0.2, 0.3]", "--data.views.std", "[1, 1, 1]"],
            ViewRecipe(mean=(0.1, 0.2, 0.3), std=(1, 1, 1)),
        ),
    ],
)
def test_command_line_gives_the_recipe_and_its_dump_gives_it_again(arguments: list[str], expected: object) -> None:
    config = parser().parse_args(arguments)
    assert views_of(config) == expected
    assert views_of(parser().parse_string(parser().dump(config))) == expected


def test_dump_with_every_field_null_is_read_again() -> None:
    nulls = "".join(f"    {f.name}: null\n" for f in dataclasses.fields(ViewRecipe)[1:])
    config = parser().parse_string(f"data:\n  views:\n    preset: cifar10\n{nulls}")
    assert views_of(config) == ViewRecipe("cifar10")


def test_command_line_wins_over_the_configs_recipe(tmp_path: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data:\n  views:\n    preset: cifar10\n    crop_area: [0.3, 1]\n    flip: 0.1\n")
    config = parser().parse_args([f"--config={path}", "--data.views.flip", "0.9"])
    assert views_of(config) == ViewRecipe("cifar10", crop_area=(0.3, 1.0), flip=0.9)


def test_command_line_error_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="Did you mean cifar10"):
        views_of(parser().parse_args(["--data.views.preset", "cifar11"]))
