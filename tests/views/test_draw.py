from __future__ import annotations

import math
import os
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import multiprocessing
from torchvision.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

from simclr_lightning.views.boxes import CROP_STREAMS, crop_boxes
from simclr_lightning.views.draw import ViewParameters, draw_parameters, uniforms
from simclr_lightning.views.recipe import ViewRecipe

NUMBER, CROPS = 4000, 3000
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


def test_parameters_of_two_views_never_change_between_releases() -> None:
    sizes = torch.tensor([[375, 500], [32, 32], [90, 60]])
    recipe, indices = ViewRecipe(rotation=10.0), torch.tensor([0, 7, 2**33])
    parameters = draw_parameters(recipe, indices, sizes, seed=3, epoch=5)
    assert parameters.boxes.tolist() == [
        [[62, 152, 259, 219], [5, 10, 19, 16], [29, 26, 25, 21]],
        [[8, 41, 360, 423], [1, 8, 17, 18], [27, 10, 49, 49]],
    ]
    assert parameters.flip.tolist() == [[True, False, False], [True, True, False]]
    assert parameters.jitter.tolist() == [[True, True, True], [False, True, False]]
    assert parameters.grey.tolist() == [[False, False, False], [False, True, False]]
    assert parameters.blur.tolist() == [[True, False, True], [True, True, True]]
    assert parameters.order.tolist() == [
        [[2, 3, 0, 1], [3, 1, 2, 0], [0, 1, 2, 3]],
        [[2, 1, 3, 0], [0, 2, 3, 1], [1, 0, 2, 3]],
    ]
    assert parameters.noise_key.tolist() == [
        [7538961381604482, 5595009965088249, 4712129607180741],
        [8732974396680744, 5165765924671820, 6128758669310028],
    ]
    expected = {
        "angle": [-0.5530914166364518, 0.7986742607739661],
        "brightness": [1.246889010951589, 1.0302701293630083],
        "contrast": [1.5079829378771512, 0.6785032598836642],
        "saturation": [1.5010810164210429, 1.3237634836151482],
        "hue": [0.03447231101784304, -0.051908045206311204],
        "sigma": [1.5019639921143864, 1.1906643567562674],
    }
    for name, values in expected.items():
        assert getattr(parameters, name)[:, 0].tolist() == pytest.approx(values, rel=1e-14), name


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_view_is_drawn_alike_whatever_the_count_and_wherever_it_starts(count: int) -> None:
    indices, sizes = torch.tensor([5, 1, 8]), torch.tensor([[30, 40], [20, 9], [64, 64]])
    many = draw_parameters(ViewRecipe(count=9), indices, sizes, seed=1, epoch=2)
    for first in (0, 1, 2):
        some = draw_parameters(ViewRecipe(count=count), indices, sizes, seed=1, epoch=2, first=first)
        for name, values in some._asdict().items():
            assert torch.equal(values, getattr(many, name)[first : first + count]), name


def test_parameters_travel_between_processes_by_value() -> None:
    """A file handle for each of 13 tensors would soon be more than a process may hold."""
    parameters = drawn(ViewRecipe(), 5)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(parameters, protocol))
        assert type(back) is ViewParameters
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(back, parameters, strict=True))
        assert [values.dtype for values in back] == [values.dtype for values in parameters]
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    handles = len(os.listdir("/dev/fd"))
    queue.put(parameters)
    received = queue.get()
    assert len(os.listdir("/dev/fd")) == handles
    assert torch.equal(received.boxes, parameters.boxes)


def test_flattened_parameters_have_all_first_views_then_all_second_ones() -> None:
    parameters = drawn(ViewRecipe(count=3), 4)
    flat = parameters.flatten()
    assert torch.equal(flat.boxes, torch.cat(list(parameters.boxes)))
    assert torch.equal(flat.sigma, torch.cat(list(parameters.sigma)))


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
    parameters = drawn(ViewRecipe(rotation=10.0, vertical_flip=0.5, rotate90=0.75))
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


def draw_crops(
    recipe: ViewRecipe, indices: torch.Tensor, sizes: torch.Tensor, *, seed: int, epoch: int
) -> torch.Tensor:
    return draw_parameters(recipe, indices, sizes, seed=seed, epoch=epoch).boxes


def torchvisions_boxes(recipe: ViewRecipe, height: int, width: int) -> torch.Tensor:
    picture = torch.empty(3, height, width)
    area, ratio = list(recipe.crop_area), list(recipe.crop_ratio)
    return torch.tensor([RandomResizedCrop.get_params(picture, area, ratio) for _ in range(CROPS)])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (60, 300)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.5, 0.9)])
