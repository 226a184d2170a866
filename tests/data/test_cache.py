from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning.data import BadPictureError, DatasetPictures, InMemoryPictures, cache
from simclr_lightning.data.cache import available_memory, cached
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
