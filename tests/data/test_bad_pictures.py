from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from simclr_lightning.callbacks import UnreadablePictures
from simclr_lightning.data import BadPictureError, DatasetPictures, SimCLRDataModule, read_picture
from simclr_lightning.data.bad_pictures import Reading, mark_bad
from simclr_lightning.data.decode import opened
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewRecipe

WriteTree = Callable[..., Path]
SMALL = ViewRecipe("cifar10", size=12)


def module(root: Path, **options: Any) -> SimCLRDataModule:
    options = {"batch_size": 4, "views": SMALL, "num_workers": 0, "on_bad_picture": "skip", **options}
    return SimCLRDataModule("folder", root, **options)


def damaged(write_tree: WriteTree, number: int, of: int = 40) -> Path:
    root = write_tree("photos", [f"{place:02}.png" for place in range(of)])
    for path in root.iterdir():
        Image.new("RGB", (14, 13), "teal").save(path)  # of equal size, for a cache
    for place in range(number):
        (root / f"{place * 2:02}.png").write_bytes(b"")
    return root


def epoch(data: SimCLRDataModule) -> int:
    data.setup("fit")
    return sum(len(batch.targets) for batch in data.train_dataloader())


@pytest.mark.filterwarnings("ignore:Cannot read the picture", "ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_share_of_the_pictures_may_be_left_out_and_no_more(write_tree: WriteTree, num_workers: int) -> None:
    root = damaged(write_tree, 6)
    with pytest.raises(BadPictureError, match=r"\d of the \d+ pictures seen .*max_bad_share 0\.1.*--data\.max_bad"):
        epoch(module(root, num_workers=num_workers))
    data = module(root, num_workers=num_workers, max_bad_share=0.15)
    assert epoch(data) == 40
    assert int(data.splits.train.pictures.bad.sum()) == 6


def test_a_missing_folder_is_no_training_on_nothing(write_tree: WriteTree) -> None:
    root = damaged(write_tree, 0)
    data = module(root)
    data.setup("fit")
    root.rename(root.with_name("gone"))
    with (
        pytest.warns(UserWarning, match="Cannot read"),
        pytest.raises(BadPictureError, match="whether the folder is still there"),
    ):
        list(data.train_dataloader())


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
@pytest.mark.parametrize("number", [1, 4])
def test_a_cache_counts_too(write_tree: WriteTree, number: int) -> None:
    assert epoch(module(damaged(write_tree, number), cache=True)) == 36  # whole batches of those that are left
    with pytest.raises(BadPictureError, match="max_bad_share 0 "):
        epoch(module(damaged(write_tree, 3), cache=True, max_bad_share=0.0))


@pytest.mark.filterwarnings(
    "ignore:Cannot read the picture",
    "ignore:num_workers is",
    "ignore:The .* does not have many workers",
    "ignore:Total length of `list` across ranks is zero",
)
@pytest.mark.parametrize("options", [{"num_workers": 0}, {"num_workers": 2}, {"cache": True}])
def test_a_run_lists_them(write_tree: WriteTree, tmp_path: Path, options: dict[str, Any], caplog: Any) -> None:
    data = module(damaged(write_tree, 3), **options)
    model = SimCLR(encoder="resnet8", width=0.125, image_size=12)
    run: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(default_root_dir=tmp_path / "run", callbacks=[UnreadablePictures()], **run, **quiet)
    with caplog.at_level("INFO"):
        trainer.fit(model, data)
    lines = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert sorted({line.split(": ")[0].rsplit("/", 1)[1] for line in lines}) == ["00.png", "02.png", "04.png"]
    assert "3 pictures could not be read" in caplog.text


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
def test_one_picture_may_always_be_bad_and_few_are_named(write_tree: WriteTree) -> None:
    pictures = DatasetPictures([Image.new("RGB", (2, 2))] * 300)
    pictures.reading = Reading(max_bad_share=0.0)
    mark_bad(pictures, 0)
    with pytest.raises(BadPictureError, match="2 of the 2"):
        mark_bad(pictures, 1)
    with pytest.warns(UserWarning, match="Cannot read") as caught:
        assert epoch(module(damaged(write_tree, 15), max_bad_share=1.0)) == 40
    assert sum("Cannot read" in str(warning.message) for warning in caught) == 10


@pytest.mark.parametrize(
    ("options", "said"), [({"max_bad_share": 1.5}, "and at most 1"), ({"max_megapixels": 0}, "above 0")]
)
def test_numbers_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SimCLRDataModule("digits", **options)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_a_limit_of_pixels_can_be_lowered_and_raised(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (1200, 1000)).save(path)
    assert read_picture(path, max_megapixels=1.2).shape == (3, 1000, 1200)
    with pytest.raises(BadPictureError, match=r"1\.2 megapixels, and the limit is 1\..*--data\.max_megapixels 2\)"):
        read_picture(path, max_megapixels=1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(BadPictureError, match=r"1\.2 megapixels, and the limit is 0\.2"):
        read_picture(path)
    assert read_picture(path, max_megapixels=2).shape == (3, 1000, 1200)


def test_the_limit_holds_for_every_way_to_read(write_tree: WriteTree, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for place in range(4):
        Image.new("RGB", (1200, 1000)).save(root / f"{place}.jpg")
    for options in ({}, {"scaled_decoding": True}, {"cache": True}):
        with pytest.raises(BadPictureError, match=r"limit is 1.*--data\.max_megapixels 2 or --data\.on_bad_picture"):
            epoch(module(root, on_bad_picture="raise", max_megapixels=1, **options))
    pictures = DatasetPictures([Image.new("RGB", (1200, 1000))])
    pictures.reading = Reading(max_megapixels=1)
    with pytest.raises(BadPictureError, match=r"Picture 0 of list.*megapixels"):
        pictures.read(0)


def stack(root: Path, number: int, kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(root / f"{number}.{kind}", save_all=True, append_images=frames[1:])


@pytest.mark.filterwarnings("ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["tif", "gif", "webp", "png", "mpo.jpg"])
def test_pages_that_are_left_out_are_told_once(tmp_path: Path, kind: str, num_workers: int) -> None:
    for number in range(8):
        if kind == "mpo.jpg":
            frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime")]
            frames[0].save(tmp_path / f"{number}.jpg", "MPO", save_all=True, append_images=frames[1:])
        else:
            stack(tmp_path, number, kind)
    data = module(tmp_path, num_workers=num_workers)
    with pytest.warns(UserWarning, match="several pages") as caught:
        assert epoch(data) == epoch(data) == 8
    assert sum("read in part" in str(warning.message) for warning in caught) == 1
    assert int(data.splits.train.pictures.partly.sum()) == 8


@pytest.mark.filterwarnings("ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_kind_of_what_is_left_out_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_workers: int
) -> None:
    monkeypatch.setattr("simclr_lightning.data.readers.registry._installed", lambda packages: False)
    for number in range(4):
        stack(tmp_path, number, "gif")
        bands(200, 100, 50, 10).save(tmp_path / f"{number}.tif")
        bands(200, 100, 50).save(tmp_path / f"{number}.png")
    data = module(tmp_path, num_workers=num_workers)
    with pytest.warns(UserWarning, match="read in part") as caught:
        assert epoch(data) == epoch(data) == 12
    told = sorted(str(warning.message).split("read in part: ")[1][:10] for warning in caught)
    assert told == ["it has 4 b", "it has sev"]
    assert int(data.splits.train.pictures.partly.sum()) == 8


def bands(*levels: int) -> Image.Image:
    return Image.fromarray(np.stack([np.full((32, 32), level, np.uint8) for level in levels], 2))


@pytest.mark.parametrize("near_infrared", [0, 128, 255])
def test_a_fourth_band_of_a_tiff_is_no_transparency(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, near_infrared: int
) -> None:
    monkeypatch.setattr("simclr_lightning.data.readers.registry._installed", lambda packages: False)
    bands(200, 100, 50, near_infrared).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif").amax((1, 2)).tolist() == [200, 100, 50]
    assert read_picture(tmp_path / "a.tif").amin((1, 2)).tolist() == [200, 100, 50]
    with opened(tmp_path / "a.tif") as picture:
        assert "4 bands, and the first 3 are read" in picture.left_out
    with Image.open(tmp_path / "a.tif") as picture:
        pictures = DatasetPictures([picture])
        assert pictures.read(0)[:, 0, 0].tolist() == [200, 100, 50]
        assert pictures.partly.tolist() == [True]
    bands(200, 100, 50, near_infrared).save(tmp_path / "a.png")
    laid_on_white = round(200 * near_infrared / 255 + 255 - near_infrared)
    assert abs(int(read_picture(tmp_path / "a.png")[0, 0, 0]) - laid_on_white) <= 1


def test_a_second_band_of_a_grey_tiff(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("simclr_lightning.data.readers.registry._installed", lambda packages: False)
    Image.merge("LA", [Image.new("L", (8, 8), 70), Image.new("L", (8, 8), 0)]).save(tmp_path / "a.tif")
    assert torch.equal(read_picture(tmp_path / "a.tif"), torch.full((3, 8, 8), 70, dtype=torch.uint8))


def test_whole_pictures_are_not_told_of(write_tree: WriteTree) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert epoch(module(damaged(write_tree, 0))) == 40
