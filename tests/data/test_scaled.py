from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from simclr_lightning.data import BadPictureError, FilePictures, Key, SimCLRDataModule, read_picture
from simclr_lightning.data.decode import opened
from simclr_lightning.data.folder import scan
from simclr_lightning.data.scaled import read_scaled
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe, draw_parameters
from simclr_lightning.views.draw import draw_for_each
from simclr_lightning.views.workers import ScaledPicture, largest_scales

RECIPE = ViewRecipe("imagenet", size=32)
TWO = [RECIPE, ViewRecipe("imagenet", size=16, count=3)]


def upright_size(path: Path) -> tuple[int, int]:
    with opened(path) as picture:
        return picture.size()


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Structures of some pixels, as photos have them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


@pytest.fixture
def photos(tmp_path: Path) -> FilePictures:
    for number, (height, width) in enumerate([(300, 400), (401, 299), (150, 210), (90, 70), (640, 480)]):
        photo(height, width, number).save(tmp_path / f"{number}.jpg", quality=90)
    photo(300, 300, 9).save(tmp_path / "9.png")
    return scan(tmp_path)


def served(pictures: FilePictures, *, scaled: bool, **options: Any) -> BatchDataset:
    options = {"random": True, "training": True, **options}
    return BatchDataset(pictures, torch.arange(len(pictures)), TWO, seed=5, scaled=scaled, **options)


def batch(data: BatchDataset, places: list[int], epoch: int = 3) -> Any:
    return data.__getitems__([Key(place, epoch) for place in places])


def test_no_crop_is_decoded_below_the_size_of_its_view() -> None:
    sizes = torch.tensor([[300, 400], [64, 64], [1000, 700], [3000, 4000]])
    drawn = [draw_parameters(recipe, torch.arange(4), sizes, seed=0, epoch=0) for recipe in TWO]
    views = sum(recipe.count for recipe in TWO)
    scales, *others = largest_scales(TWO, drawn, torch.arange(4).expand(views, -1))
    assert others == [scales] * (views - 1)
    assert scales[-1] == 8
    for place, scale in enumerate(scales):
        least = min(float(own.boxes[:, place, 2:].min()) / recipe.size for own, recipe in zip(drawn, TWO, strict=True))
        assert scale == 1 or least >= scale
        assert scale == 8 or least < 2 * scale


def test_of_pictures_of_their_own_every_view_decides_for_itself() -> None:
    sizes = torch.tensor([[[3000, 4000]], [[100, 100]], [[3000, 4000]]])
    recipes = [ViewRecipe(size=32, count=3)]
    drawn = draw_for_each(recipes, torch.arange(1), sizes, seed=0, epoch=0)
    together = largest_scales(recipes, drawn, torch.tensor([[5], [5], [5]]))
    apart = largest_scales(recipes, drawn, torch.tensor([[5], [7], [5]]))
    assert together == [together[0]] * 3
    assert apart[0] == apart[2] == [8]
    assert apart[1] == together[0] < [8]


def test_views_are_those_of_the_whole_pictures_to_a_few_levels(photos: FilePictures) -> None:
    whole, scaled = (batch(served(photos, scaled=scaled), list(range(6))) for scaled in (False, True))
    assert torch.equal(whole.indices, scaled.indices)
    for first, second in zip(whole.crops, scaled.crops, strict=True):
        assert first.pixels.shape == second.pixels.shape
        assert first.pixels.stride() == second.pixels.stride()
        for name, values in first.parameters._asdict().items():
            assert torch.equal(values, getattr(second.parameters, name))
        difference = (first.pixels.float() - second.pixels.float()).abs().mean((0, 2, 3, 4))
        assert difference.max() < 2.5
        assert (difference[:3] > 0).any()
        assert difference[3] == 0  # too small
        assert difference[5] == 0  # no JPEG


def test_crops_are_not_shifted(photos: FilePictures) -> None:
    """Rounded to whole pixels of the scaled picture they would be, by up to half a pixel of the view."""
    box, path = (21, 43, 133, 171), photos.path(0)
    scaled: Any = read_scaled(path, 4)
    got = scaled.resized(box, 32, "bicubic").float()
    with Image.open(path) as picture:
        errors = {}
        for shift in (-2, -1, 0, 1, 2):
            edges = box[1] + shift, box[0] + shift, box[1] + box[3] + shift, box[0] + box[2] + shift
            expected = np.array(picture.resize((32, 32), Image.Resampling.BICUBIC, box=edges), np.float32)
            errors[shift] = float((got - torch.from_numpy(expected).permute(2, 0, 1)).abs().mean())
    assert min(errors, key=lambda shift: errors[shift]) == 0
    assert errors[0] < 2


def test_a_view_depends_on_seed_epoch_and_picture_alone(photos: FilePictures) -> None:
    together = batch(served(photos, scaled=True), [0, 1, 2, 3, 4, 5])
    backwards = batch(served(photos, scaled=True), [4, 0])
    for place, other in ((0, 4), (1, 0)):
        for all_crops, own in zip(together.crops, backwards.crops, strict=True):
            assert torch.equal(own.pixels[:, place], all_crops.pixels[:, other])
    assert not torch.equal(batch(served(photos, scaled=True), [0], 4).crops[0].pixels, together.crops[0].pixels[:, [0]])


