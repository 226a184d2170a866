"""13 bands of 16 bits from files through chunks and views to features and an exported encoder; 8, 12 and 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.test_readers import write_dicom
from torch import Tensor

from simclr_lightning import SimCLRDataModule
from simclr_lightning.checkpoints import read_checkpoint
from simclr_lightning.data import InMemoryPictures, PictureSets
from simclr_lightning.data.folder import folder_sets
from simclr_lightning.data.packed import packed_sets
from simclr_lightning.views import ValueRange, ViewRecipe, centre_view

Simclr = Callable[..., None]
Array = np.ndarray[Any, Any]
CHECKPOINT = Path("runs/simclr/one/checkpoints/last.ckpt")
SMALL = ["--model.encoder", "resnet8", "--model.width", "0.125", "--trainer.accelerator", "cpu"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.logger.version", "one", "--data.batch_size", "4"]
VIEWS = ["--data.views.preset", "multispectral", "--data.views.size", "16", "--data.num_workers", "0"]


def scene(seed: int, *shape: int, top: int = 10_000) -> Array:
    """Smooth numbers from 0 to about ``top``, the last two axes those of the picture."""
    low = np.random.default_rng(seed).random((int(np.prod(shape[:-2], dtype=int)), 6, 6), np.float32)
    size = shape[-1], shape[-2]
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in low]
    return np.stack(planes).clip(0, 1).reshape(shape) * top


def write_tile(path: Path, tile: Array) -> None:
    """(C, H, W) or (H, W), as the ending says."""
    if path.suffix == ".npy":
        np.save(path, tile)
    else:
        options = {"planarconfig": "separate"} if tile.ndim == 3 else {}
        pytest.importorskip("tifffile").imwrite(path, tile, photometric="minisblack", **options)


def write_tiles(root: Path, ending: str) -> dict[str, Array]:
    """Eight tiles to train on and four to judge by, of different sizes; by name."""
    tiles = {}
    for number in range(12):
        name = f"{'train' if number < 8 else 'val'}/{('crop', 'lake')[number % 2]}/{number}{ending}"
        tiles[name] = scene(number, 13, 24, 20 + number).astype(np.uint16)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_tile(root / name, tiles[name])
    return tiles


def views_of(data: SimCLRDataModule) -> dict[int, Tensor]:
    """The views of an epoch by position, (V, C, S, S) each."""
    data.setup("fit")
    found: dict[int, Tensor] = {}
    for batch in data.train_dataloader():
        views = data.on_after_batch_transfer(batch, 0).views[0]
        found |= {position: views[:, place] for place, position in enumerate(batch.indices.tolist())}
    return found


def module(dataset: Any, root: Path = Path("data"), **options: Any) -> SimCLRDataModule:
    return SimCLRDataModule(dataset, root, **{"batch_size": 4, "num_workers": 0, **options})


@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_13_bands_of_16_bits(simclr: Simclr, tmp_path: Path, ending: str) -> None:
    pytest.importorskip("litdata")
    tiles = write_tiles(tmp_path / "tiles", ending)

    # Pixels are those that were written, from files and from chunks.
    simclr("pack", "tiles", "packed")
    folder, packed = folder_sets(tmp_path / "tiles"), packed_sets(tmp_path / "packed")
    for there, here in ((folder.train, packed.train), (folder.val, packed.val)):
        assert there is not None
        assert here is not None
        assert len(here) == len(there)
        for position in range(len(here)):
            name = Path(there.name(position)).relative_to(tmp_path / "tiles").as_posix()
            for own in (there.read(position), here.read(position)):
                assert own.dtype == torch.uint16
                assert np.array_equal(own.numpy(), tiles[name])

    # So are views, and what is black and white.
    recipe = ViewRecipe("multispectral", size=16)
    modules = [
        module(name, tmp_path / root, views=recipe) for name, root in (("folder", "tiles"), ("packed", "packed"))
    ]
    views = [views_of(data) for data in modules]
    assert views[0].keys() == views[1].keys() == set(range(8))
    assert all(torch.equal(views[0][position], views[1][position]) for position in views[0])
    assert views[0][0].shape == (2, 13, 16, 16)
    assert modules[0].scaling.plain == modules[1].scaling.plain

    # A training on chunks: features of the folder are those of the chunks, and those of exported encoders.
    data = ["--data.dataset", "packed", "--data.root", "packed"]
    simclr("fit", *data, *SMALL, *SHORT, *VIEWS, "--trainer.limit_val_batches", "1")
    scale = read_checkpoint(CHECKPOINT).data["scale"]
    assert scale == modules[0].scaling.plain
    for dataset, root in (("folder", "tiles"), ("packed", "packed")):
        options = ["--dataset", dataset, "--root", root, "--output", f"{dataset}.npz", "--split", "val"]
        simclr("embed", "--ckpt_path", CHECKPOINT, *options, "--accelerator", "cpu", "--num_workers", "0")
    with np.load("folder.npz") as there, np.load("packed.npz") as here:
        features, files = there["features"], there["files"].tolist()
        for name in set(there.files) - {"settings"}:  # which name the data set
            assert np.array_equal(there[name], here[name]), name
    assert sorted(files) == sorted(name for name in tiles if name.startswith("val/"))
    assert features.dtype == np.float32
    simclr("export", "--ckpt_path", CHECKPOINT, "--format", "torch_export", "--output", "encoder.pt2")
    judged = ViewRecipe(**read_checkpoint(CHECKPOINT).data["views"])
    seen = [centre_view(torch.from_numpy(tiles[file]), judged, ValueRange.of(scale)) for file in files]
    images = torch.stack(seen)
    assert images.shape == (4, 13, 16, 16)
    exported = torch.export.load("encoder.pt2").module()
    with torch.no_grad():
        assert np.allclose(exported(images).numpy(), features, atol=1e-5)
    if ending != ".npy":  # once is enough
        return
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    simclr("export", "--ckpt_path", CHECKPOINT, "--format", "onnx", "--output", "encoder.onnx")
    session = onnxruntime.InferenceSession("encoder.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.allclose(found, features, atol=1e-5)


COLOURS = ViewRecipe("multispectral", size=16, contrast=0.4, blur=0.5, noise=0.02)  # everything that there is for bands


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("kind", ["memory", "file", "folder"])
def test_the_same_values_give_the_same_views(tmp_path: Path, dtype: str, bands: int, kind: str) -> None:
    values = np.stack([scene(number, bands, 20, 20, top=255).round() for number in range(8)])
    found = []
    for own in ("uint8", dtype):
        pixels, scale = values.astype(own), None if own == "uint8" else [0, 255]
        path = tmp_path / f"{own}.npy"
        np.save(path, pixels.transpose(0, 2, 3, 1) if bands > 1 else pixels[:, 0])
        if kind == "memory":
            sets = PictureSets(InMemoryPictures(torch.from_numpy(pixels), torch.arange(8) % 2))
            data = module(lambda sets=sets: sets, views=COLOURS, scale=scale)
        elif kind == "file":
            data = module("folder", path, views=COLOURS, scale=scale)
        else:
            (tmp_path / own).mkdir()
            for number, picture in enumerate(pixels):
                np.save(tmp_path / own / f"{number}.npy", picture if bands > 1 else picture[0])
            data = module("folder", tmp_path / own, views=COLOURS, scale=scale)
        found.append(views_of(data))
    assert found[0].keys() == found[1].keys() == set(range(8))
    # Crops of files of bytes are bytes: two passes of a bicubic filter round by half a step each, the second makes 0.65
    # of the first's, and contrast and brightness make 1.54 of the sum.
    tolerance = 1e-5 if kind != "folder" else 1.8 / 255
    for position, views in found[0].items():
        assert views.shape == (2, 3 if bands == 1 and kind == "folder" else bands, 16, 16)
        torch.testing.assert_close(found[1][position], views, atol=tolerance, rtol=0)


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_a_whole_range_of_16_bits_is_that_of_8(bands: int) -> None:
    values = torch.from_numpy(np.stack([scene(number, bands, 20, 20, top=255).round() for number in range(8)]))
    found = []
    for pixels in (values.to(torch.uint8), (values * 257).to(torch.uint16)):  # 255 becomes 65,535
        sets = PictureSets(InMemoryPictures(pixels, torch.arange(8) % 2))
        found.append(views_of(module(lambda sets=sets: sets, views=COLOURS)))
    for position, views in found[0].items():
        torch.testing.assert_close(found[1][position], views, atol=1e-5, rtol=0)


def write_film(path: Path, film: Array) -> None:
    if path.suffix == ".dcm":
        write_dicom(path, film)
    elif path.suffix == ".png":
        Image.fromarray(film).save(path)
    else:
        write_tile(path, film)


@pytest.mark.parametrize("ending", [".png", ".npy", ".tif", ".dcm"])
@pytest.mark.parametrize("top", [4095, 1000])
def test_12_bit_x_rays_use_the_whole_range_of_a_view(tmp_path: Path, ending: str, top: int) -> None:
    (tmp_path / "films").mkdir()
    for number in range(12):
        write_film(tmp_path / "films" / f"{number}{ending}", scene(number, 40, 36, top=top).astype(np.uint16))
    whole = ViewRecipe("xray", size=32, crop_area=(0.9, 1.0), jitter=0.0)
    views = torch.stack(list(views_of(module("folder", tmp_path / "films", views=whole)).values()))
    assert views.min() < 0.02
    assert views.max() > 0.98
    assert views.std() > 0.2
    darker = torch.stack(list(views_of(module("folder", tmp_path / "films", views=whole, scale=[0, 65535])).values()))
    assert darker.max() <= 1.05 * top / 65535
