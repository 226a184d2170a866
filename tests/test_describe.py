"""What `simclr describe` tells of a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simclr_lightning import SimCLRDataModule
from simclr_lightning.console import main
from simclr_lightning.describe import describe
from simclr_lightning.errors import InputError

Described = Callable[..., dict[str, Any]]


def picture(path: Path, seed: int, *, size: tuple[int, int] = (32, 24), mode: str = "RGB", top: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        values = rng.integers(0, top + 1, size[::-1], dtype=np.uint16)
        values[0, :2] = 0, top
        Image.fromarray(values).save(path)
    else:
        Image.fromarray(rng.integers(0, top + 1, (*size[::-1], 3), dtype=np.uint8)).convert(mode).save(path)


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Described:
    def run(*words: str | Path) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["simclr", "describe", *map(str, words), "--json"])
        main()
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    return run


@pytest.mark.parametrize(
    ("train", "other", "name"),
    [
        ("Training", "Testing", "test"),
        ("Train", "Valid", "val"),
        ("seg_train", "seg_test", "test"),
        ("TRAIN", "dev", "val"),
    ],
)
def test_splits_and_classes(tmp_path: Path, described: Described, train: str, other: str, name: str) -> None:
    for split, count in ((train, 5), (other, 2)):
        for kind in ("glioma", "healthy"):
            for k in range(count):
                picture(tmp_path / split / kind / f"{k}.png", k + 50 * (split == other) + 10 * len(kind))
    told = described(tmp_path)
    assert told["splits"] == {
        "train": {"pictures": 10, "labelled": 10, "classes": {"glioma": 5, "healthy": 5}},
        name: {"pictures": 4, "labelled": 4, "classes": {"glioma": 2, "healthy": 2}},
    }
    assert told["sizes"] == {"smallest": [24, 32], "median": [24, 32], "largest": [24, 32], "different": 1}
    assert (told["channels"], told["bits"]) == ({"3": 14}, {"8": 14})
    assert (told["warnings"], told["unlabelled_splits"], told["duplicates"]) == ([], [], {})
    assert f"the folder {train} is train" in told["notes"]


@pytest.mark.parametrize("top", [4095, 3000, 65535])
def test_depth_and_values_in_use(tmp_path: Path, described: Described, top: int) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k, mode="I;16", top=top)
    picture(tmp_path / "flat.png", 9, mode="L", top=100, size=(10, 8))
    told = described(tmp_path)
    assert told["bits"] == {"8": 1, "16": 3}
    assert told["values"]["16 bits"] == [0, top]
    assert told["values"]["8 bits"][1] <= 100
    assert told["channels"] == {"1": 4}
    assert told["unlabelled_splits"] == ["train"]


def test_what_is_left_out_and_what_cannot_be_read(tmp_path: Path, described: Described) -> None:
    for k in range(3):
        picture(tmp_path / "cat" / f"{k}.jpg", k)
        picture(tmp_path / "dog" / f"{k}.jpg", k + 5)
    (tmp_path / "dog" / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "notes.txt").touch()
    told = described(tmp_path)
    assert told["left_out"] == [{"reason": ".txt: no picture", "files": 1, "example": "notes.txt"}]
    assert list(told["unreadable"]) == [str(tmp_path / "dog" / "bad.jpg")]
    assert (told["headers_read"], told["pixels_read"]) == (6, 6)


def test_a_sample_of_the_pixels_is_read(tmp_path: Path, described: Described) -> None:
    for k in range(7):
        picture(tmp_path / f"{k}.png", k)
    for sample in (0, 3):
        told = described(tmp_path, "--sample", str(sample))
        assert (told["headers_read"], told["pixels_read"]) == (7, sample)
    with pytest.raises(InputError, match="sample is -1"):
        describe(tmp_path, sample=-1)


def test_pictures_in_two_splits_are_a_warning(tmp_path: Path, described: Described) -> None:
    for k in range(4):
        picture(tmp_path / "train" / "ab"[k % 2] / f"{k}.png", k)
        picture(tmp_path / "test" / "ab"[k % 2] / f"other{k}.png", k + 2)
    told = described(tmp_path)
    assert told["duplicates"]["train/test"]["count"] == 2
    assert told["duplicates"]["train/test"]["examples"][0] == [
        str(tmp_path / "train" / "a" / "2.png"),
        str(tmp_path / "test" / "a" / "other0.png"),
    ]
    assert any("2 picture(s) of test are in train as well" in text for text in told["warnings"])


def test_doubtful_labels_are_warned_of(tmp_path: Path, described: Described) -> None:
    for number, name in enumerate(("train/a/1", "train/a/2", "train/b/1", "val/b/1", "val/c/1")):
        picture(tmp_path / f"{name}.png", number)
    warnings = " ".join(described(tmp_path)["warnings"])
    assert "1 class(es) have one training picture: b" in warnings
    assert "The val pictures have classes that the labelled pictures lack: c" in warnings or "lack: c" in warnings


def test_flat_validation_pictures_are_warned_of(tmp_path: Path, described: Described) -> None:
    for number, name in enumerate(("train/a/1", "train/a/2", "train/b/1", "train/b/2", "val/1", "val/2")):
        picture(tmp_path / f"{name}.png", number)
    told = described(tmp_path)
    assert told["unlabelled_splits"] == ["val"]
    assert any("pictures are unlabelled, so nothing is judged by them" in text for text in told["warnings"])


def test_labels_of_a_table(tmp_path: Path, described: Described) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    (tmp_path / "labels.csv").write_text("file,label\n0.png,x\n1.png,y\n")
    told = described(tmp_path, "--labels", tmp_path / "labels.csv")
    assert told["splits"]["train"] == {"pictures": 3, "labelled": 2, "classes": {"x": 1, "y": 1}}


def test_the_table_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "[set 1]"
    for k in range(6):
        picture(root / "train" / ("cat", "[dog]")[k % 2] / f"{k}.png", k)
    picture(root / "train" / "stray.png", 9)
    monkeypatch.setattr(sys, "argv", ["simclr", "describe", str(root)])
    main()
    out = " ".join(capsys.readouterr().out.split())
    for text in (
        "[set 1]",
        "train 7 (2 classes: [dog] 3, cat 3, 1 unlabelled)",
        "24 x 32",
        "8 in 7",
        "Warning: 1 of the 7",
    ):
        assert text in out


def test_a_missing_folder_is_named_by_this_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*\(--root"):
        describe(tmp_path / "nowhere")


@pytest.mark.filterwarnings("ignore")
def test_the_start_summary_says_it_in_short_and_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(4):
        picture(tmp_path / "Train" / "ab"[k % 2] / f"{k}.png", k)
    picture(tmp_path / "Valid" / "x.png", 7)
    (tmp_path / "notes.txt").touch()
    data = SimCLRDataModule(root=tmp_path)
    monkeypatch.setattr(Image, "open", None)
    data.setup()
    assert data.summary() == {
        "pictures": "train 4 (2 classes: a 2, b 2), val 1 (unlabelled), test is val",
        "left out": "1 x .txt: no picture (notes.txt)",
        "found": "the folder Train is train; the folder Valid is val",
    }