@pytest.mark.parametrize("wanted", [{"training": False}, {"random": False}])
def test_what_is_judged_is_decoded_whole(photos: FilePictures, wanted: dict[str, bool]) -> None:
    whole, scaled = (batch(served(photos, scaled=scaled, **wanted), list(range(6))) for scaled in (False, True))
    assert torch.equal(whole.images, scaled.images)
    if whole.crops is not None:
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(whole.crops, scaled.crops, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("side", [160, 161])
def test_upright_and_in_rgb(tmp_path: Path, side: int, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    photo(160, 240).crop((0, 0, 240, side)).convert(mode).save(path, exif=exif, quality=95)
    scaled = read_scaled(path, 2)
    if side % 2 and orientation > 1:
        assert torch.equal(scaled, read_picture(path))  # type: ignore[arg-type]
        return
    assert isinstance(scaled, ScaledPicture)
    with Image.open(path) as picture:
        expected = ImageOps.exif_transpose(picture).convert("RGB")
    assert upright_size(path) == (expected.height, expected.width)
    assert scaled.image.size == (-(-expected.width // 2), -(-expected.height // 2))
    box = (0, 0, expected.height // 8 * 8, expected.width // 8 * 8)
    edges = (0, 0, box[3], box[2])
    whole = np.array(expected.resize((40, 40), Image.Resampling.BICUBIC, box=edges), np.float32)
    assert np.abs(scaled.resized(box, 40, "bicubic").permute(1, 2, 0).numpy() - whole).mean() < 4


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("side", [(8, 8), (17, 9), (1, 30), (63, 65)])
def test_any_size_can_be_scaled(tmp_path: Path, scale: int, side: tuple[int, int]) -> None:
    height, width = (max(scale, length) for length in side)
    Image.new("RGB", (width, height), "red").save(tmp_path / "a.jpg", quality=95)
    scaled: Any = read_scaled(tmp_path / "a.jpg", scale)
    assert scaled.image.size == (-(-width // scale), -(-height // scale))
    view: Tensor = scaled.resized((height // 2, width // 2, height - height // 2, width - width // 2), 4, "bilinear")
    assert (view.float() - torch.tensor([254.0, 0, 0])[:, None, None]).abs().max() < 3


def test_damaged_files_are_named(tmp_path: Path) -> None:
    photo(300, 400).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-500])
    assert upright_size(tmp_path / "a.jpg") == (300, 400)
    with pytest.raises(BadPictureError, match=r"Cannot read the picture .*a\.jpg.*truncated"):
        read_scaled(tmp_path / "a.jpg", 2)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(BadPictureError, match=r"Cannot read the picture .*a\.jpg"):
        upright_size(tmp_path / "a.jpg")


def test_bad_pictures_are_replaced_and_warned_about_once(photos: FilePictures) -> None:
    for number, left in ((1, 500), (2, 0)):  # the one fails when it is decoded, the other when it is opened
        path = photos.path(number)
        path.write_bytes(path.read_bytes()[: -500 if left else 0])
    data = served(photos, scaled=True, on_bad_picture="skip")
    with pytest.warns(UserWarning, match="next picture takes its place") as caught:
        got = batch(data, [0, 1, 2])
    assert sorted(str(warning.message).split(":")[0].rsplit("/", 1)[1] for warning in caught) == ["1.jpg", "2.jpg"]
    assert got.indices.tolist() == [0, 3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = batch(data, [3])
    assert torch.equal(got.crops[0].pixels[:, [1]], again.crops[0].pixels)
    photos.bad[:] = False
    with pytest.raises(BadPictureError, match=r"1\.jpg.*--data\.on_bad_picture skip"):
        batch(served(photos, scaled=True), [1])


@pytest.mark.filterwarnings("ignore:num_workers is")
def test_workers_and_the_option(photos: FilePictures) -> None:
    def epoch(**options: Any) -> list[Any]:
        data = SimCLRDataModule("folder", root=photos.root, batch_size=3, views=TWO, **options)
        data.setup("fit")
        return list(data.train_dataloader())

    alone, helped = (epoch(scaled_decoding=True, num_workers=number) for number in (0, 2))
    whole = epoch(num_workers=0)
    for first, second in zip(alone, helped, strict=True):
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first.crops, second.crops, strict=True))
    assert not all(torch.equal(a.crops[0].pixels, b.crops[0].pixels) for a, b in zip(alone, whole, strict=True))


def test_the_official_forms_are_not_scaled(tmp_path: Path) -> None:
    for views in (ViewRecipe("official"), ViewRecipe("cifar10", forms="official")):
        with pytest.raises(InputError, match=r"scaled_decoding makes pictures smaller .*data.scaled_decoding false"):
            SimCLRDataModule(root=tmp_path, dataset="folder", views=views, scaled_decoding=True)