def test_boxes_follow_the_law_of_torchvisions_random_resized_crop(
    height: int, width: int, area: tuple[float, float]
) -> None:
    recipe = ViewRecipe(crop_area=area)
    ours = draw_crops(recipe, torch.arange(CROPS), torch.tensor([height, width]), seed=0, epoch=0)[0].double()
    theirs = torchvisions_boxes(recipe, height, width).double()

    def features(boxes: torch.Tensor) -> dict[str, np.ndarray]:
        top, left, tall, wide = boxes.numpy().T
        return {
            "area": tall * wide,
            "ratio": wide / tall,
            "top": top,
            "left": left,
            "bottom": top + tall,
            "diagonal": top / height + left / width,
        }

    expected = features(theirs)
    for name, sample in features(ours).items():
        assert stats.ks_2samp(sample, expected[name]).pvalue > 0.01, name


def test_boxes_lie_inside_pictures_of_different_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 400, (2000, 2), generator=generator)
    boxes = draw_crops(ViewRecipe(), torch.arange(2000), sizes, seed=0, epoch=0)
    top, left, tall, wide = boxes.unbind(-1)
    assert boxes.dtype == torch.int64
    assert (boxes[..., 2:] >= 1).all()
    assert (boxes[..., :2] >= 0).all()
    assert (top + tall <= sizes[:, 0]).all()
    assert (left + wide <= sizes[:, 1]).all()


def test_each_picture_gets_the_box_of_its_own_size() -> None:
    sizes = torch.tensor([[30, 40], [200, 100], [7, 7]])
    together = draw_crops(ViewRecipe(), torch.tensor([3, 1, 8]), sizes, seed=5, epoch=2)
    for row, index in enumerate((3, 1, 8)):
        alone = draw_crops(ViewRecipe(), torch.tensor([index]), sizes[row], seed=5, epoch=2)
        assert torch.equal(together[:, row], alone[:, 0])


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (64, 64), (3, 3), (1, 1), (1, 7)])
def test_where_nothing_fits_the_box_is_torchvisions_central_one(height: int, width: int) -> None:
    recipe = ViewRecipe(crop_area=(1.0, 1.0), crop_ratio=(3 / 4, 0.8))  # never fits a picture of these shapes
    ours = draw_crops(recipe, torch.arange(5), torch.tensor([height, width]), seed=0, epoch=0)
    area, ratio = list(recipe.crop_area), list(recipe.crop_ratio)
    expected = RandomResizedCrop.get_params(torch.empty(3, height, width), area, ratio)
    assert (ours == torch.tensor(expected)).all()


def test_the_first_attempt_that_fits_is_taken() -> None:
    recipe = ViewRecipe(crop_area=(0.5, 1.0), crop_ratio=(0.5, 2.0))
    numbers = torch.zeros(1, 1, CROP_STREAMS, dtype=torch.float64)
    numbers[..., :10] = 1.0  # area 1 with ratio 1/2 and 2 does not fit a square
    numbers[..., 3] = 0.0  # attempt 3: area 0.5, ratio 1/2
    numbers[..., 7] = 0.5
    box = crop_boxes(recipe, numbers, torch.tensor([100, 100]))[0, 0]
    assert box.tolist() == [0, 0, 100, 50]


def test_without_the_random_crop_the_whole_square_picture_is_taken() -> None:
    boxes = draw_crops(ViewRecipe(crop=0.0), torch.arange(9), torch.tensor([48, 48]), seed=0, epoch=0)
    assert (boxes == torch.tensor([0, 0, 48, 48])).all()


def test_probability_of_the_crop() -> None:
    boxes = draw_crops(
        ViewRecipe(crop=0.3, crop_area=(0.1, 0.5)), torch.arange(CROPS), torch.tensor([48, 48]), seed=0, epoch=0
    )
    cropped = (boxes[..., 2:] != 48).any(-1).double().mean().item()
    assert abs(cropped - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (2 * CROPS))


def test_crops_use_the_first_numbers_of_their_view_only() -> None:
    indices, size = torch.arange(10), torch.tensor([50, 60])
    numbers = uniforms(3, 4, indices, CROP_STREAMS + 9)[..., :CROP_STREAMS]
    assert torch.equal(
        draw_crops(ViewRecipe(), indices, size, seed=3, epoch=4), crop_boxes(ViewRecipe(), numbers, size)
    )
