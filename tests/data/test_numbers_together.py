"""Pictures of 16 bits and floats in pairs, in the official forms, in chunks, in shards, and described."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.test_pairs import LOCAL, SIX, groups_of, keys, served
from torch import Tensor

from simclr_lightning import SimCLRDataModule
from simclr_lightning.data import InMemoryPictures, read_picture
from simclr_lightning.data.folder import folder_sets, scan
from simclr_lightning.data.packed import packed_sets
from simclr_lightning.data.packed_sources import packed_sources
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.describe import describe
from simclr_lightning.views import Crops, ValueRange, ViewEngine, ViewRecipe, centre_view, clean, crop_views
from simclr_lightning.views.scale import in_unit_range

BYTES = torch.randint(256, (6, 3, 16, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
OFFICIAL = ViewRecipe("official", size=12, eval_size=12)
SCALE = ValueRange(0, 510)


def as_type(pixels: Tensor, dtype: torch.dtype) -> tuple[Tensor, ValueRange | None]:
    """The same pictures in numbers of another type."""
    if dtype == torch.uint16:
        return (pixels.int() * 2).to(dtype), SCALE
    return pixels.float() / 255, None


def crops(found: tuple[Crops, ...] | None) -> list[Tensor]:
    assert found is not None
    return [in_unit_range(own.pixels) for own in found]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_pairs_in_memory(dtype: torch.dtype) -> None:
    images, scale = as_type(BYTES, dtype)
    targets, groups = torch.arange(6), groups_of(SIX)
    numbers = served(InMemoryPictures(images, targets), groups, LOCAL, scale=scale).__getitems__(keys([0, 1, 4]))
    bytes_ = served(InMemoryPictures(BYTES, targets), groups, LOCAL).__getitems__(keys([0, 1, 4]))
    assert numbers.images is not None
    assert numbers.images.shape == (4, 3, 3, 16, 18)
    for own, expected in zip(ViewEngine(LOCAL, 5)(numbers), ViewEngine(LOCAL, 5)(bytes_), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_pairs_in_files(tmp_path: Path, dtype: torch.dtype) -> None:
    images, scale = as_type(BYTES, dtype)
    for name, values in (("numbers", images), ("bytes", BYTES)):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(values):
            np.save(tmp_path / name / f"{number}.npy", picture.numpy())
    groups = groups_of(SIX)
    batch = served(scan(tmp_path / "numbers"), groups, LOCAL, scale=scale).__getitems__(keys([0, 1, 4]))
    expected = served(scan(tmp_path / "bytes"), groups, LOCAL).__getitems__(keys([0, 1, 4]))
    for own, other in zip(crops(batch.crops), crops(expected.crops), strict=True):
        assert own.shape == other.shape
        assert (own - other).abs().mean() < 0.5 / 255  # between its two passes the filter of bytes rounds, and clips


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_official_forms(dtype: torch.dtype) -> None:
    images, scale = as_type(BYTES, dtype)
    (own,) = crops(crop_views(list(images), [OFFICIAL], torch.arange(6), seed=0, epoch=0, scale=scale))
    (expected,) = crops(crop_views(list(BYTES), [OFFICIAL], torch.arange(6), seed=0, epoch=0))
    torch.testing.assert_close(own, expected, atol=0.51 / 255, rtol=0)
    centre, of_bytes = centre_view(images[0], OFFICIAL, scale), centre_view(BYTES[0], OFFICIAL)
    torch.testing.assert_close(centre, of_bytes.float() / 255, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(clean(images, OFFICIAL, scale), clean(BYTES, OFFICIAL), atol=1e-5, rtol=0)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "tiles" / ("cat", "dog")[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.integers(0, 4096, (5, 20, 24), dtype=np.uint16))
    return tmp_path / "tiles"


def test_chunks_hold_them(tiles: Path, tmp_path: Path) -> None:
    pytest.importorskip("litdata")
    there, here = folder_sets(tiles).train, packed_sets(pack_pictures(tiles, tmp_path / "packed")).train
    assert here.in_channels == there.in_channels == 5
    for position in range(len(there)):
        assert torch.equal(here.read(position), there.read(position))
    modules = [
        SimCLRDataModule(dataset, root, batch_size=3, views="multispectral", num_workers=0)
        for dataset, root in (("folder", tiles), ("packed", tmp_path / "packed"))
    ]
    for module in modules:
        module.setup("fit")
    assert modules[0].scaling == modules[1].scaling
    assert modules[1].scaling.range is not None
    assert modules[1].in_channels == 5


def test_the_bytes_of_a_file_are_read_as_the_file(tiles: Path) -> None:
    path = tiles / "cat" / "0.npy"
    assert torch.equal(read_picture("cat/0.npy", content=path.read_bytes()), read_picture(path))


def test_a_photo_of_a_shard_comes_before_numbers_of_its_name(tmp_path: Path) -> None:
    photo, numbers = BytesIO(), BytesIO()
    Image.new("RGB", (24, 20)).save(photo, "JPEG")
    np.save(numbers, np.zeros((4, 4), np.float32))
    members = {"1.jpg": photo, "1.npy": numbers, "2.npy": numbers, "2.jpg": photo, "3.npy": numbers}
    with tarfile.open(tmp_path / "00.tar", "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.getvalue())
            tar.addfile(member, BytesIO(content.getvalue()))
    names = packed_sources(tmp_path)["train"].names.tolist()
    assert names == [b"00.tar/1.jpg", b"00.tar/2.jpg", b"00.tar/3.npy"]


def test_they_are_described(tiles: Path, tmp_path: Path) -> None:
    found = describe(tiles, json=True)
    assert (found["channels"], found["bits"], found["unreadable"]) == ({"5": 6}, {"16": 6}, {})
    low, high = found["values"]["16 bits"]
    assert low < 200
    assert 3900 < high < 4096
    np.savez(tmp_path / "cells.npz", train_images=np.ones((4, 8, 8), np.float32), test_images=np.ones((2, 8, 8)))
    found = describe(tmp_path / "cells.npz", json=True)
    assert {split: own["pictures"] for split, own in found["splits"].items()} == {"train": 4, "test": 2}
    assert found["bits"] == {"32": 6}


def test_values_without_a_number_do_not_hide_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[np.nan, 1.0], [-2.0, np.inf]], np.float32))
    assert describe(tmp_path, json=True)["values"] == {"32 bits": [-2.0, 1.0]}
