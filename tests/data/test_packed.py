"""Packed pictures are those of the folder: files, names, labels, positions, views."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.conftest import WriteTree

from simclr_lightning import LabelledDataModule, SimCLRDataModule
from simclr_lightning.data import packed as reader
from simclr_lightning.data import packed_writer as writer
from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.feature_batches import FeatureBatch
from simclr_lightning.data.folder import folder_sets
from simclr_lightning.data.order import uniform_order
from simclr_lightning.data.packed import PackedPictures, order_of, packed_sets
from simclr_lightning.data.packed_sources import PackedSource
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.data.pictures import FilePictures
from simclr_lightning.errors import ExistingFileError, InputError, MissingFileError, MissingPackageError

litdata = pytest.importorskip("litdata")

NAMES = [f"{label}/{number}.png" for label in ("cat", "dog", "élan") for number in range(20)]
TREE = [f"{split}/{name}" for split in ("train", "val", "test") for name in NAMES]


@pytest.fixture
def photos(write_tree: WriteTree) -> Path:
    return write_tree("photos", TREE)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of some pictures, instead of a MiB."""
    plan = writer._Plan
    monkeypatch.setattr(writer, "_Plan", lambda split, source, _: plan(split, source, 8_000))


@pytest.fixture
def packed(photos: Path, tmp_path: Path, small_chunks: None) -> Path:
    return pack_pictures(photos, tmp_path / "packed")


def data_module(dataset: str, root: Path, **options: Any) -> SimCLRDataModule:
    given: dict[str, Any] = {"batch_size": 12, "views": "cifar10", "num_workers": 0, **options}
    data = SimCLRDataModule(dataset, root, **given)
    data.setup("fit")
    return data


def test_a_packed_set_is_the_folder(photos: Path, packed: Path) -> None:
    chunks = json.loads((packed / "train" / "index.json").read_text())["chunks"]
    assert len(chunks) > 8
    for there, here in zip(folder_sets(photos), packed_sets(packed), strict=True):
        assert isinstance(there, FilePictures)
        assert isinstance(here, PackedPictures)
        assert here.files.tolist() == there.files.tolist()
        assert torch.equal(here.targets, there.targets)
        assert here.class_names == there.class_names == ["cat", "dog", "élan"]
        for position in range(len(there)):
            assert here.content(position) == there.path(position).read_bytes()
            assert torch.equal(here.read(position), there.read(position))
            assert here.size(position) == there.size(position)
        assert here.path(3).relative_to(packed) == there.path(3).relative_to(photos)  # what embed calls it


def test_training_pictures_are_spread_over_the_chunks_and_others_are_in_order(packed: Path) -> None:
    sets = packed_sets(packed)
    train, val = sets.train, sets.val
    assert isinstance(train, PackedPictures)
    assert isinstance(val, PackedPictures)
    assert val.places.tolist() == list(range(60))
    labels = [set(train.targets[train.chunks(torch.arange(60)) == chunk].tolist()) for chunk in range(8)]
    assert sum(map(len, labels)) > 16  # two or three classes each, where one would be there in the folder's order


