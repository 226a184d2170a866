"""Views in the forms of Google's code: each against float64 formulas written from TensorFlow's definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.views.official import official_resize, official_views

from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewEngine, centre_view, clean, crop_views, draw_parameters
from simclr_lightning.views import engine as engine_module
from simclr_lightning.views.draw import ViewParameters, view_keys
from simclr_lightning.views.engine import make_views
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.workers import largest_scales

PLAIN = ViewRecipe("official", size=24, crop=0.0, flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
NUMBER = 10
OPERATIONS = {
    "crop": dataclasses.replace(PLAIN, crop=1.0, flip=0.5),
    "crop, bilinear": dataclasses.replace(PLAIN, crop=1.0, interpolation="bilinear"),
    "shrinking crop": dataclasses.replace(PLAIN, size=8, crop=1.0),
    "enlarging crop": dataclasses.replace(PLAIN, size=60, crop=1.0),
    "contrast": dataclasses.replace(PLAIN, jitter=1.0, brightness=0.0, saturation=0.0, hue=0.0),
    "saturation": dataclasses.replace(PLAIN, jitter=1.0, brightness=0.0, contrast=0.0, hue=0.0, jitter_strength=1.2),
    "blur": dataclasses.replace(PLAIN, size=40, blur=1.0),
    "official": ViewRecipe("official", size=40),
    "official, as in the paper's first version": ViewRecipe("official", size=40, additive_brightness=True),
    "cifar10": ViewRecipe("cifar10", forms="official"),
}


@pytest.fixture(params=["compiled", "whole batch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways on a CPU; the kernels for GPUs are in fused_cases.py."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(engine_module, "find_spec", lambda name: None)


def drawn(recipe: ViewRecipe, height: int, width: int, number: int = NUMBER) -> ViewParameters:
    return draw_parameters(recipe, torch.arange(number), torch.tensor([height, width]), seed=3, epoch=1)


def pictures(height: int = 36, width: int = 44) -> torch.Tensor:
    images = torch.randint(0, 256, (NUMBER, 3, height, width), dtype=torch.uint8)
    images[::3] = images[::3] // 128 * 255  # saturated colours, and ties between the channels
    return images


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", OPERATIONS)
def test_views_equal_the_formulas(name: str) -> None:
    recipe, images = OPERATIONS[name], pictures()
    parameters = drawn(recipe, 36, 44)
    views = make_views(recipe, parameters, images)
    torch.testing.assert_close(views.double(), official_views(images, recipe, parameters), atol=3e-5, rtol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_form_differs_from_torchvisions(name: str) -> None:
    recipe, images = OPERATIONS[name], pictures()
    parameters = drawn(recipe, 36, 44)
    theirs = make_views(dataclasses.replace(recipe, forms="torchvision"), parameters, images)
    difference = (make_views(recipe, parameters, images) - theirs).abs().max()
    assert difference > (0.01 if "enlarging" not in name else -1.0)


@pytest.mark.usefixtures("engine")
def test_crops_of_a_worker_equal_the_formulas_up_to_bytes() -> None:
    recipe, images = ViewRecipe("official", size=40), pictures(60, 91)
    (crops,) = crop_views(list(images), [recipe], torch.arange(NUMBER), seed=3, epoch=1)
    parameters = drawn(recipe, 60, 91)
    assert all(torch.equal(one, other) for one, other in zip(crops.parameters, parameters, strict=True))
    geometry = dataclasses.replace(recipe, jitter=0.0, grey=0.0, blur=0.0)
    plain = parameters._replace(**{name: torch.zeros_like(parameters.jitter) for name in ("jitter", "grey", "blur")})
    expected = official_views(images, geometry, plain)
    torch.testing.assert_close(crops.pixels.double() / 255, expected, atol=0.501 / 255, rtol=0)
    views = make_views(recipe, parameters, crops.pixels)
    expected = official_views(crops.pixels, recipe, parameters, cropped=True)
    torch.testing.assert_close(views.double(), expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize(("height", "width", "eval_size"), [(61, 83, 40), (90, 40, 33), (50, 50, 48)])
def test_clean_pictures_are_not_antialiased_either(height: int, width: int, eval_size: int) -> None:
    recipe = ViewRecipe("official", eval_size=eval_size)
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    side = round(0.875 * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2  # the official code rounds up
    part = picture[:, top : top + side, left : left + side].double().numpy() / 255
    expected = torch.from_numpy(official_resize(part, eval_size, "bicubic").clip(0, 1))
    torch.testing.assert_close(centre_view(picture, recipe).double() / 255, expected, atol=0.501 / 255, rtol=0)
    cut = clean(picture[None], dataclasses.replace(recipe, eval_crop=0.875))[0]
    torch.testing.assert_close(cut.double(), expected, atol=1e-5, rtol=0)


def loop_over_attempts(recipe: ViewRecipe, height: int, width: int, number: int) -> np.ndarray:
    """TensorFlow's sample_distorted_bounding_box as its documentation and source tell it, by a generator of its own."""
    generator, boxes = np.random.default_rng(0), []
    (low, high), (small, large) = recipe.crop_ratio, recipe.crop_area
    for _ in range(number):
        box = (0, 0, height, width)
        for _ in range(100):
            ratio = generator.uniform(low, high)
            least, most = small * height * width, large * height * width
            shortest, tallest = round((least / ratio) ** 0.5), round((most / ratio) ** 0.5)
            while round(tallest * ratio) > width:
                tallest -= 1
            tallest = min(tallest, height)
            tall = generator.integers(min(shortest, tallest), tallest + 1)
            tall += tall * round(tall * ratio) < least
            tall -= tall * round(tall * ratio) > most
            wide = round(tall * ratio)
            area = tall * wide
            if least <= area <= most and tall <= height and 0 < wide <= width and area >= 0.1 * height * width:
                top = generator.integers(0, height - tall) if tall < height else 0
                left = generator.integers(0, width - wide) if wide < width else 0
                box = (top, left, tall, wide)
                break
        boxes.append(box)
    return np.array(boxes)


