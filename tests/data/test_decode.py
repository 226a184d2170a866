from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from simclr_lightning.data import BadPictureError, decode, fast_jpeg, read_picture

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (12, 10), dtype=np.uint16)


def saved(path: Path, picture: Image.Image, **options: Any) -> Path:
    picture.save(path, **options)
    return path


def read(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    picture = read_picture(path)
    assert picture.dtype == torch.uint8
    return picture.permute(1, 2, 0).numpy().astype(np.int64)


def png_of_16_bit_rgb(pixels: np.ndarray[Any, np.dtype[np.uint16]]) -> bytes:
    """Pillow cannot write these."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_rgb_is_unchanged(tmp_path: Path) -> None:
    assert np.array_equal(read(saved(tmp_path / "a.png", Image.fromarray(RGB))), RGB)


def test_grey_is_repeated(tmp_path: Path) -> None:
    assert np.array_equal(read(saved(tmp_path / "a.png", Image.fromarray(RGB[..., 0]))), RGB[..., :1].repeat(3, -1))


def test_black_and_white(tmp_path: Path) -> None:
    bits = RGB[..., 0] > 127
    assert np.array_equal(read(saved(tmp_path / "a.png", Image.fromarray(bits)))[..., 1], bits * 255)


@pytest.mark.parametrize(("name", "dtype"), [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.int32)])
def test_16_bits_keep_their_values(tmp_path: Path, name: str, dtype: type) -> None:
    got = read_picture(saved(tmp_path / name, Image.fromarray(WIDE.astype(dtype))))
    assert got.dtype == torch.uint16
    assert all(np.array_equal(band.numpy(), WIDE) for band in got)


def test_16_bit_rgb(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (12, 10, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_of_16_bit_rgb(pixels))
    assert np.abs(read(tmp_path / "a.png") - pixels / 257).max() < 1


def test_transparent_pixels_are_laid_on_white(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (12, 10, 1), dtype=np.uint8)
    alpha[0], alpha[1] = 0, 255
    got = read(saved(tmp_path / "a.png", Image.fromarray(np.concatenate([RGB, alpha], -1))))
    share = alpha / 255
    assert np.abs(got - (share * RGB + (1 - share) * 255)).max() <= 1
    assert (got[0] == 255).all()
    assert np.array_equal(got[1], RGB[1])


def test_grey_with_alpha(tmp_path: Path) -> None:
    pixels = np.stack([RGB[..., 0], np.zeros_like(RGB[..., 0])], -1)
    assert (read(saved(tmp_path / "a.png", Image.fromarray(pixels))) == 255).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read(saved(tmp_path / "a.png", palette)), expected)
    got = read(saved(tmp_path / "b.png", palette, transparency=3))
    hidden = np.asarray(palette) == 3
    assert hidden.any()
    assert (got[hidden] == 255).all()
    assert np.array_equal(got[~hidden], expected[~hidden])


def test_rgb_with_a_transparent_colour(tmp_path: Path) -> None:
    pixels = RGB.copy()
    pixels[:6] = (1, 2, 3)
    got = read(saved(tmp_path / "a.png", Image.fromarray(pixels), transparency=(1, 2, 3)))
    assert (got[:6] == 255).all()
    assert np.array_equal(got[6:], RGB[6:])


def test_cmyk(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (10, 12), (0, 255, 255, 0))  # magenta and yellow make red
    got = read(saved(tmp_path / "a.jpg", ink, quality=100))
    assert np.abs(got - (255, 0, 0)).max() < 5


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    got = read(saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif))
    assert np.array_equal(got, np.rot90(RGB, -1))


def only(monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    if decoder == "simplejpeg":
        pytest.importorskip("simplejpeg")
        return
    monkeypatch.setattr(fast_jpeg, "simplejpeg", None)
    if decoder == "torchvision" and getattr(fast_jpeg, "decode_jpeg", None) is None:
        pytest.skip("This torchvision decodes no pictures any more.")
    if decoder == "pillow":
        monkeypatch.setattr(fast_jpeg, "decode_jpeg", None)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (16, 17), (2, 130), (33, 8)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("decoder", ["simplejpeg", "torchvision"])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_every_kind_of_jpeg(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subsampling: str,
    shape: tuple[int, int],
    options: dict[str, Any],
    decoder: str,
) -> None:
    only(monkeypatch, decoder)
    monkeypatch.setattr(decode, "to_rgb", lambda picture: pytest.fail("Pillow decoded it"))
    picture = Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8))
    path = saved(tmp_path / "a.jpg", picture, subsampling=subsampling, **options)
    with Image.open(path) as opened:
        assert np.array_equal(read(path), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("decoder", ["simplejpeg", "torchvision", "pillow"])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_jpeg_has_the_pixels_that_pillow_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int, decoder: str
) -> None:
    only(monkeypatch, decoder)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(RNG.integers(0, 256, (37, 50, 3), dtype=np.uint8)).convert(mode)
    path = saved(tmp_path / "a.jpg", picture, exif=exif, progressive=orientation % 2 == 0)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert np.array_equal(read(path), expected)


def test_a_picture_beyond_all_bounds_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BadPictureError, match=r"a\.jpg.*megapixels.*--data\.max_megapixels 1\)"):
        read_picture(path)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (10, 12), colour) for colour in ("red", "blue")]
    got = read(saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert (got == (255, 0, 0)).all()


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.float32), np.full((4, 4), 70000, np.int32)])
def test_values_without_a_known_range(
    tmp_path: Path, pixels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simclr_lightning.data.readers.registry._installed", lambda packages: False)
    path = saved(tmp_path / "a.tif", Image.fromarray(pixels))
    with pytest.raises(BadPictureError, match=r"a\.tif.*convert"):
        read_picture(path)


def corrupt(data: bytes) -> bytes:
    return b"not a picture"


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def test_torchvisions_warning_made_an_error_leaves_the_picture_to_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deprecated(*arguments: Any) -> None:
        raise DeprecationWarning("The image decoding and encoding capabilities of TorchVision are deprecated")

    monkeypatch.setattr(fast_jpeg, "simplejpeg", None)
    monkeypatch.setattr(fast_jpeg, "decode_jpeg", deprecated)
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB))
    with Image.open(path) as opened:
        assert np.array_equal(read(path), np.asarray(opened))


@pytest.mark.parametrize("damage", [corrupt, truncated, empty])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_damaged_files_are_named(tmp_path: Path, kind: str, damage: Any) -> None:
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, kind)
    (tmp_path / "broken.img").write_bytes(damage(whole.getvalue()))
    with pytest.raises(BadPictureError, match=r"broken\.img"):
        read_picture(tmp_path / "broken.img")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadPictureError, match=r"gone\.jpg"):
        read_picture(tmp_path / "gone.jpg")
