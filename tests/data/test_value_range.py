from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from simclr_lightning import LabelledDataModule, SimCLRDataModule
from simclr_lightning.data import InMemoryPictures, PictureSets
from simclr_lightning.data.value_range import known_scaling, sampled, scaling, scaling_of_set
from simclr_lightning.errors import InputError
from simclr_lightning.views import ValueRange, ViewRecipe

PLAIN = ViewRecipe(size=32, crop=0.0, jitter=0.0, grey=0.0, blur=0.0, eval_crop=1.0)


def smooth(seed: int, top: float, dtype: type = np.uint16) -> np.ndarray[Any, Any]:
    low = np.random.default_rng(seed).random((6, 6)).astype(np.float32)
    values = np.asarray(Image.fromarray(low).resize((64, 64), Image.Resampling.BICUBIC)).clip(0, 1)
    return (values * top).astype(dtype)


def folder(tmp_path: Path, top: float, number: int = 12) -> Path:
    for k in range(number):
        (tmp_path / "tiles").mkdir(exist_ok=True)
        Image.fromarray(smooth(k, top)).save(tmp_path / "tiles" / f"{k}.png")
    return tmp_path / "tiles"


def clean_pictures(data: SimCLRDataModule) -> Tensor:
    data.setup("fit")
    batch: Any = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    images: Tensor = batch.images
    return images


def in_memory(images: Tensor, **options: Any) -> SimCLRDataModule:
    sets = PictureSets(InMemoryPictures(images, torch.arange(len(images)) % 2))
    return SimCLRDataModule(lambda: sets, **{"batch_size": 4, "views": PLAIN, **options})


@pytest.mark.parametrize("top", [4095, 3000, 65535])
def test_pictures_of_12_bits_use_the_whole_range_of_a_view(
    tmp_path: Path, top: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = SimCLRDataModule("folder", folder(tmp_path, top), batch_size=12, views=PLAIN, num_workers=0)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        images = clean_pictures(data)
    assert images.min() < 0.01
    assert images.max() > 0.99
    assert images.std() > 0.15
    told = [record.message for record in caplog.records if "black to white" in record.message]
    assert len(told) == 1
    assert "of uint16" in told[0]
    assert "of the values clipped" in told[0]
    if top == 65535:  # half of the range of the type is in use: it is taken as it is, exactly
        assert data.hparams["scale"] == "dtype"
        assert "0 to 65,535 of uint16 (the range of the type), 0.0 %" in told[0]
    else:
        low, high = data.hparams["scale"]
        assert 0 <= low < 0.1 * top
        assert 0.9 * top < high <= top
        assert "percentiles 0.5 and 99.5 of 12 pictures" in told[0]


def test_the_range_of_the_type_that_most_pictures_leave_unused_is_warned_of(tmp_path: Path) -> None:
    data = SimCLRDataModule("folder", folder(tmp_path, 4095), batch_size=4, views=PLAIN, scale="dtype", num_workers=0)
    with pytest.warns(UserWarning, match=r"0 to 65,535, of which they use .*--data\.scale percentile"):
        images = clean_pictures(data)
    assert images.max() <= 0.065  # 4,095 of 65,535, and the overshoot of a filter
    assert data.hparams["scale"] == "dtype"


@pytest.mark.parametrize("scale", [None, "dtype"])
def test_bytes_are_neither_looked_at_nor_scaled(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = in_memory(torch.randint(100, (8, 3, 32, 32), dtype=torch.uint8), scale=scale)
    monkeypatch.setattr(InMemoryPictures, "read", None)
    data.setup("fit")
    assert data.scaling == (None, "", "", scale)
    assert data.state_dict() == ({} if scale is None else {"scale": "dtype"})


@pytest.mark.filterwarnings("ignore:.*is read in part")
@pytest.mark.parametrize("name", ["dark.npy", "dark.npz", "dark.tif", "stack.tif"])
@pytest.mark.parametrize("scale", [None, "dtype"])
def test_bytes_of_any_file_are_bytes(tmp_path: Path, name: str, scale: Any) -> None:
    for number in range(4):
        path = tmp_path / "tiles" / f"{number}_{name}"
        path.parent.mkdir(exist_ok=True)
        dark = smooth(number, 20, np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None]
        if path.suffix == ".tif":
            tifffile = pytest.importorskip("tifffile")
            tifffile.imwrite(path, dark, photometric="minisblack", metadata={"axes": ("CYX", "ZYX")["stack" in name]})
        elif path.suffix == ".npy":
            np.save(path, dark)
        else:
            np.savez(path, image=dark)
    data = SimCLRDataModule("folder", tmp_path / "tiles", batch_size=4, views=PLAIN, scale=scale, num_workers=0)
    images = clean_pictures(data)
    assert data.scaling == (None, "", "", scale)
    assert images.shape[1] == (3 if "stack" in name else 5)
    assert 0 < images.max() <= 25 / 255


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.rand(4, 2, 32, 32), "dtype"),  # as ToTensor makes them
        (torch.rand(4, 2, 32, 32) * 1.5, None),
        (torch.rand(4, 2, 32, 32) * 0.1, None),
        (torch.randn(4, 2, 32, 32), None),
        ((torch.rand(4, 2, 32, 32) * 65535).to(torch.uint16), "dtype"),
        ((torch.rand(4, 2, 32, 32) * 30000).to(torch.int16), None),
    ],
)
def test_what_is_done_where_nothing_was_typed(images: Tensor, expected: str | None) -> None:
    data = in_memory(images)
    found = clean_pictures(data)
    assert data.hparams["scale"] == expected or isinstance(data.hparams["scale"], list)
    assert (data.hparams["scale"] == "dtype") == (expected == "dtype")
    assert found.min() < 0.05
    assert found.max() > 0.95


