"""Data sets of Hugging Face: from a folder or the hub, columns found or named. Needs the extra hf."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning import SimCLRDataModule
from simclr_lightning.data import find_source
from simclr_lightning.data.pictures import PictureSets
from simclr_lightning.errors import InputError

NAMES = ["cat", "dog", "owl"]
Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package itself


@pytest.fixture
def hf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The package, with its cache in a temporary folder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    return pytest.importorskip("datasets")


def picture(number: int) -> Image.Image:
    """Of a size and with pixels of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 3, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def made(hf: Any) -> Callable[..., Any]:
    """A data set of some pictures, with the columns that are asked for."""

    def make(number: int, *, image: str = "image", label: Any = "label", more: dict[str, Any] | None = None) -> Any:
        columns: dict[str, Any] = {image: [picture(k) for k in range(number)]}
        kinds: dict[str, Any] = {image: hf.Image()}
        if label is not None:
            columns[label] = [k % 3 for k in range(number)]
            kinds[label] = hf.ClassLabel(names=NAMES)
        for name, (kind, values) in (more or {}).items():
            columns[name], kinds[name] = values, kind
        return hf.Dataset.from_dict(columns, features=hf.Features(kinds))

    return make


def loaded(address: str, root: Path) -> PictureSets:
    sets = find_source(address).load(str(root), False)
    assert isinstance(sets, PictureSets)
    return sets