@pytest.mark.parametrize(
    ("height", "width", "area"), [(375, 500, (0.08, 1.0)), (32, 32, (0.08, 1.0)), (200, 120, (0.02, 0.12))]
)
def test_crops_have_the_law_of_googles_code(height: int, width: int, area: tuple[float, float]) -> None:
    from scipy import stats  # type: ignore[import-untyped]

    recipe = ViewRecipe("official", crop_area=area)
    ours = drawn(recipe, height, width, 4000).boxes.flatten(0, 1).double().numpy()
    theirs = loop_over_attempts(recipe, height, width, 8000)
    assert (ours[:, 2] * ours[:, 3] >= 0.1 * height * width).all()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    for area_and_ratio in zip(*((box[:, 2] * box[:, 3], box[:, 3] / box[:, 2]) for box in (ours, theirs)), strict=True):
        assert stats.ks_2samp(*area_and_ratio).pvalue > 1e-3
    assert (ours[:, 0] + ours[:, 2])[ours[:, 2] < height].max() < height  # never at the lower edge, as theirs


def test_the_median_area_at_375_x_500_is_what_the_guide_says() -> None:
    for forms, expected in (("official", 0.355), ("torchvision", 0.419)):
        boxes = drawn(ViewRecipe(forms=forms), 375, 500, 40_000).boxes.double()  # type: ignore[arg-type]
        median = (boxes[..., 2] * boxes[..., 3]).median().item() / (375 * 500)
        assert abs(median - expected) < 0.004, forms


def test_where_nothing_fits_the_crop_is_the_whole_picture() -> None:
    recipe = ViewRecipe("official")
    assert torch.unique(drawn(recipe, 10, 300).boxes, dim=1).tolist() == [[[0, 0, 10, 300]]] * 2
    assert drawn(dataclasses.replace(recipe, crop=0.0), 10, 300).boxes[0, 0].tolist() == [0, 143, 10, 13]


def test_everything_but_the_crop_is_drawn_as_before() -> None:
    ours, theirs = drawn(ViewRecipe("official"), 40, 50), drawn(ViewRecipe(), 40, 50)
    for name, values in ours._asdict().items():
        assert torch.equal(values, getattr(theirs, name)) == (name != "boxes"), name
    assert view_keys(3, 1, torch.arange(NUMBER)).shape == (2, NUMBER)


def test_a_view_depends_on_neither_batch_nor_view_before() -> None:
    recipe = ViewRecipe("official", size=24, count=3)
    images = pictures()
    batch = ImageBatch(images, None, torch.full((NUMBER,), -1), torch.arange(NUMBER), epoch=2)
    (whole,) = ViewEngine(recipe, seed=4)(batch)
    (part,) = ViewEngine(recipe, seed=4)(batch._replace(images=images[6:8], indices=torch.arange(6, 8)))
    torch.testing.assert_close(part, whole[:, 6:8], atol=1e-6, rtol=0)


def test_files_are_not_decoded_at_a_fraction_of_their_size() -> None:
    recipe = ViewRecipe("official", size=16)
    of_views = torch.arange(NUMBER).expand(recipe.count, -1)
    assert largest_scales([recipe], [drawn(recipe, 800, 800)], of_views) == [[1] * NUMBER] * recipe.count


def test_an_area_that_is_always_rejected_is_an_error() -> None:
    with pytest.raises(InputError, match=r"crop_area is \(0.05, 0.09\), but .* no crop is below 0.1"):
        ViewRecipe("official", crop_area=(0.05, 0.09))
    with pytest.raises(InputError, match="forms is 'google': choose torchvision or official"):
        ViewRecipe(forms="google")  # type: ignore[arg-type]
