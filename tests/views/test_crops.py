from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torchvision.transforms import RandomResizedCrop

from simclr_lightning.views.crops import CROP_STREAMS, crop_boxes
from simclr_lightning.views.parameters import draw_parameters
from simclr_lightning.views.randomness import uniforms
from simclr_lightning.views.recipe import ViewRecipe

NUMBER = 3000


def draw_crops(
    recipe: ViewRecipe, indices: torch.Tensor, sizes: torch.Tensor, *, seed: int, epoch: int
) -> torch.Tensor:
    return draw_parameters(recipe, indices, sizes, seed=seed, epoch=epoch).boxes


def torchvisions_boxes(recipe: ViewRecipe, height: int, width: int) -> torch.Tensor:
    picture = torch.empty(3, height, width)
    area, ratio = list(recipe.crop_area), list(recipe.crop_ratio)
    return torch.tensor([RandomResizedCrop.get_params(picture, area, ratio) for _ in range(NUMBER)])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (60, 300)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.5, 0.9)])
def test_boxes_follow_the_law_of_torchvisions_random_resized_crop(
    height: int, width: int, area: tuple[float, float]
) -> None:
    recipe = ViewRecipe(crop_area=area)
    ours = draw_crops(recipe, torch.arange(NUMBER), torch.tensor([height, width]), seed=0, epoch=0)[0].double()
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
        ViewRecipe(crop=0.3, crop_area=(0.1, 0.5)), torch.arange(NUMBER), torch.tensor([48, 48]), seed=0, epoch=0
    )
    cropped = (boxes[..., 2:] != 48).any(-1).double().mean().item()
    assert abs(cropped - 0.3) < 4 * math.sqrt(0.3 * 0.7 / (2 * NUMBER))


def test_crops_use_the_first_numbers_of_their_view_only() -> None:
    indices, size = torch.arange(10), torch.tensor([50, 60])
    numbers = uniforms(3, 4, indices, CROP_STREAMS + 9)[..., :CROP_STREAMS]
    assert torch.equal(
        draw_crops(ViewRecipe(), indices, size, seed=3, epoch=4), crop_boxes(ViewRecipe(), numbers, size)
    )