def test_a_folder_of_save_to_disk(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    parts = {"train": made(9), "validation": made(4), "test": made(5), "extra": made(2)}
    hf.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    sets = loaded(f"hf:{tmp_path / 'saved'}", tmp_path)
    assert [len(part) for part in sets if part is not None] == [9, 4, 5]
    assert sets.train.class_names == NAMES
    assert sets.train.targets.tolist() == [k % 3 for k in range(9)]
    for number in (0, 5):
        expected = torch.from_numpy(np.array(picture(number))).permute(2, 0, 1)
        assert torch.equal(sets.train.read(number), expected)
    assert sets.train.name(5) == f"Picture 5 of hf:{tmp_path / 'saved'}"


def test_one_set_without_splits_or_labels(made: Callable[..., Any], tmp_path: Path) -> None:
    made(4, image="photo", label=None).save_to_disk(tmp_path / "saved")
    sets = loaded(f"hf:{tmp_path / 'saved'}", tmp_path)
    assert sets.train.targets.tolist() == [-1] * 4
    assert (sets.train.class_names, sets.val, sets.test) == (None, None, None)


def test_a_folder_of_parquet(made: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made(6).to_parquet(tmp_path / "files" / "train-0.parquet")
    made(3).to_parquet(tmp_path / "files" / "test-0.parquet")
    sets = loaded(f"hf:{tmp_path / 'files'}", tmp_path)
    assert (len(sets.train), sets.test is not None and len(sets.test)) == (6, 3)
    assert sets.val is sets.test
    assert sets.train.class_names == NAMES


def test_labels_that_are_names(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    words = {"label": (hf.Value("string"), ["owl", "cat", None, "cat"])}
    made(4, label=None, more=words).save_to_disk(tmp_path / "saved")
    train = loaded(f"hf:{tmp_path / 'saved'}", tmp_path).train
    assert (train.targets.tolist(), train.class_names) == ([1, 0, -1, 0], ["cat", "owl"])


def test_columns_are_named_where_there_are_several(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    coarse = (hf.ClassLabel(names=["a", "b"]), [0, 1, 0, 1])
    mask = (hf.Image(), [Image.new("RGB", (3, 3))] * 4)
    made(4, label="fine", more={"coarse": coarse, "mask": mask}).save_to_disk(tmp_path / "saved")
    address = f"hf:{tmp_path / 'saved'}"
    with pytest.raises(InputError, match=r"several columns for image: image, mask.*\?image=image"):
        loaded(address, tmp_path)
    with pytest.raises(InputError, match=r"several columns for label: fine, coarse.*\?label=fine"):
        loaded(f"{address}?image=mask", tmp_path)
    train = loaded(f"{address}?image=mask&label=coarse", tmp_path).train
    assert (train.read(0).shape, train.class_names) == ((3, 3, 3), ["a", "b"])
    with pytest.raises(InputError, match="has no column called 'mouse'; it has image, fine, coarse, mask"):
        loaded(f"{address}?image=mouse", tmp_path)


def test_a_set_without_pictures(hf: Any, tmp_path: Path) -> None:
    hf.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="has no column of pictures; it has text"):
        loaded(f"hf:{tmp_path / 'saved'}", tmp_path)


def test_splits_are_named_as_folders_may_be(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    hf.DatasetDict({"Training": made(4), "dev": made(3), "Testing": made(2)}).save_to_disk(tmp_path / "saved")
    assert [len(part) for part in loaded(f"hf:{tmp_path / 'saved'}", tmp_path) if part is not None] == [4, 3, 2]


def test_others_beside_the_one_to_train_on_are_not_used(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    hf.DatasetDict({"extra": made(3), "train": made(4)}).save_to_disk(tmp_path / "saved")
    sets = loaded(f"hf:{tmp_path / 'saved'}", tmp_path)
    assert (len(sets.train), sets.val, sets.test) == (4, None, None)


def test_splits_without_one_to_train_on(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    hf.DatasetDict({"test": made(2), "validation": made(2)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="no split train to learn from, only test, validation"):
        loaded(f"hf:{tmp_path / 'saved'}", tmp_path)


def test_a_broken_picture_is_named(hf: Any, tmp_path: Path) -> None:
    good = io.BytesIO()
    picture(0).save(good, "PNG")
    rows = {"image": [{"bytes": content, "path": None} for content in (good.getvalue(), b"no picture")]}
    hf.Dataset.from_dict(rows, features=hf.Features({"image": hf.Image()})).save_to_disk(tmp_path / "saved")
    train = loaded(f"hf:{tmp_path / 'saved'}", tmp_path).train
    assert train.read(0).shape == (3, 20, 24)
    with pytest.raises(InputError, match="Cannot read Picture 1 of hf:"):
        train.read(1)


def test_a_name_is_looked_up_on_the_hub(
    hf: Any, made: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_dataset(path: str, name: str | None, *, cache_dir: str, download_config: Any) -> Any:
        asked.append((path, name, cache_dir, download_config.local_files_only))
        return hf.DatasetDict({"train": made(4)})

    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    data = SimCLRDataModule("hf:someone/birds?config=small", root=tmp_path, batch_size=2, num_workers=0)
    data.prepare_data()
    data.setup()
    assert asked == [("someone/birds", "small", str(tmp_path), offline) for offline in (False, True)]
    assert data.class_names == NAMES


@pytest.mark.usefixtures("hf")
def test_what_is_nowhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("datasets.config", "huggingface_hub.constants"):  # else it asks again and again
        monkeypatch.setattr(f"{place}.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="'hf:nowhere/none' is no data set that could be read") as error:
        loaded("hf:nowhere/none", tmp_path)
    assert str(error.value).count("\n") < 3


@pytest.mark.parametrize("address", ["hf:", "hf:birds?picture=image", "hf:birds?image"])
def test_an_address_that_cannot_be_read(address: str) -> None:
    with pytest.raises(InputError, match="Cannot read the data set"):
        SimCLRDataModule(address)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    present = builtins.__import__

    def absent(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return present(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r'pip install "simclr-lightning\[hf\]"'):
        loaded("hf:birds", tmp_path)


def test_views_of_a_batch(hf: Any, made: Callable[..., Any], tmp_path: Path) -> None:
    hf.DatasetDict({"train": made(9), "test": made(3)}).save_to_disk(tmp_path / "saved")
    data = SimCLRDataModule(f"hf:{tmp_path / 'saved'}", batch_size=4, views="cifar10", num_workers=1)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.crops[0].pixels.shape == (2, 4, 3, 32, 32)
