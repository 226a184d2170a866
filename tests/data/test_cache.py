from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from simclr_lightning.data import BadPictureError, DatasetPictures, InMemoryPictures, cache
from simclr_lightning.data.cache import RaggedPictures, available_memory, cached, reduced
from simclr_lightning.data.folder import scan
from simclr_lightning.errors import InputError

WriteTree = Callable[..., Path]


def test_cache_holds_the_decoded_pictures(write_tree: WriteTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_CHUNK", 3)
    pictures = scan(write_tree("photos", [f"{'cat' if i % 3 else 'dog'}/{i}.png" for i in range(8)], side=9))
    held = cached(pictures)
    assert isinstance(held, InMemoryPictures)
    assert held.images.shape == (8, 3, 9, 9)
    for position in range(8):
        with Image.open(pictures.path(position)) as picture:
            assert np.array_equal(held.images[position].permute(1, 2, 0).numpy(), np.asarray(picture))
    assert torch.equal(held.targets, pictures.targets)
    assert held.class_names == ["cat", "dog"]
    assert not held.bad.any()


def test_cache_of_a_data_set_of_tensors() -> None:
    images = torch.randint(256, (5, 2, 3, 3), dtype=torch.uint8)
    assert torch.equal(cached(DatasetPictures(list(images))).images, images)


def test_first_picture_of_another_size_is_named(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"{i}.png" for i in range(6)], side=9)
    for odd in ("4.png", "5.png"):
        Image.new("RGB", (9, 8)).save(root / odd)
    with pytest.raises(ValueError, match=r"4\.png has 8 x 9 pixels, .* 9 x 9: .*--data\.cache false"):
        cached(scan(root))


def test_cache_beyond_the_memory_is_refused_before_decoding(
    write_tree: WriteTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree("photos", ["0.png", "1.png"], side=64)
    (root / "1.png").write_bytes(b"")  # would be an error if it were read
    monkeypatch.setattr(cache, "available_memory", lambda: 2 * 3 * 64 * 64 - 1)
    with pytest.raises(InputError, match=r"2 pictures of 64 x 64 pixels .*--data\.cache false"):
        cached(scan(root))
    monkeypatch.setattr(cache, "available_memory", lambda: 2 * 3 * 64 * 64)
    with pytest.raises(BadPictureError, match=r"1\.png"):
        cached(scan(root))


@pytest.mark.parametrize("bad", ["0.jpg", "3.jpg"])
def test_bad_picture(write_tree: WriteTree, bad: str) -> None:
    root = write_tree("photos", [f"{i}.jpg" for i in range(5)], side=16)
    (root / bad).write_bytes((root / bad).read_bytes()[:300])
    with pytest.raises(BadPictureError, match=bad):
        cached(scan(root))
    with pytest.warns(UserWarning, match=rf"{bad}.* It is left out"):
        held = cached(scan(root), "skip")
    assert torch.nonzero(held.bad)[:, 0].tolist() == [int(bad[0])]


def test_nothing_but_bad_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(BadPictureError, match="None of the 1 pictures"):
        cached(scan(tmp_path), "skip")


def test_available_memory_is_plausible() -> None:
    memory = available_memory()
    assert memory is None or 2**20 < memory < 2**50


def test_available_memory_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "meminfo": "MemTotal: 9 kB\nMemAvailable:   4096 kB\n",
        "memory.max": "3000000\n",
        "memory.current": "1000000\n",
    }
    monkeypatch.setattr(Path, "exists", lambda path: path.name in files)
    monkeypatch.setattr(Path, "read_text", lambda path: files[path.name])
    assert available_memory() == 2_000_000
    files["memory.max"] = "max\n"
    assert available_memory() == 4096 * 1024


# ---- reduced


def test_large_pictures_are_reduced_and_small_ones_kept(write_tree: WriteTree) -> None:
    source = scan(write_tree("photos", ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"]))
    assert len({source.read(position).shape for position in range(4)}) > 1
    kept = reduced(source, 30)
    smaller = reduced(source, 10)
    assert isinstance(kept, RaggedPictures)
    assert torch.equal(kept.targets, source.targets)
    assert (kept.class_names, kept.in_channels, kept.equal_size) == (["cat", "dog"], 3, False)
    for position in range(4):
        picture, small = source.read(position), smaller.read(position)
        assert torch.equal(kept.read(position), picture)
        assert min(small.shape[1:]) == 10
        size = [round(10 / min(picture.shape[1:]) * side) for side in picture.shape[1:]]
        expected = interpolate(picture[None].float(), size, mode="bicubic", antialias=True)[0].clamp(0, 255)
        assert (small - expected).abs().max() < 2


def test_pictures_of_equal_size_become_one_array(write_tree: WriteTree) -> None:
    source = scan(write_tree("photos", ["cat/1.png", "dog/2.png"], side=12))
    kept = reduced(source, 30)
    assert isinstance(kept, InMemoryPictures)
    assert torch.equal(kept.images, torch.stack([source.read(0), source.read(1)]))
    assert reduced(kept, 4) is kept


def test_a_bad_picture_stops_the_reading_or_is_left_out(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["cat/1.png", "cat/2.png", "dog/3.png"])
    (root / "cat" / "2.png").write_bytes(b"no picture")
    with pytest.raises(BadPictureError, match=r"2\.png.*--data\.on_bad_picture skip"):
        reduced(scan(root), 30)
    with pytest.warns(UserWarning, match=r"2\.png.*left out"):
        kept = reduced(scan(root), 30, "skip")
    assert kept.bad.tolist() == [False, True, False]
    with pytest.raises(BadPictureError, match=r"2\.png could not be read"):
        kept.read(1)
    for name in ("cat/1.png", "dog/3.png"):
        (root / name).write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(BadPictureError, match="None of the 3"):
        reduced(scan(root), 30, "skip")


def test_too_many_pictures_for_the_memory_are_refused(write_tree: WriteTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_CHUNK", 2)
    monkeypatch.setattr(cache, "available_memory", lambda: 1000)
    names = [f"{number}.png" for number in range(6)]
    with pytest.raises(InputError, match=r"6 pictures take .* GiB are free.*--data\.views\.size"):
        reduced(scan(write_tree("photos", names)), 30)