@pytest.mark.parametrize("tree", [["1.png", "2.png"], ["val/1.png", "train/2.png"], ["train/1.png"]])
def test_what_serves_for_what_is_as_in_the_folder(write_tree: WriteTree, tmp_path: Path, tree: list[str]) -> None:
    photos = write_tree("photos", tree)
    there, here = folder_sets(photos), packed_sets(pack_pictures(photos, tmp_path / "packed"))
    for one, other in zip(there, here, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert Path(one.name(0)).name == Path(other.name(0).split(": ")[-1]).name
    assert (there.val is there.test) == (here.val is here.test)
    train = here.train
    assert isinstance(train, PackedPictures)
    assert train.path(0).relative_to(tmp_path / "packed").as_posix() in tree


def test_litdata_reads_what_was_packed(photos: Path, packed: Path) -> None:
    train = packed_sets(packed).train
    assert isinstance(train, PackedPictures)
    items = litdata.StreamingDataset(str(packed / "train"))
    assert len(items) == 60
    for position, place in enumerate(train.places.tolist()):
        content, label = items[place]
        assert bytes(content) == train.content(position)
        assert label == train.targets[position]
    assert not any(entry.suffix not in (".bin", ".json", ".npy") for entry in (packed / "train").iterdir())


def test_views_are_those_of_the_folder(photos: Path, packed: Path) -> None:
    """The order is another, the views of a picture are the same."""
    views: dict[str, dict[int, torch.Tensor]] = {}
    for dataset, root in (("folder", photos), ("packed", packed)):
        data = data_module(dataset, root)
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
        assert len(batches) == 5
        rows = [(int(i), batch.views[0][:, n]) for batch in batches for n, i in enumerate(batch.indices)]
        views[dataset] = dict(rows)
        assert len(views[dataset]) == 60
        assert data.class_names == ["cat", "dog", "élan"]
    assert all(torch.equal(views["packed"][position], view) for position, view in views["folder"].items())


@pytest.mark.parametrize("options", [{"val_fraction": 0.2}, {"label_fraction": 0.25}, {"cache": True}])
def test_parts_are_those_of_the_folder(write_tree: WriteTree, tmp_path: Path, options: dict[str, Any]) -> None:
    photos = write_tree("photos", NAMES, side=20)
    packed = pack_pictures(photos, tmp_path / "packed")
    there, here = data_module("folder", photos, **options), data_module("packed", packed, **options)
    for one, other in zip(there.splits[:4], here.splits[:4], strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.equal(one.positions, other.positions)
            assert torch.equal(one.pictures.targets, other.pictures.targets)
    seen = torch.cat([batch.indices for batch in here.train_dataloader()])
    assert len(set(seen.tolist())) == len(seen) == len(there.splits.train.positions) // 12 * 12
    for split in ("train", "val"):
        if here.splits.val is not None or split == "train":
            pairs = zip(there.clean_dataloader(split), here.clean_dataloader(split), strict=True)
            assert all(torch.equal(one.images, other.images) for one, other in pairs)


def test_scaled_decoding_and_lists_of_labels_work(write_tree: WriteTree, tmp_path: Path) -> None:
    photos = write_tree("photos", [f"{label}/{number}.jpg" for label in "ab" for number in range(8)], side=200)
    packed = pack_pictures(photos, tmp_path / "packed")
    crops = [_crops(data_module(*of, scaled_decoding=True)) for of in (("folder", photos), ("packed", packed))]
    assert len(crops[0]) == 12
    assert all(torch.equal(crops[1][position], crop) for position, crop in crops[0].items() if position in crops[1])
    (tmp_path / "list.txt").write_text("a/3.jpg\nb/5.jpg\n")
    labelled = LabelledDataModule("packed", packed, batch_size=2, label_list=tmp_path / "list.txt")
    labelled.setup()
    assert labelled.splits.labelled is not None
    assert labelled.splits.labelled.positions.tolist() == [3, 13]


def _crops(data: SimCLRDataModule) -> dict[int, torch.Tensor]:
    """Of the first batch, by position."""
    batch = next(iter(data.train_dataloader()))
    return dict(zip(batch.indices.tolist(), batch.crops[0].pixels.unbind(1), strict=True))


def test_features_are_served_in_the_order_of_their_pictures(packed: Path) -> None:
    data = LabelledDataModule("packed", packed, batch_size=12, augmentation="none", chunk_window=4, num_workers=0)
    data.setup()
    with_pictures = [batch.indices.tolist() for batch in data.train_dataloader()]
    features = FeatureBatch(torch.rand(60, 3), data.splits.train.pictures.targets, torch.arange(60))
    data.serve_features(features)
    assert [batch.indices.tolist() for batch in data.train_dataloader()] == with_pictures
    pictures, positions = data.splits.train
    assert order_of(pictures, positions, 4)(60, 0, 0)[:12].tolist() == with_pictures[0]


@pytest.mark.filterwarnings("ignore:Cannot read")
def test_a_bad_picture_is_named_or_skipped(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train" / "dog" / "7.png").write_bytes(b"no picture")
    packed = pack_pictures(photos, tmp_path / "packed")
    assert "1 of them are no pictures by their headers" in capsys.readouterr().out
    with pytest.raises(
        BadPictureError,
        match=r"packed/train: train/dog/7\.png: cannot identify image file\..*--data.on_bad_picture skip",
    ):
        list(data_module("packed", packed).train_dataloader())
    with pytest.raises(BadPictureError, match=r"dog/7\.png"):
        list(data_module("packed", packed, scaled_decoding=True).train_dataloader())
    skipping = data_module("packed", packed, on_bad_picture="skip")
    seen = torch.cat([batch.indices for batch in skipping.train_dataloader()]).tolist()
    bad = sorted(NAMES).index("dog/7.png")
    assert len(seen) == 60
    assert set(seen) == set(range(60)) - {bad}
    assert torch.nonzero(skipping.splits.train.pictures.bad).tolist() == [[bad]]


def test_a_stopped_run_goes_on_where_it_was(photos: Path, tmp_path: Path, small_chunks: None) -> None:
    whole, output = pack_pictures(photos, tmp_path / "whole"), tmp_path / "packed"
    calls, read = [0], writer._read

    def failing(source: PackedSource, position: int) -> Any:
        calls[0] += 1
        if calls[0] == 40:
            raise OSError("the disk is gone")
        return read(source, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_read", failing)
        with pytest.raises(OSError, match="the disk is gone"):
            pack_pictures(photos, output)
    with pytest.raises(MissingFileError, match="no complete packed set: write it, or finish it, with simclr pack"):
        packed_sets(output)
    done = {path.name: path.stat().st_mtime_ns for path in (output / "train").glob("*.bin")}
    assert done
    pack_pictures(photos, output)
    assert done.items() <= {path.name: path.stat().st_mtime_ns for path in (output / "train").glob("*.bin")}.items()
    files = {path.relative_to(whole): path.read_bytes() for path in sorted(whole.rglob("*")) if path.is_file()}
    assert {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()} == files


def test_a_killed_run_goes_on(photos: Path, tmp_path: Path, small_chunks: None) -> None:
    code = """
import sys, time
from simclr_lightning.data import packed_writer as writer
plan, read = writer._Plan, writer._read
writer._Plan = lambda split, source, _: plan(split, source, 8_000)
writer._read = lambda source, position: (time.sleep(0.05), read(source, position))[1]
writer.pack_pictures(sys.argv[1], sys.argv[2])
"""
    output = tmp_path / "packed"
    process = subprocess.Popen([sys.executable, "-c", code, photos, output], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (output / "train" / "1.index.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(MissingFileError):
        packed_sets(output)
    before = (output / "train" / "chunk-0-0.bin").stat().st_mtime_ns
    sets = packed_sets(pack_pictures(photos, output))
    assert (output / "train" / "chunk-0-0.bin").stat().st_mtime_ns == before
    there = folder_sets(photos).train
    assert all(torch.equal(sets.train.read(position), there.read(position)) for position in range(60))


def test_a_stopped_run_does_not_go_on_with_other_files(photos: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_replace", _until_the_manifest(writer._replace))
        with pytest.raises(KeyboardInterrupt):
            pack_pictures(photos, tmp_path / "packed")
    os.remove(photos / "train" / "cat" / "3.png")
    with pytest.raises(InputError, match="has a part of another set, or the folder has changed since"):
        pack_pictures(photos, tmp_path / "packed")


def _until_the_manifest(replace: Any) -> Any:
    def stopped(path: Path, content: bytes) -> None:
        if path.name == "packed.json":
            raise KeyboardInterrupt
        replace(path, content)

    return stopped


def test_a_file_that_changes_meanwhile_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_read", lambda source, position: (b"other", (1, 1)))
        with pytest.raises(InputError, match=r"\.png changed while it was packed"):
            pack_pictures(photos, tmp_path / "packed")


def test_nothing_is_overwritten(photos: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ExistingFileError, match="exists and is not overwritten"):
        pack_pictures(photos, packed)
    with pytest.raises(ExistingFileError, match="exists and is not overwritten"):
        pack_pictures(photos, photos / "train")
    (tmp_path / "file").touch()
    with pytest.raises(ExistingFileError, match="exists and is not overwritten"):
        pack_pictures(photos, tmp_path / "file")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_chunk_is_found_before_the_training(packed: Path, damage: str) -> None:
    chunk = packed / "train" / "chunk-0-2.bin"
    content = chunk.read_bytes()
    chunk.unlink()
    if damage == "cut":
        chunk.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"1 of the \d+ chunks in .* missing or cut off, such as chunk-0-2.bin"):
        packed_sets(packed)


def test_another_version_is_refused(packed: Path) -> None:
    manifest = json.loads((packed / "packed.json").read_text())
    (packed / "packed.json").write_text(json.dumps({**manifest, "format": "simclr_lightning packed 9"}))
    with pytest.raises(InputError, match=r"format 'simclr_lightning packed 9'.*pack it again"):
        packed_sets(packed)


def test_litdata_is_named_where_it_is_missing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simclr_lightning.errors.find_spec", lambda package: None)
    with pytest.raises(MissingPackageError, match="simclr pack needs litdata: pip install litdata"):
        pack_pictures(photos, tmp_path / "packed")


def test_variables_of_a_cluster_do_not_stop_it(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """litdata's own merge would wait for the seven others."""
    for name, value in {"WORLD_SIZE": "8", "GLOBAL_RANK": "3", "NNODES": "2"}.items():
        monkeypatch.setenv(name, value)
    assert len(packed_sets(pack_pictures(photos, tmp_path / "packed")).train) == 60


@pytest.mark.parametrize("chunk_mib", [0, 5000])
def test_sizes_of_chunks_that_cannot_be_are_refused(photos: Path, tmp_path: Path, chunk_mib: int) -> None:
    with pytest.raises(InputError, match=rf"chunk_mib is {chunk_mib}: choose a number of at least 1 and at most 4,095"):
        pack_pictures(photos, tmp_path / "packed", chunk_mib)


def test_a_file_larger_than_a_chunk_gets_one_of_its_own(write_tree: WriteTree, tmp_path: Path) -> None:
    photos = write_tree("photos", ["1.bmp", "2.bmp", "3.bmp"], side=700)  # 1.4 MiB each
    sets = packed_sets(pack_pictures(photos, tmp_path / "packed", chunk_mib=1))
    assert isinstance(sets.train, PackedPictures)
    assert sorted(sets.train.chunks(torch.arange(3)).tolist()) == [0, 1, 2]
    assert sets.train.read(2).shape == (3, 700, 700)


def test_a_file_that_no_chunk_can_hold_is_named() -> None:
    names, sizes = np.array([b"a.tif", b"b.tif"]), np.array([5, 2**32])
    source = PackedSource(names, sizes, torch.tensor([-1, -1]), None, None, ".", lambda _: b"")
    with pytest.raises(InputError, match=r"b\.tif has 4\.0 GiB: a chunk holds 4 GiB at most"):
        writer._Plan("train", source, 1 << 20)


def test_few_files_are_open_at_a_time(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_OPEN_CHUNKS", 3)
    train, opened = packed_sets(packed).train, len(os.listdir("/proc/self/fd"))
    for position in range(60):
        train.read(position)
    assert len(os.listdir("/proc/self/fd")) <= opened + 3


def test_copies_and_pickles_read_on(packed: Path) -> None:
    train = packed_sets(packed).train
    picture = train.read(5)
    small = pickle.dumps(train)
    assert b"cat/3.png" not in small  # a worker opens the list of names itself
    for other in (pickle.loads(small), copy.copy(train), train.relabelled(torch.full((60,), -1), None)):
        assert torch.equal(other.read(5), picture)
    assert torch.equal(train.read(5), picture)


@pytest.mark.filterwarnings("ignore:num_workers is")
def test_workers_read_the_same(packed: Path) -> None:
    alone, shared = (data_module("packed", packed, num_workers=workers) for workers in (0, 2))
    for one, other in zip(alone.train_dataloader(), shared.train_dataloader(), strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.crops[0].pixels, other.crops[0].pixels)


def test_a_window_is_asked_for_where_there_are_chunks(photos: Path, packed: Path) -> None:
    windowed = data_module("packed", packed, chunk_window=4)
    assert windowed.train_dataloader().sampler.order.window == 4  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="A batch has pictures of 2 of"):
        data_module("packed", packed, chunk_window=2).train_dataloader()
    assert data_module("folder", photos).train_dataloader().sampler.order is uniform_order  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="chunk_window is 4, and the training pictures are not read from chunks"):
        data_module("folder", photos, chunk_window=4).train_dataloader()
    with pytest.raises(InputError, match="chunk_window is 0: choose a number of at least 1"):
        SimCLRDataModule("packed", packed, chunk_window=0)


def test_a_probe_may_be_packed(packed: Path, write_tree: WriteTree) -> None:
    photos = write_tree("unlabelled", [f"{number}.png" for number in range(24)])
    data = data_module("folder", photos, probe=packed)
    assert data.num_classes == 3
    loader = data.probe_dataloader()
    assert loader is not None
    assert sorted(torch.cat([batch.indices for batch in loader]).tolist()) == list(range(60))


def test_the_folder_alone_is_a_packed_set(packed: Path) -> None:
    data = SimCLRDataModule(root=packed)
    data.setup("fit")
    assert data.hparams["dataset"] == "packed"
    assert isinstance(data.splits.train.pictures, PackedPictures)
