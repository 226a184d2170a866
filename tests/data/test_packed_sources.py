"""Tar shards are packed as a folder would be."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_lightning.data.packed import packed_sets
from simclr_lightning.data.packed_sources import packed_sources
from simclr_lightning.errors import InputError, MissingFileError


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_samples_are_found_with_their_labels(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "photos-000.tar",
        {
            "a/0001.cls": "1",  # before its picture
            "a/0001.png": picture(1),
            "a/0002.jpg": picture(2),
            "a/0002.json": json.dumps({"caption": "a dog", "label": 0}),
            "a/0002.seg.png": picture(99),  # another part of the sample, as WebDataset has it
            "b/0002.PNG": picture(3),
            "b/0002.txt": "no label",
            "._0003.png": "what a Mac leaves behind",
        },
    )
    write_shard(tmp_path / "photos-001.tar", {"0001.png": picture(4), "0001.json": "[]", "0001.cls": ""})
    source = packed_sources(tmp_path)["train"]
    names = ["000.tar/a/0001.png", "000.tar/a/0002.jpg", "000.tar/b/0002.PNG", "001.tar/0001.png"]
    assert source.names.tolist() == [f"photos-{name}".encode() for name in names]
    assert source.targets.tolist() == [1, 0, -1, -1]
    assert source.class_names is None
    assert [source.read(position) for position in range(4)] == [picture(shade) for shade in (1, 2, 3, 4)]
    assert source.nbytes.tolist() == [len(picture(shade)) for shade in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "names",
    [
        ("train/0.tar", "val/0.tar"),
        ("x-train-0.tar", "x_validation_0.tar"),
        ("0.tar", "valid.0.tar"),
        ("Training/0.tar", "x-dev-0.tar"),
    ],
)
def test_shards_tell_their_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        write_shard(tmp_path / name, {"1.png": picture(number), "1.cls": ["cat", "dog"][number]})
    sources = packed_sources(tmp_path)
    assert list(sources) == ["train", "val"]
    assert [source.read(0) for source in sources.values()] == [picture(0), picture(1)]
    assert [source.targets.tolist() for source in sources.values()] == [[0], [1]]
    assert sources["val"].class_names == ["cat", "dog"]  # of all splits


def test_what_is_no_split_is_part_of_a_name(tmp_path: Path) -> None:
    write_shard(tmp_path / "contest-latest-0.tar", {"1.png": picture(1)})
    assert list(packed_sources(tmp_path)) == ["train"]


def test_shards_are_packed_and_read(tmp_path: Path) -> None:
    pytest.importorskip("litdata")
    from simclr_lightning.data.packed_writer import pack_pictures

    for shard in range(3):
        members = {f"{n}.png": picture(20 * shard + n) for n in range(5)} | {f"{n}.cls": str(n % 2) for n in range(5)}
        write_shard(tmp_path / "shards" / f"{shard}.tar", members)
    sets = packed_sets(pack_pictures(tmp_path / "shards", tmp_path / "packed"))
    assert [int(sets.train.read(position)[0, 0, 0]) for position in range(15)] == [
        20 * s + n for s in range(3) for n in range(5)
    ]
    assert sets.train.targets.tolist() == [0, 1, 0, 1, 0] * 3
    assert not list(tmp_path.rglob("*.png"))  # nothing was unpacked


@pytest.mark.parametrize("kind", ["cut", "gzip", "none", "cut header", "no end"])
def test_what_is_no_plain_shard_is_named(tmp_path: Path, kind: str) -> None:
    path = write_shard(tmp_path / "7.tar", {"1.png": picture(1), "1.cls": "3", "2.png": picture(2)})
    whole = path.read_bytes()
    content = {
        "cut": whole[:2700],  # within the last picture
        "cut header": whole[:2100],
        "no end": whole[:3072],  # after it
        "gzip": gzip.compress(whole),
        "none": b"x" * 600,
    }
    path.write_bytes(content[kind])
    with pytest.raises(InputError, match=r"Cannot read the shard .*7\.tar: .*Shards are plain \.tar files"):
        packed_sources(tmp_path)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("1.json", "{", r"Cannot read the label in .*7\.tar: 1\.json"),
        ("1.json", '{"label": [1, 2]}', r"label in .*1\.json is \[1, 2\]: expected the number or the name of a class"),
        ("1.json", '{"label": true}', "is True: expected the number or the name"),
        ("1.json", '{"label": 1.5}', "is 1.5: expected the number or the name"),
        ("1.cls", b"\xff\xfe", r"Cannot read the label in .*1\.cls"),
        ("1.cls", "dog", r"Some labels in .* are numbers and some names, such as 'dog'"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path: Path, member: str, content: str | bytes, message: str) -> None:
    write_shard(tmp_path / "7.tar", {"0.png": picture(0), "0.cls": "3", "1.png": picture(1), member: content})
    with pytest.raises(InputError, match=message):
        packed_sources(tmp_path)


def test_shards_without_pictures_are_told(tmp_path: Path) -> None:
    write_shard(tmp_path / "val" / "0.tar", {"1.png": picture(1)})
    with pytest.raises(MissingFileError, match=r"no picture to train on in the 1 tar file\(s\)"):
        packed_sources(tmp_path)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no folder"):
        packed_sources(tmp_path / "nowhere")
