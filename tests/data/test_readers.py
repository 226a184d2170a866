"""Every format gives back what was written, with the type and the bands that it has."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from simclr_lightning.data import BadPictureError, read_picture
from simclr_lightning.data.folder import folder_sets, scan
from simclr_lightning.data.readers import READERS, axes, channel_axis, picture_tensor, reader_of, registry
from simclr_lightning.data.readers.array_sets import ArrayPictures, Asked
from simclr_lightning.errors import InputError, MissingFileError, MissingPackageError

Array = np.ndarray[Any, Any]
BANDS = np.random.default_rng(0).integers(0, 10000, (13, 64, 48), dtype=np.uint16)
GREY = np.random.default_rng(1).integers(0, 4096, (64, 48), dtype=np.uint16)


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is told anew what is left out."""
    monkeypatch.setattr(axes, "_told", set())


def _tiff(path: Path, array: Array, **options: Any) -> None:
    pytest.importorskip("tifffile").imwrite(path, array, **options)


def _tiled(path: Path, array: Array) -> None:
    pytest.importorskip("imagecodecs")
    options = {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16), "bigtiff": True}
    _tiff(path, array.transpose(1, 2, 0), compression="lzw", **options)


def _hdf5(path: Path, **arrays: Any) -> None:
    with pytest.importorskip("h5py").File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def _fits(path: Path, array: Array) -> None:
    pytest.importorskip("astropy.io.fits").writeto(path, array)


def _zarr(path: Path, **arrays: Any) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=array, chunks=(1, *array.shape[1:]))


