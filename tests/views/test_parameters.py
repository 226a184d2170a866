from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torchvision.transforms import ColorJitter, GaussianBlur

from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

NUMBER = 4000
SIZE = torch.tensor([40, 50])


def drawn(recipe: ViewRecipe, number: int = NUMBER, seed: int = 0, epoch: int = 0) -> ViewParameters:
    return draw_parameters(recipe, torch.arange(number), SIZE, seed=seed, epoch=epoch)


def test_shapes_and_types() -> None:
    parameters = drawn(ViewRecipe(), 5)
    for name, values in parameters._asdict().items():
        assert values.shape[:2] == (2, 5), name
        assert values.device.type == "cpu"
    assert parameters.boxes.shape == (2, 5, 4)
    assert parameters.order.shape == (2, 5, 4)
    assert {parameters.flip.dtype, parameters.jitter.dtype, parameters.grey.dtype, parameters.blur.dtype} == {
        torch.bool
    }


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_factors_follow_the_laws_of_torchvisions_color_jitter(strength: float) -> None:
    parameters = drawn(ViewRecipe(jitter_strength=strength))
    jitter = ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    theirs = [
        ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(NUMBER)
    ]
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue"), 1):
        expected = np.array([float(draw[column]) for draw in theirs])
        ours = getattr(parameters, name)
        assert stats.ks_2samp(ours[0].numpy(), expected).pvalue > 0.01, name
        assert stats.ks_2samp(ours[1].numpy(), expected).pvalue > 0.01, name


def test_all_orders_of_the_jitters_operations_are_equally_likely() -> None:
    order = drawn(ViewRecipe()).order.flatten(0, 1)
    counts = Counter(map(tuple, order.tolist()))
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_additive_brightness_is_uniform_around_zero() -> None:
    recipe = ViewRecipe(additive_brightness=True)
    brightness = drawn(recipe).brightness[0].numpy()
    assert stats.kstest(brightness, stats.uniform(-0.8, 1.6).cdf).pvalue > 0.01


def test_sigma_follows_torchvisions_gaussian_blur_and_angle_is_uniform() -> None:
    parameters = drawn(ViewRecipe(rotation=20.0, blur_sigma=(0.1, 2.0)))
    expected = [GaussianBlur.get_params(0.1, 2.0) for _ in range(NUMBER)]
    assert stats.ks_2samp(parameters.sigma[0].numpy(), expected).pvalue > 0.01
    assert stats.kstest(parameters.angle[1].numpy(), stats.uniform(-20, 40).cdf).pvalue > 0.01


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
def test_coins_have_their_probability(probability: float) -> None:
    recipe = ViewRecipe(flip=probability, jitter=probability, grey=probability, blur=probability)
    parameters = drawn(recipe)
    for name in ("flip", "jitter", "grey", "blur"):
        share = getattr(parameters, name).double().mean().item()
        assert abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / (2 * NUMBER)), name


def test_everything_that_is_drawn_is_independent() -> None:
    parameters = drawn(ViewRecipe(rotation=10.0))
    flat = {name: values.double() for name, values in parameters._asdict().items() if values.ndim == 2}
    flat["area"] = parameters.boxes[..., 2:].double().prod(-1)
    series = [values[view].numpy() for values in flat.values() for view in range(2)]
    correlation = np.corrcoef(series)
    assert np.abs(correlation - np.eye(len(series))).max() < 5 / math.sqrt(NUMBER)


def test_a_changed_range_leaves_every_other_parameter_alone() -> None:
    before, after = drawn(ViewRecipe(), 20), drawn(ViewRecipe(hue=0.1, blur_sigma=(1.0, 1.0), flip=0.1), 20)
    for name in ("boxes", "jitter", "order", "brightness", "contrast", "saturation", "grey", "blur", "noise_key"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name


def test_seed_epoch_index_and_view_each_change_the_draw() -> None:
    recipe = ViewRecipe()
    base = drawn(recipe, 50).brightness
    for other in (drawn(recipe, 50, seed=1), drawn(recipe, 50, epoch=1)):
        assert (other.brightness != base).all()
    assert (base[0] != base[1]).all()
    assert len(set(base.flatten().tolist())) == 100
