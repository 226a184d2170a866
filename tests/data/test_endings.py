"""Which files are read as pictures, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_lightning.data import endings
from simclr_lightning.data.endings import ENDINGS, missing_for
from simclr_lightning.data.folder import find_splits, scan
from simclr_lightning.data.readers import READERS

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".JPG"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff", ".TIFF"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "PCX": (".pcx",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
}
SNIFFED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")


@pytest.fixture
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((24, 20))


def test_every_ending_is_tried() -> None:
    photos = {ending.lower() for own in FORMATS.values() for ending in own} | {".heic", ".heif"}
    assert photos | READERS.keys() - {".zarr"} == set(ENDINGS)  # a folder, and a set of pictures


@pytest.mark.parametrize("kind", FORMATS)
def test_every_ending_is_found_and_read(tmp_path: Path, picture: Image.Image, kind: str) -> None:
    for ending in FORMATS[kind]:
        picture.save(tmp_path / f"x{ending}", kind)
    found = scan(tmp_path)
    assert len(found) == len(FORMATS[kind])
    assert all(found.read(position).shape == (3, 20, 24) for position in range(len(found)))


@pytest.mark.parametrize("kind", SNIFFED)
@pytest.mark.parametrize("name", ["IM0001", "1.2.840.10008", "scan."])
def test_files_without_an_ending_are_known_by_their_first_bytes(
    tmp_path: Path, picture: Image.Image, kind: str, name: str
) -> None:
    picture.save(tmp_path / name, kind)
    (tmp_path / "README").write_text("P is for pictures")
    (tmp_path / "empty").touch()
    found = find_splits(tmp_path)["train"]
    assert found.name(0) == str(tmp_path / name)
    assert found.read(0).shape == (3, 20, 24)
    assert found.findings is not None
    assert [(left.reason, left.files) for left in found.findings.left_out] == [("without an ending: no picture", 2)]


def test_what_is_left_out_is_counted_by_ending(tmp_path: Path, picture: Image.Image) -> None:
    for name in ("a.png", "b.png"):
        picture.save(tmp_path / name)
    for name in ("1.txt", "2.TXT", "x/notes.md", "LICENSE", "old.psd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no picture")
    found = find_splits(tmp_path)["train"].findings
    assert found is not None
    assert {(left.reason, left.files) for left in found.left_out} == {
        (".txt: no picture", 2),
        (".md: no picture", 1),
        (".psd: no picture", 1),
        ("without an ending: no picture", 1),
    }


def test_phone_pictures_without_the_extra_are_counted(
    tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "find_spec", lambda package: None)
    missing_for.cache_clear()
    try:
        picture.save(tmp_path / "a.jpg")
        for name in ("phone.HEIC", "b.heic", "c"):
            (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
        found = find_splits(tmp_path)["train"].findings
        assert found is not None
        assert [str(left) for left in found.left_out] == [
            "2 x .heic: needs pip install 'simclr-lightning[heic]' (b.heic)",
            "1 x without an ending: needs pip install 'simclr-lightning[heic]' (c)",
        ]
    finally:
        missing_for.cache_clear()


def test_phone_pictures_with_the_extra_are_read(tmp_path: Path, picture: Image.Image) -> None:
    pytest.importorskip("pillow_heif")
    for name in ("a.heic", "b.HEIF", "c"):
        picture.save(tmp_path / name, "HEIF")
    found = scan(tmp_path)
    assert [found.read(position).shape for position in range(len(found))] == [(3, 20, 24)] * 3


def test_an_ending_that_the_installed_pillow_lacks_is_told(
    tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(Image.OPEN, "JPEG2000")
    missing_for.cache_clear()
    try:
        assert missing_for(".jp2") == "not read by the installed Pillow"
    finally:
        missing_for.cache_clear()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cat": [".jpg"], "dog": [".jfif", ".jpe"]}, {"cat": 4, "dog": 8}),
        ({"cat": [".webp"], "dog": [".jp2", ""]}, {"cat": 4, "dog": 8}),
        ({"cat": [".avif", ".TIF"], "dog": [".pgm"], "owl": [".jpx"]}, {"cat": 8, "dog": 4, "owl": 4}),
    ],
)
def test_no_class_is_lost_for_its_endings(
    tmp_path: Path, picture: Image.Image, files: dict[str, list[str]], expected: dict[str, int]
) -> None:
    known = {ending.lower(): kind for kind, own in FORMATS.items() for ending in own} | {"": "JPEG"}
    for folder, own in files.items():
        (tmp_path / folder).mkdir()
        for ending in own:
            for number in range(4):
                picture.save(tmp_path / folder / f"{number}{ending}", known[ending.lower()])
    found = scan(tmp_path)
    assert found.class_names is not None
    counts = dict(zip(found.class_names, found.targets.bincount().tolist(), strict=True))
    assert counts == expected