def write_dicom(path: Path, values: Array, kind: str = "MONOCHROME2", *, signed: bool = False, **tags: Any) -> None:
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    data = Dataset()
    data.file_meta, data.SOPClassUID, data.SOPInstanceUID = meta, SecondaryCaptureImageStorage, "1.2.3"
    stored = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    shape = {"Rows": values.shape[-2], "Columns": values.shape[-1], "SamplesPerPixel": 1}
    for name, value in {**stored, **shape, "PhotometricInterpretation": kind, **tags}.items():
        setattr(data, name, value)
    data.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("planes.tif", lambda path: _tiff(path, BANDS, photometric="minisblack", planarconfig="separate")),
        ("tiles.tif", lambda path: _tiled(path, BANDS)),
        ("untold.tif", lambda path: _tiff(path, BANDS.transpose(1, 2, 0))),
        ("imagej.tif", lambda path: _tiff(path, BANDS, imagej=True, metadata={"axes": "CYX"})),
        ("last.npy", lambda path: np.save(path, BANDS.transpose(1, 2, 0))),
        ("big.npy", lambda path: np.save(path, BANDS.astype(">u2"))),
        ("one.npz", lambda path: np.savez_compressed(path, image=BANDS, label=3)),
        ("one.h5", lambda path: _hdf5(path, **{"inner/image": BANDS, "label": 3})),
        ("cube.fits", lambda path: _fits(path, BANDS)),
    ],
)
def test_13_bands_of_16_bits_are_read_exactly(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert picture.dtype == torch.uint16
    assert np.array_equal(picture.numpy(), BANDS)
    pictures = scan(tmp_path)
    assert (pictures.in_channels, pictures.size(0)) == (13, (64, 48))
    assert torch.equal(pictures.read(0), picture)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", torch.uint8),
        ("bool", torch.uint8),
        ("int8", torch.int16),
        (">i2", torch.int16),
        ("float16", torch.float32),
        (">f8", torch.float32),
    ],
)
def test_types(tmp_path: Path, dtype: str, expected: torch.dtype) -> None:
    array = (GREY % 2).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    picture = read_picture(tmp_path / "a.npy")
    assert picture.dtype == expected
    assert np.array_equal(picture[0].numpy(), array.astype("f8") * (255 if dtype == "bool" else 1))


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "complex64", "datetime64[s]"])
def test_types_that_are_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", GREY.astype(dtype))
    with pytest.raises(BadPictureError, match=r"a\.npy: its numbers are of type .*save them as .*uint16"):
        read_picture(tmp_path / "a.npy")


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadPictureError, match="allow_pickle=False"):
        read_picture(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.tif", "a.dcm", "a.fits"])
@pytest.mark.parametrize("content", [b"", b"something else", bytes(600)])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    reader = reader_of(name)
    if reader is None or not reader.installed:
        pytest.skip("its package is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadPictureError, match=name):
        read_picture(tmp_path / name)


def test_a_file_of_many_pictures_among_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(BadPictureError, match=r"it holds 5 pictures .*--data\.root FILE"):
        read_picture(tmp_path / "a.npy")


def test_pages_are_left_out_and_told(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", BANDS[:5], metadata={"axes": "ZYX"})
    assert np.array_equal(read_picture(tmp_path / "a.tif")[0].numpy(), BANDS[0])
    assert "it has 5 pages, and the first is read" in scan(tmp_path).left_out(0)


def test_photos_in_tiff_stay_with_pillow(tmp_path: Path) -> None:
    photo = BANDS[:3].astype(np.uint8).transpose(1, 2, 0)
    _tiff(tmp_path / "a.tif", photo)
    _tiff(tmp_path / "b.tif", photo[..., 0])
    for name in ("a.tif", "b.tif"):
        picture = read_picture(tmp_path / name)
        assert (picture.dtype, picture.shape) == (torch.uint8, (3, 64, 48))


def test_a_fourth_band_is_kept(tmp_path: Path) -> None:
    _tiff(
        tmp_path / "a.tif",
        BANDS[:4].astype(np.uint8).transpose(1, 2, 0),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    assert np.array_equal(read_picture(tmp_path / "a.tif").numpy(), BANDS[:4].astype(np.uint8))
    assert scan(tmp_path).in_channels == 4


def test_white_is_zero(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", GREY, photometric="miniswhite")
    assert np.array_equal(read_picture(tmp_path / "a.tif")[0].numpy(), 65535 - GREY)


def test_floats_in_tiff(tmp_path: Path) -> None:
    _tiff(tmp_path / "a.tif", GREY / 7)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.dtype == torch.float32
    assert np.allclose(picture[0].numpy(), GREY / 7)


def test_x_rays_of_12_bits(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", GREY)
    write_dicom(tmp_path / "b.dcm", GREY, "MONOCHROME1")
    first, inverted = read_picture(tmp_path / "a.dcm"), read_picture(tmp_path / "b.dcm")
    assert first.dtype == inverted.dtype == torch.uint16
    assert np.array_equal(first[0].numpy(), GREY)
    assert np.array_equal(inverted[0].numpy(), 4095 - GREY)
    pictures = scan(tmp_path)
    assert (pictures.in_channels, pictures.read(0).shape) == (3, (3, 64, 48))  # as grey photos


def test_hounsfield_units(tmp_path: Path) -> None:
    stored = GREY.astype(np.int16) - 2048
    write_dicom(tmp_path / "a.dcm", stored, signed=True, RescaleSlope=2, RescaleIntercept=-24)
    write_dicom(tmp_path / "b.dcm", stored, "MONOCHROME1", signed=True, RescaleSlope=2, RescaleIntercept=-24)
    picture = read_picture(tmp_path / "a.dcm")
    assert picture.dtype == torch.float32
    assert np.array_equal(picture[0].numpy(), stored * 2.0 - 24)
    assert np.array_equal(read_picture(tmp_path / "b.dcm")[0].numpy(), (-1.0 - stored) * 2 - 24)


def test_frames_are_left_out_and_told(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.stack([GREY, GREY + 1]), NumberOfFrames=2)
    assert np.array_equal(read_picture(tmp_path / "a.dcm")[0].numpy(), GREY)
    assert "it has 2 frames, and the first is read" in scan(tmp_path).left_out(0)


def test_pictures_of_telescopes(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    sky = GREY.astype(">f4")
    sky[0, 0] = np.nan
    _fits(tmp_path / "a.fits.gz", sky)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(GREY.astype(np.int16))]).writeto(tmp_path / "b.fits")
    _fits(tmp_path / "c.fits", GREY.astype(np.int32))
    first, second, third = (read_picture(tmp_path / name) for name in ("a.fits.gz", "b.fits", "c.fits"))
    assert first.dtype == third.dtype == torch.float32
    assert first[0, 0, 0].isnan()
    assert np.array_equal(first[0].numpy()[1:], GREY[1:])
    assert second.dtype == torch.int16
    assert np.array_equal(second[0].numpy(), GREY)
    assert np.array_equal(third[0].numpy(), GREY)


@pytest.mark.parametrize(
    ("ending", "extra"), [(".h5", "hdf5"), (".zarr", "zarr"), (".dcm", "dicom"), (".fits", "fits")]
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, extra: str
) -> None:
    monkeypatch.setattr(registry, "_installed", lambda packages: False)
    path = tmp_path / f"a{ending}"
    path.touch()
    with pytest.raises(MissingPackageError, match=rf"pip install 'simclr-lightning\[{extra}\]'"):
        read_picture(path) if extra in ("dicom", "fits") else folder_sets(path)
    assert reader_of("a.tif") is None  # Pillow reads what it can


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((13, 64, 64), 0), ((64, 64, 13), 2), ((8, 8, 13), 2), ((13, 8, 8), 0), ((48, 64, 4), 2), ((4, 48, 64), 0)],
)
def test_the_axis_of_the_bands(shape: tuple[int, ...], axis: int) -> None:
    assert channel_axis(shape) == axis
    assert picture_tensor(np.zeros(shape, np.float32)).shape[0] == shape[axis]
    assert picture_tensor(np.zeros(shape, np.float32), 1).shape[0] == shape[1]


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 9, 4)])
def test_an_axis_that_cannot_be_told(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not tell which axis holds the bands"):
        channel_axis(shape)
    np.save(tmp_path / "a.npy", np.zeros((3, *shape), np.float32))
    with pytest.raises(InputError, match=r"a\.npy::axis=0"):
        folder_sets(tmp_path / "a.npy")
    assert folder_sets(f"{tmp_path / 'a.npy'}::axis=0").train.in_channels == shape[0]


def test_one_number_of_bands_for_a_set(tmp_path: Path) -> None:
    for name, bands in (("a", 3), ("b", 13), ("c", 1), ("d", 2)):
        np.save(tmp_path / f"{name}.npy", BANDS[:bands])
    pictures = scan(tmp_path)
    assert pictures.in_channels == 3
    with pytest.warns(UserWarning, match=r"b\.npy: of its 13 bands the first three are read"):
        assert np.array_equal(pictures.read(1).numpy(), BANDS[:3])
    assert np.array_equal(pictures.read(2).numpy(), BANDS[:1].repeat(3, 0))
    with pytest.raises(InputError, match=r"d\.npy has 2 band\(s\), and the first picture of its set 3"):
        pictures.read(3)


def test_grey_pictures_of_16_bits_in_png_keep_their_values(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(GREY).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert (picture.dtype, picture.shape) == (torch.uint16, (3, 64, 48))
    assert np.array_equal(picture.numpy(), GREY[None].repeat(3, 0))


WRITERS: dict[str, Callable[..., None]] = {
    "cells.npz": np.savez,
    "cells.h5": _hdf5,
    "cells.zarr": _zarr,
}
TILES = np.stack([BANDS[:, :32, :32] + step for step in range(6)])


@pytest.mark.parametrize("name", WRITERS)
def test_sets_with_splits_and_labels(tmp_path: Path, name: str) -> None:
    labels = np.array([[0], [1], [2]] * 2)
    tiles = {"train_images": TILES, "val_images": TILES[:2], "test_images": TILES[:3]}
    WRITERS[name](tmp_path / name, **tiles, train_labels=labels, test_labels=labels[:3])
    sets = folder_sets(tmp_path / name)
    assert (sets.train.targets.tolist(), sets.train.in_channels) == ([0, 1, 2] * 2, 13)
    assert sets.val is not None
    assert sets.test is not None
    assert (len(sets.val), sets.val.targets.tolist(), sets.test.targets.tolist()) == (2, [-1, -1], [0, 1, 2])
    assert np.array_equal(sets.train.read(4).numpy(), TILES[4])
    if name != "cells.npz":  # which is in memory
        assert torch.equal(pickle.loads(pickle.dumps(sets.train)).read(4), sets.train.read(4))


@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
@pytest.mark.parametrize("name", WRITERS)
def test_sets_of_which_one_array_is_meant(tmp_path: Path, name: str) -> None:
    words = np.array([b"spiral", b"round"] * 3)
    WRITERS[name](tmp_path / name, images=TILES[:, 0], ans=words, flux=np.zeros((6, 3)))
    train = folder_sets(tmp_path / name).train
    assert (train.class_names, train.targets.tolist(), train.in_channels) == (["round", "spiral"], [1, 0] * 3, 1)


@pytest.mark.parametrize("name", WRITERS)
def test_sets_of_several_sensors(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, radar=np.zeros((6, 32, 32, 8), np.float32), optical=TILES, kind=np.arange(6))
    with pytest.raises(InputError, match=r"radar \(6, 32, 32, 8\) float32.*::images=NAME\)") as caught:
        folder_sets(tmp_path / name)
    assert str(caught.value).count("\n") < 3
    train = folder_sets(f"{tmp_path / name}::images=optical,labels=kind").train
    assert (train.in_channels, train.targets.tolist()) == (13, [0, 1, 2, 3, 4, 5])
    with pytest.raises(InputError, match="has no array 'sonar': it holds"):
        folder_sets(f"{tmp_path / name}::images=sonar")
    with pytest.raises(InputError, match="has no array 'sort', nor is there a file"):
        folder_sets(f"{tmp_path / name}::images=optical,labels=sort")


def test_an_array_with_labels_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "tiles.npy", TILES)
    assert folder_sets(tmp_path / "tiles.npy").train.targets.tolist() == [-1] * 6
    np.save(tmp_path / "tiles_labels.npy", np.arange(6))
    train = folder_sets(tmp_path / "tiles.npy").train
    assert isinstance(train, ArrayPictures)
    assert isinstance(train._array(), np.memmap)  # nothing is read before it is asked for
    assert (train.targets.tolist(), train.name(3)) == ([0, 1, 2, 3, 4, 5], f"Picture 3 of {tmp_path / 'tiles.npy'}")
    np.save(tmp_path / "other.npy", np.ones(6, np.int64))
    assert folder_sets(f"{tmp_path / 'tiles.npy'}::labels=other.npy").train.targets.tolist() == [1] * 6
    np.save(tmp_path / "other.npy", np.ones((6, 2)))
    with pytest.raises(InputError, match=r"shape \(6, 2\), and row 0 is not one-hot"):
        folder_sets(f"{tmp_path / 'tiles.npy'}::labels=other.npy")
    np.save(tmp_path / "other.npy", np.ones(5))
    with pytest.raises(InputError, match=r"shape \(5,\): there should be 6, one for each picture"):
        folder_sets(f"{tmp_path / 'tiles.npy'}::labels=other.npy")
    np.save(tmp_path / "other.npy", np.eye(6)[::-1])
    assert folder_sets(f"{tmp_path / 'tiles.npy'}::labels=other.npy").train.targets.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("named", ["images", "images=", "bands=3", "axis=3", "labels=a,axis"])
def test_what_is_not_understood_after_a_file(named: str) -> None:
    with pytest.raises(InputError, match="after :: is not understood"):
        Asked.parse(f"tiles.h5::{named}")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(MissingFileError, match=r"no file 'tiles\.npy'"):
        folder_sets("tiles.npy")


@pytest.mark.parametrize("name", ["cells.npy", "cells.h5", "cells.zarr"])
def test_workers_open_a_file_for_themselves(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(path, TILES) if name == "cells.npy" else WRITERS[name](path, images=TILES)
    pictures = folder_sets(path).train
    expected = pictures.read(0)  # opened here, too
    rows: Any = [[k] for k in range(6)]
    loaded = list(DataLoader(_Reading(pictures), batch_sampler=rows, num_workers=2, collate_fn=torch.stack))  # type: ignore[arg-type]
    assert torch.equal(loaded[0][0], expected)
    assert np.array_equal(torch.cat(loaded).numpy(), TILES)


class _Reading:
    def __init__(self, pictures: Any) -> None:
        self.pictures = pictures

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.pictures.read(position)  # type: ignore[no-any-return]


def test_formats_say_what_they_need() -> None:
    for ending, reader in READERS.items():
        assert ending == ending.lower()
        assert bool(reader.extra) == bool(reader.packages)