@pytest.mark.parametrize("scale", [[0, 4095], [[0, 10], [4095, 2000]], "percentile", "percentile_per_band"])
@pytest.mark.parametrize("cache", [False, True])
def test_typed_and_measured_ranges(scale: Any, cache: bool) -> None:
    images = (torch.rand(9, 2, 32, 32) * 4096).to(torch.uint16)
    data = in_memory(images, scale=scale, cache=cache)
    found = clean_pictures(data)
    low, high = (torch.tensor(end).reshape(-1, 1, 1) for end in data.hparams["scale"])
    assert torch.equal(found, ((images[:4].float() - low) / (high - low)).clamp(0, 1))
    assert len(data.hparams["scale"]) == 2
    assert data.hparams_initial["scale"] == data.hparams["scale"]  # what loggers and checkpoints get


def test_every_band_has_a_range_of_its_own() -> None:
    images = torch.stack([smooth_tensor(10, 4000), smooth_tensor(11, 900), smooth_tensor(12, 60000)]).expand(
        5, -1, -1, -1
    )
    data = in_memory(images.contiguous(), scale="percentile_per_band", views=ViewRecipe(size=64, eval_crop=1.0))
    found = clean_pictures(data)
    assert (found.amax((0, 2, 3)) == 1).all()
    assert (found.amin((0, 2, 3)) == 0).all()
    assert len(data.hparams["scale"][0]) == 3


def smooth_tensor(seed: int, top: float) -> Tensor:
    return torch.from_numpy(smooth(seed, top))


@pytest.mark.parametrize(
    "scale", ["percentiles", [3], [5, 1], [1, 2, 3], [[1], [2, 3]], [0, float("inf")], "", [["a"], ["b"]]]
)
def test_what_is_no_scale(scale: Any) -> None:
    with pytest.raises(InputError, match=r"scale is .*--data\.scale"):
        SimCLRDataModule("digits", scale=scale)


def test_a_scale_of_other_bands() -> None:
    with pytest.raises(InputError, match="The scale has 3 numbers, the pictures 2"):
        in_memory(torch.rand(4, 2, 8, 8), scale=[[0, 0, 0], [1, 1, 1]]).setup()


def test_the_sample_is_the_seeds_and_reads_256_pictures_at_most() -> None:
    pictures = InMemoryPictures(torch.arange(1000).to(torch.uint16).view(-1, 1, 1, 1), torch.zeros(1000).long())
    first, again, other = (scaling_of_set("percentile", pictures, torch.arange(1000), seed) for seed in (0, 0, 1))
    assert first == again != other
    assert "of 256 pictures" in first.told


def test_pictures_of_several_types() -> None:
    images = [torch.full((1, 8, 8), 200, dtype=torch.uint8), torch.full((1, 8, 8), 9000, dtype=torch.uint16)]
    found = scaling(None, sampled(images))
    assert (found.range, found.plain) == (None, "dtype")
    assert "uint16 and uint8, and each is scaled by the range of its own type" in found.warning
    assert scaling([0, 9], sampled(images)).range == ValueRange(0, 9)


def test_what_is_no_number_does_not_count() -> None:
    picture = torch.linspace(0, 50, 4096).view(1, 64, 64).repeat(2, 1, 1)
    picture[0, :10] = torch.nan
    picture[0, 20] = torch.inf
    found = scaling("percentile", sampled([picture])).range
    assert found is not None
    assert 0 < float(np.asarray(found.low)) < 1
    assert 49 < float(np.asarray(found.high)) < 50
    empty = scaling("percentile_per_band", sampled([torch.stack([picture[1], picture[1] * torch.nan])])).range
    assert empty is not None
    assert np.asarray(empty.high)[1] == 1


