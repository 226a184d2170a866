"""Whole folders that were read wrongly, in silence, each with others of its kind: by ``describe`` and in a batch."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from simclr_lightning import SimCLRDataModule
from simclr_lightning.data.readers import registry
from simclr_lightning.describe import describe
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe

Array = np.ndarray[Any, Any]
PLAIN = ViewRecipe(size=32, crop=0.0, flip=0.0, jitter=0.0, grey=0.0, blur=0.0, eval_crop=1.0)
SHOWN = ViewRecipe(size=16)
CLASSES = ("glioma", "healthy", "pituitary")


def smooth(seed: int = 0, side: tuple[int, int] = (32, 32)) -> Image.Image:
    low = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(low).resize(side, Image.Resampling.BICUBIC)


def write(path: Path, seed: int = 0, side: tuple[int, int] = (32, 32), kind: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth(seed, side).save(path, kind, **options)


def views_of(root: Path, recipe: ViewRecipe = SHOWN, batch_size: int = 8, **options: Any) -> Tensor:
    """The first batch of a training on a folder, (V, N, C, S, S)."""
    data = SimCLRDataModule("folder", root, views=recipe, batch_size=batch_size, num_workers=0, **options)
    data.setup("fit")
    views: Tensor = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0).views[0]
    return views


@pytest.mark.parametrize(
    ("train", "other"),
    [
        ("Training", "Testing"),
        ("Train", "Valid"),
        ("TRAIN", "TEST"),
        ("seg_train", "seg_test"),
        ("train", "dev"),
        ("Training Set", "Validation Set"),
        ("archive/scans_TRAIN", "archive/scans_Eval"),
    ],
)
def test_split_names(tmp_path: Path, train: str, other: str) -> None:
    for split, count in ((train, 4), (other, 2)):
        for kind in CLASSES:
            for number in range(count):
                write(tmp_path / split / kind / f"{number}.png", number)
    found = describe(tmp_path, json=True)
    splits = found["splits"]
    assert splits.pop("train") == {"pictures": 12, "labelled": 12, "classes": dict.fromkeys(CLASSES, 4)}
    assert list(splits.values()) == [{"pictures": 6, "labelled": 6, "classes": dict.fromkeys(CLASSES, 2)}]
    assert found["left_out"] == []


@pytest.mark.parametrize(
    ("name", "top", "dtype"),
    [
        ("xray.png", 4095, np.uint16),
        ("reflectance.png", 3000, np.uint16),
        ("full.png", 65535, np.uint16),
        ("tissue.npy", 1000, np.int16),
        ("counts.npy", 250_000, np.float32),
    ],
)
def test_twelve_bit(tmp_path: Path, name: str, top: int, dtype: type) -> None:
    for number in range(8):
        low = np.random.default_rng(number).random((6, 6)).astype(np.float32)
        values = np.asarray(Image.fromarray(low).resize((64, 64), Image.Resampling.BICUBIC)).clip(0, 1) * top
        path = tmp_path / f"{number}_{name}"
        if path.suffix == ".png":
            Image.fromarray(values.astype(dtype)).save(path)
        else:
            np.save(path, values.astype(dtype))
    views = views_of(tmp_path, PLAIN)
    assert views.min() < 0.02
    assert views.max() > 0.98
    with pytest.warns(UserWarning, match="of which they use") if top < 30_000 else warnings.catch_warnings():
        views_of(tmp_path, PLAIN, scale="dtype" if top < 65_536 else None)


def block(*rows: bytes, more: bytes = b"") -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(rows)) + b"".join(rows) + struct.pack("<L", 0) + more


def tag(number: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHLL", number, kind, count, value)


TURNED = tag(0x0112, 3, 1, 6)
EXIF = {
    "make_as_rational": block(tag(0x010F, 5, 1, 38), TURNED, more=struct.pack("<LL", 7, 1)),
    "resolution_as_text": block(TURNED, tag(0x011A, 2, 6, 38), more=b"72 dpi"),
    "list_beyond_the_end": block(TURNED, tag(0x8769, 4, 1, 0xFFFFFF00)),
    "type_that_is_none": block(TURNED, tag(0x9286, 99, 7, 38), more=b"comment"),
}


@pytest.mark.parametrize("name", EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / "0.img.jpg", 5, (40, 20), kind, exif=EXIF[name])
    for number in range(1, 8):
        write(tmp_path / f"{number}.jpg", number)
    found = describe(tmp_path, json=True)
    assert found["unreadable"] == {}
    assert found["sizes"]["smallest"] == [40, 20]  # upright
    assert views_of(tmp_path).shape == (2, 8, 3, 16, 16)


@pytest.mark.parametrize(
    ("names", "kind"),
    [((".jpe", ".jfif"), "JPEG"), (("", ".JPG"), "JPEG"), ((".jp2", ".J2K"), "JPEG2000"), ((".webp", ""), "WEBP")],
)
def test_endings(tmp_path: Path, names: tuple[str, str], kind: str) -> None:
    for number in range(6):
        write(tmp_path / "cat" / f"{number}.jpg", number)
        write(tmp_path / "dog" / f"{number}{names[number % 2]}", number, kind=kind)
    (tmp_path / "dog" / "phone.MOV").write_bytes(b"\0\0\0\x18ftypqt  ")
    (tmp_path / "dog" / "notes").write_bytes(b"no picture")
    found = describe(tmp_path, json=True)
    assert found["splits"]["train"] == {"pictures": 12, "labelled": 12, "classes": {"cat": 6, "dog": 6}}
    assert found["unreadable"] == {}
    assert {left["reason"]: left["files"] for left in found["left_out"]} == {
        ".mov: no picture": 1,
        "without an ending: no picture": 1,
    }
    assert views_of(tmp_path).shape == (2, 8, 3, 16, 16)


def bands(*levels: int) -> Array:
    return np.stack([np.full((32, 32), level, np.uint8) for level in levels], 2)


def pages(path: Path, *levels: int, **options: Any) -> None:
    first, *more = (Image.fromarray(np.full((32, 32), level, np.uint8)) for level in levels)
    first.save(path, save_all=True, append_images=more, **options)


INFRARED = bands(200, 100, 50, 0)
INFRARED[:, 16:, 3] = 255


@pytest.mark.parametrize("tifffile", [False, True])
def test_bands(tmp_path: Path, tifffile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tifffile:
        pytest.importorskip("tifffile")
    else:
        monkeypatch.setattr(registry, "_installed", lambda packages: False)
    for number in range(8):
        Image.fromarray(INFRARED).save(tmp_path / f"{number}.tif")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        views = views_of(tmp_path, PLAIN)
    assert views.shape[2] == (4 if tifffile else 3)
    expected = (torch.tensor([200, 100, 50]) / 255).reshape(3, 1, 1).expand(3, 32, 32)
    for view in views.flatten(0, 1):  # as they are, whatever the fourth band is
        torch.testing.assert_close(view[:3], expected, atol=1e-5, rtol=0)
    assert sum("4 bands" in str(warning.message) for warning in told) == (0 if tifffile else 1)


@pytest.mark.parametrize("tifffile", [False, True])
def test_bands_beside_pages(tmp_path: Path, tifffile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(INFRARED).save(tmp_path / "rgb_nir.tif")
    pages(tmp_path / "stack.tif", 10, 120, 240)
    if tifffile:
        pytest.importorskip("tifffile")
        with pytest.raises(InputError, match=r"stack\.tif has .* and the first picture of its set 4: sort them into"):
            views_of(tmp_path, PLAIN, batch_size=2)
        return
    monkeypatch.setattr(registry, "_installed", lambda packages: False)
    with pytest.warns(UserWarning, match="is read in part"):
        views = views_of(tmp_path, PLAIN, batch_size=2)
    assert sorted(view.mean((1, 2)).mul(255).round().int().tolist() for view in views[0]) == [[10] * 3, [200, 100, 50]]


@pytest.mark.parametrize("name", ["stack.tif", "stack.gif", "stack.webp"])
def test_pages(tmp_path: Path, name: str) -> None:
    for number in range(8):
        pages(tmp_path / f"{number}_{name}", 10, 120, 240, **({"lossless": True} if name.endswith("webp") else {}))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        views = views_of(tmp_path, PLAIN)
    torch.testing.assert_close(views, torch.full_like(views, 10 / 255), atol=1.1 / 255, rtol=0)
    assert sum("pages" in str(warning.message) for warning in told) == 1


class Base:
    """Pictures in Python, with three classes."""

    def __init__(self, train: bool = True) -> None:
        self.number = 64 if train else 16

    def __len__(self) -> int:
        return self.number

    def label(self, number: int) -> Any:
        return number

    def __getitem__(self, number: int) -> Any:
        return smooth(number), self.label(number % 3)


class Column(Base):
    def label(self, number: int) -> Any:
        return np.array([number])


class OneHot(Base):
    def label(self, number: int) -> Any:
        return np.eye(3)[number]


class Words(Base):
    def label(self, number: int) -> Any:
        return ("cat", "dog", "owl")[number]


class Tensors(Base):
    def label(self, number: int) -> Any:
        return torch.eye(3, dtype=torch.bool)[number]


class Bytes(Base):
    def label(self, number: int) -> Any:
        return (b"cat", b"dog", b"owl")[number]


class Several(Base):
    def label(self, number: int) -> Any:
        return np.array([1, 1, 0])


@pytest.mark.parametrize("dataset", [Column, OneHot, Words, Tensors, Bytes])
def test_labels(dataset: Callable[..., Any]) -> None:
    data = SimCLRDataModule(f"{__name__}.{dataset.__name__}", views=SHOWN, batch_size=16, num_workers=0)
    data.setup()
    test = data.splits.test
    assert test is not None
    for pictures, number in ((data.splits.train.pictures, 64), (test.pictures, 16)):
        assert pictures.targets.tolist() == [k % 3 for k in range(number)]
    batch = data.on_after_batch_transfer(next(iter(data.clean_dataloader("train"))), 0)
    assert torch.equal(batch.targets, batch.indices % 3)


def test_labels_that_are_none() -> None:
    data = SimCLRDataModule(Several, views=SHOWN, batch_size=16, num_workers=0)
    with pytest.raises(InputError, match=r"Several have the shape \(64, 3\), and row 0 is not one-hot: \[1, 1, 0\]"):
        data.setup()
