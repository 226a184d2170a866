"""Pictures are read once, and no larger than the views need them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from simclr_lightning.ablation import pictures as module
from simclr_lightning.ablation.pictures import ReducedPictures, in_memory, shorter_side
from simclr_lightning.data import BadPictureError, InMemoryPictures
from simclr_lightning.data.folder import scan
from simclr_lightning.views import ViewRecipe, draw_parameters

WriteTree = Callable[..., Path]


def test_large_pictures_are_reduced_and_small_ones_kept(write_tree: WriteTree) -> None:
    source = scan(write_tree("photos", ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]))
    assert len({source.read(position).shape for position in range(4)}) > 1
    kept = in_memory(source, 30)
    reduced = in_memory(source, 10)
    assert isinstance(kept, ReducedPictures)
    assert torch.equal(kept.targets, source.targets)
    assert (kept.class_names, kept.in_channels, kept.equal_size) == (["cat", "dog"], 3, False)
    for position in range(4):
        picture, small = source.read(position), reduced.read(position)
        assert torch.equal(kept.read(position), picture)
        assert min(small.shape[1:]) == 10
        size = [round(10 / min(picture.shape[1:]) * side) for side in picture.shape[1:]]
        expected = interpolate(picture[None].float(), size, mode="bicubic", antialias=True)[0].clamp(0, 255)
        assert (small - expected).abs().max() < 2


def test_pictures_of_equal_size_become_one_array(write_tree: WriteTree) -> None:
    source = scan(write_tree("photos", ["cat/1.png", "dog/2.png"], side=12))
    kept = in_memory(source, 30)
    assert isinstance(kept, InMemoryPictures)
    assert torch.equal(kept.images, torch.stack([source.read(0), source.read(1)]))
    assert in_memory(kept, 4) is kept


def test_no_crop_is_enlarged() -> None:
    recipe = ViewRecipe(size=32)
    side = shorter_side(recipe)
    assert side == math.ceil(32 / math.sqrt(0.08 * 0.75))
    size = torch.tensor([side, 2 * side])
    boxes = draw_parameters(recipe, torch.arange(2000), size, seed=0, epoch=0).boxes
    smallest = int(boxes[..., 2:].min())
    assert smallest >= 32 - 1  # sides are rounded


def test_a_bad_picture_stops_the_study_or_is_replaced(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["cat/1.png", "cat/2.png", "dog/3.png"])
    (root / "cat" / "2.png").write_bytes(b"no picture")
    with pytest.raises(BadPictureError, match=r"2\.png.*--on_bad_picture skip"):
        in_memory(scan(root), 30)
    with pytest.warns(UserWarning, match=r"2\.png.*takes its place"):
        kept = in_memory(scan(root), 30, "skip")
    assert kept.bad.tolist() == [False, True, False]
    with pytest.raises(BadPictureError, match=r"2\.png could not be read"):
        kept.read(1)
    for name in ("cat/1.png", "dog/3.png"):
        (root / name).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="takes its place"), pytest.raises(BadPictureError, match="None of the 3"):
        in_memory(scan(root), 30, "skip")


def test_too_many_pictures_for_the_memory_are_refused(write_tree: WriteTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(module, "available_memory", lambda: 1000)
    names = [f"{number}.png" for number in range(6)]
    with pytest.raises(MemoryError, match=r"6 pictures take .* GiB are free.*--views\.size"):
        in_memory(scan(write_tree("photos", names)), 30)