@pytest.mark.parametrize("value", [0, 700])
def test_pictures_of_one_value(value: int) -> None:
    images = torch.full((4, 1, 8, 8), value, dtype=torch.uint16)
    assert clean_pictures(in_memory(images, views=ViewRecipe("grayscale", size=8))).isfinite().all()


def test_mostly_black_pictures() -> None:
    images = torch.zeros(4, 1, 64, 64, dtype=torch.uint16)
    images[0, 0, 5, 5] = 900  # less than the half percent that is clipped
    data = in_memory(images, views=ViewRecipe("grayscale", size=64))
    assert clean_pictures(data).max() == 1


def test_an_encoders_range_wins_over_what_is_measured_and_not_over_what_is_typed() -> None:
    images = (torch.rand(4, 2, 32, 32) * 4096).to(torch.uint16)
    for scale in (None, "percentile", "dtype"):
        data = in_memory(images, scale=scale)
        data.adopt_scale([10.0, 99.0])
        data.setup("fit")
        assert data.scaling == known_scaling([10.0, 99.0], "as the checkpoint has it")
        assert data.hparams["scale"] == [10.0, 99.0]
    typed = in_memory(images, scale=[0, 2000])
    typed.adopt_scale([10.0, 99.0])
    assert clean_pictures(typed).shape == (4, 2, 32, 32)
    assert typed.hparams["scale"] == [0, 2000]
    late = in_memory(images)
    late.setup("fit")
    late.load_state_dict({"scale": [10.0, 99.0]})  # as a Trainer that resumes
    assert late.scaling.range == ValueRange(10, 99)
    assert late.state_dict() == {"scale": [10.0, 99.0]}
    classifier = LabelledDataModule.of(late, torch.arange(4), batch_size=2, seed=0, test=None)
    assert classifier.scaling == late.scaling


@pytest.mark.filterwarnings("ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_of_tensors(num_workers: int) -> None:
    class Numbers(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self) -> Any:
            return iter([torch.full((13, 32, 32), 100 * k, dtype=torch.uint16) for k in range(32)])

    data = SimCLRDataModule(Numbers, batch_size=8, views=PLAIN, num_workers=num_workers)
    data.setup("fit")
    low, high = data.hparams["scale"]
    batch = next(iter(data.train_dataloader()))
    (views,) = data.on_after_batch_transfer(batch, 0).views
    values = (torch.arange(8) * 100.0 - low) / (high - low)
    assert torch.allclose(views, values.clamp(0, 1).view(1, 8, 1, 1, 1).expand_as(views), atol=1e-6)


def test_a_stream_of_ones_own() -> None:
    from simclr_lightning.views import ImageBatch

    class Own:
        in_channels = 13

        def batches(self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int) -> Any:
            for _ in range(2 if split == "train" else 0):
                images = torch.full((batch_size, 13, 32, 32), 1500, dtype=torch.uint16)
                yield ImageBatch(images, None, torch.full((batch_size,), -1), torch.arange(batch_size))

    data = SimCLRDataModule(Own, batch_size=4, views=PLAIN, num_workers=0, scale=[0.0, 3000.0])
    data.setup("fit")
    (views,) = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0).views
    assert torch.allclose(views, torch.tensor(0.5))


@pytest.mark.filterwarnings("ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_files_and_workers(tmp_path: Path, num_workers: int, cache: bool, dtype: type) -> None:
    for k in range(8):
        np.save(tmp_path / f"{k}.npy", np.stack([smooth(k + 20 * band, 3000, dtype) for band in range(13)]))
    recipe = ViewRecipe(size=32, jitter=0.0, grey=0.0, blur=0.0, eval_size=64, eval_crop=1.0)
    options: Any = {"batch_size": 8, "views": recipe, "num_workers": num_workers, "cache": cache, "scale": [0, 3000]}
    data = SimCLRDataModule("folder", tmp_path, **options)
    images = clean_pictures(data)
    assert data.in_channels == 13
    expected = torch.stack([data.splits.train.pictures.read(k) for k in range(8)]).float() / 3000
    assert torch.equal(images, expected)
    (views,) = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0).views
    assert views.shape == (2, 8, 13, 32, 32)
    alone = SimCLRDataModule("folder", tmp_path, **{**options, "num_workers": 0, "cache": not cache})
    alone.setup("fit")
    (others,) = alone.on_after_batch_transfer(next(iter(alone.train_dataloader())), 0).views
    assert torch.allclose(views, others, atol=1e-5)  # cropped in a worker, or on the device


def test_a_folder_of_several_types_is_not_cached(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((13, 32, 32), np.uint16))
    np.save(tmp_path / "b.npy", np.zeros((13, 32, 32), np.float32))
    with pytest.raises(InputError, match=r"b\.npy is of type float32, the pictures before it of uint16.*cache false"):
        SimCLRDataModule("folder", tmp_path, cache=True, views=PLAIN).setup()
