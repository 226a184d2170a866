from __future__ import annotations

import io
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning.data import BadPictureError, DatasetPictures, SimCLRDataModule, fast_jpeg, read_picture
from simclr_lightning.data.decode import opened
from simclr_lightning.data.metadata import _PIXEL_TAGS, orientation, without_metadata
from simclr_lightning.data.scaled import read_scaled
from simclr_lightning.views import ViewRecipe
from simclr_lightning.views.workers import ScaledPicture

LOW = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
PICTURE = Image.fromarray(LOW).resize((48, 24), Image.Resampling.BICUBIC)
FORMATS = ["JPEG", "PNG", "WEBP", "TIFF"]


def upright_size(path: Path) -> tuple[int, int]:
    with opened(path) as picture:
        return picture.size()


def entries(turn: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x010F], exif[0x0110], exif[0x0131] = "Maker of cameras", "Model", "Program"
    exif[0x011A], exif[0x011B], exif[0x0128] = 72.0, 72.0, 2
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return exif


def own_entry(data: bytes) -> int:
    return max(data.find(struct.pack(f"{order}HHL", 0x0112, 3, 1)) for order in "<>")


def whole(kind: str) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, kind, exif=entries(), **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def places(kind: str, data: bytes) -> list[int]:
    """Bytes of the EXIF block that are not those of the orientation; of a TIFF, of the entries not of its pixels."""
    if kind == "TIFF":
        (start,) = struct.unpack_from("<L", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        listed = range(start + 2, start + 2 + 12 * count, 12)
        others = [place for place in listed if struct.unpack_from("<H", data, place)[0] not in _PIXEL_TAGS]
        return [byte for place in others for byte in range(place + 2, place + 12)]
    block = entries().tobytes().removeprefix(b"Exif\0\0")
    begin, own = data.index(block), own_entry(data)
    return [place for place in range(begin, begin + len(block)) if not own <= place < own + 10]


def damage(rng: random.Random, data: bytes, at: list[int]) -> bytes:
    damaged = bytearray(data)
    for place in rng.sample(at, rng.randint(1, 8)):
        damaged[place] = rng.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_orientation_is_right_wherever_its_entry_is_intact(order: str, turn: int) -> None:
    sign, header = ("<", b"II*\0") if order == "II" else (">", b"MM\0*")
    rows = [(0x010F, 2, 30, 74), (0x0112, 3, 1, None), (0x011A, 5, 1, 104), (0x0128, 3, 1, 2), (0x8769, 4, 1, 112)]
    block = header + struct.pack(f"{sign}LH", 8, len(rows))
    for tag, kind, number, value in rows:
        block += struct.pack(f"{sign}HHL", tag, kind, number)
        block += struct.pack(f"{sign}HH", turn, 0) if value is None else struct.pack(f"{sign}L", value)
    block += struct.pack(f"{sign}L", 0) + bytes(range(80))
    own, rng = own_entry(block), random.Random(0)
    others = [place for place in range(len(block)) if not own <= place < own + 10]
    assert orientation(block) == orientation(b"Exif\0\0" + block) == turn
    for _ in range(2000):
        assert orientation(damage(rng, block, others)) == turn
    for _ in range(2000):
        assert 1 <= orientation(damage(rng, block, list(range(len(block))))[: rng.randrange(len(block))]) <= 8


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_entries_stop_nothing(tmp_path: Path, kind: str) -> None:
    data, path, rng = whole(kind), tmp_path / "a.img", random.Random(1)
    path.write_bytes(data)
    expected = read_picture(path)
    assert expected.shape == (3, 48, 24)
    at = places(kind, data)
    for _ in range(1000):
        path.write_bytes(damage(rng, data, at))
        assert upright_size(path) == (48, 24)
        assert torch.equal(read_picture(path), expected)


def test_damaged_entries_of_avif(tmp_path: Path) -> None:
    """Which way up it is stands beside the EXIF block."""
    file, path, rng = io.BytesIO(), tmp_path / "a.avif", random.Random(5)
    try:
        PICTURE.save(file, "AVIF", exif=entries())
    except (OSError, KeyError):
        pytest.skip("This Pillow writes no AVIF.")
    data = file.getvalue()
    begin = max(data.find(header) for header in (b"II*\0", b"MM\0*"))
    length = len(entries().tobytes()) - 6 - 12  # without the orientation
    path.write_bytes(data)
    expected = read_picture(path)
    assert expected.shape == (3, 48, 24)
    for _ in range(200):
        path.write_bytes(damage(rng, data, list(range(begin, begin + length))))
        assert torch.equal(read_picture(path), expected)


@pytest.mark.parametrize("decoder", ["simplejpeg", "torchvision", "pillow"])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_every_decoder_gives_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    if decoder == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(fast_jpeg, "simplejpeg", None)
        if decoder == "pillow":
            monkeypatch.setattr(fast_jpeg, "decode_jpeg", None)
    rng = random.Random(2)
    for turn in range(1, 9):
        file = io.BytesIO()
        PICTURE.save(file, "JPEG", exif=entries(turn))
        data, path = file.getvalue(), tmp_path / "a.jpg"
        with Image.open(io.BytesIO(data)) as picture:
            plain = np.asarray(picture)
        expected = {1: plain, 3: plain[::-1, ::-1], 6: np.rot90(plain, -1), 8: np.rot90(plain)}.get(turn)
        smaller = None
        for _ in range(20):
            path.write_bytes(damage(rng, data, places("JPEG", data)) if turn == 6 else data)
            got = read_picture(path)
            if expected is not None:
                assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)
            scaled = read_scaled(path, 2)
            assert isinstance(scaled, ScaledPicture)
            assert scaled.image.size == (got.shape[2] // 2, got.shape[1] // 2)
            assert smaller is None or np.array_equal(np.asarray(scaled.image), smaller)
            smaller = np.asarray(scaled.image)


def malformed(tag: int, kind: int, count: int, value: bytes) -> bytes:
    turned = struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0)
    rows = sorted([turned, struct.pack("<HHL", tag, kind, count) + value], key=lambda row: struct.unpack("<H", row[:2]))
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + b"".join(rows) + bytes(4) + b"72 dpi\0\0"


@pytest.mark.parametrize(
    "block",
    [
        malformed(0x010F, 5, 1, struct.pack("<L", 38)),  # the maker as a fraction
        malformed(0x011A, 2, 6, struct.pack("<L", 38)),  # the resolution as text
        malformed(0x8769, 4, 1, struct.pack("<L", 0xFFFFFFF0)),  # a list beyond the end
        malformed(0x8825, 7, 2**31, struct.pack("<L", 38)),  # more values than there are bytes
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_sound_pixels_with_a_malformed_entry(tmp_path: Path, block: bytes, kind: str) -> None:
    path = tmp_path / "a.img"
    PICTURE.save(path, kind, exif=block)
    assert read_picture(path).shape == (3, 48, 24)
    assert upright_size(path) == (48, 24)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_tiff(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "a.tif"
    PICTURE.save(path, exif=entries(turn))
    assert tuple(read_picture(path).shape[1:]) == upright_size(path) == ((48, 24) if turn > 4 else (24, 48))


@pytest.mark.parametrize("kind", [*FORMATS, "GIF", "BMP", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_whatever_a_decoder_raises_is_the_files_fault(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    try:
        PICTURE.save(file, kind)
    except (OSError, KeyError):
        pytest.skip(f"This Pillow writes no {kind}.")
    data, path, rng, bad = file.getvalue(), tmp_path / "a.img", random.Random(3), 0
    for number in range(600):
        damaged = damage(rng, data, list(range(min(len(data), 400 if number % 2 else len(data)))))
        path.write_bytes(damaged[: rng.randrange(len(data))] if number % 3 == 0 else damaged)
        for read in (read_picture, upright_size, lambda path: read_scaled(path, 2)):
            caught = raised(read, path)
            bad += bool(caught)
            assert caught is None or ("a.img" in caught and len(caught.splitlines()) == 1)
    assert bad > 50


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyError(3), ZeroDivisionError("x"), struct.error("y"), UserWarning("z")]
)
def test_errors_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*arguments: Any) -> Any:
        raise error

    path = tmp_path / "a.png"
    PICTURE.save(path)
    monkeypatch.setattr("simclr_lightning.data.decode.to_rgb", fails)
    with pytest.raises(BadPictureError, match=rf"a\.png: .*{type(error).__name__}"):
        read_picture(path)

    class Set(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            return super().__getitem__(place) if place == 0 else fails()

    with pytest.raises(BadPictureError, match="Picture 1 of Set"):
        DatasetPictures(Set([PICTURE, PICTURE])).read(1)


@pytest.mark.filterwarnings(
    "ignore:num_workers is",
    "ignore:Cannot read",
    "ignore:.*read in part",
)
@pytest.mark.filterwarnings("ignore:.* cannot be read, and do not count", "ignore::UserWarning:PIL.*")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [*FORMATS, "GIF", "BMP"])
def test_damaged_files_in_a_loader(tmp_path: Path, kind: str, num_workers: int) -> None:
    file, rng = io.BytesIO(), random.Random(4)
    PICTURE.save(file, kind)
    data = file.getvalue()
    for number in range(200):
        hurt = damage(rng, data, list(range(len(data)))) if number % 2 else data
        hurt = hurt[: rng.randrange(len(hurt))] if number % 10 == 1 else hurt
        (tmp_path / f"{number}.{kind[:4].lower()}").write_bytes(hurt)
    for path in tmp_path.glob("*.jpeg"):
        path.rename(path.with_suffix(".jpg"))
    options: Any = {"views": ViewRecipe("cifar10", size=12), "batch_size": 20, "num_workers": num_workers}
    options |= {"max_bad_share": 1.0, "max_megapixels": 1}
    served = SimCLRDataModule("folder", tmp_path, on_bad_picture="skip", **options)
    served.setup("fit")
    assert sum(len(batch.targets) for batch in served.train_dataloader()) == 200
    assert sum(len(batch.targets) for batch in served.predict_dataloader()) == 200
    bad = int(served.splits.train.pictures.bad.sum())
    assert bad >= 15
    served = SimCLRDataModule("folder", tmp_path, on_bad_picture="raise", **options)
    served.setup("fit")
    with pytest.raises(BadPictureError, match=rf"Cannot read .*{re.escape(str(tmp_path))}"):
        list(served.train_dataloader())


def raised(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except BadPictureError as error:
        return str(error)
    return None


def test_a_thumbnails_orientation_is_not_the_pictures() -> None:
    """The second list of a block is about the small picture in it."""
    first = struct.pack("<HHHLLL", 1, 0x0128, 3, 1, 2, 26)
    second = struct.pack("<HHHLHHL", 1, 0x0112, 3, 1, 6, 0, 0)
    assert orientation(b"II*\0" + struct.pack("<L", 8) + first + second) == 1


def test_nothing_to_leave_out() -> None:
    assert without_metadata(b"") is None
    assert without_metadata(b"\xff\xd8") is None
    assert without_metadata(b"RIFF\0\0\0\0WEBPVP8") is None
