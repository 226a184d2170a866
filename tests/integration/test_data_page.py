"""Every row of the table of docs/data.md does what it says."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.test_readers import write_dicom

from simclr_lightning.cli import SimCLRCLI

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
ROWS = dict(re.findall(r"^\| (?!what)(.+?) \| (.*`simclr .+`) \|$", PAGE.read_text(), re.MULTILINE))


def write(*names: str, kind: str | None = None) -> None:
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name, kind)


def flat() -> None:
    write(*(f"photos/{k}.jpg" for k in range(8)))


def classes(root: str = "pets") -> None:
    write(*(f"{root}/{kind}/{k}.png" for kind in ("cat", "dog") for k in range(4)))


def scans() -> None:
    classes("scans/Training")
    classes("scans/Testing")


def table(name: str) -> None:
    flat()
    rows = {"file": [f"{k}" for k in range(8)], "label": ["x", "y"] * 4, "split": ["train"] * 6 + ["val"] * 2}
    if name.endswith("csv"):
        Path(name).write_text("file,label\n" + "".join(f"{k}.jpg,{'xy'[k % 2]}\n" for k in range(8)))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").table(rows), name)


def several() -> None:
    flat()
    scans()


def labelled_elsewhere() -> None:
    flat()
    classes()


def damaged() -> None:
    write(*(f"damaged/{k}.jpg" for k in range(8)))
    Path("damaged/9.jpg").write_bytes(b"\xff\xd8\xff")


def phone() -> None:
    pytest.importorskip("pillow_heif")
    write(*(f"phone/IMG_{k}.HEIC" for k in range(4)), kind="HEIF")


def tiles() -> None:
    tifffile = pytest.importorskip("tifffile")
    Path("tiles").mkdir()
    for k in range(4):
        tifffile.imwrite(f"tiles/{k}.tif", numbers(k, 13, 20, 24), photometric="minisblack", planarconfig="separate")


def xrays() -> None:
    Path("xrays").mkdir()
    for k in range(4):
        write_dicom(Path(f"xrays/IM{k:04}" if k else "xrays/0.dcm"), numbers(k, 20, 24))


def arrays() -> None:
    Path("arrays").mkdir()
    for k in range(4):
        np.save(f"arrays/{k}.npy", numbers(k, 20, 24))


def one_file() -> None:
    np.savez("cells.npz", train_images=numbers(0, 8, 20, 24, 3), train_labels=np.arange(8) % 2)


def numbers(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)


INPUTS: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {  # by a word of the row: input, pictures by split
    "pictures in any folder": (flat, {"train": 8}),
    "a folder a class": (classes, {"train": 8}),
    "Training": (scans, {"train": 8, "val": 8, "test": 8}),
    "archive": (lambda: classes("archive/pets"), {"train": 8, "labelled": 8}),
    "several": (several, {"train": 16, "test": 8}),
    "[set 1]": (lambda: classes("[set 1]"), {"train": 8, "labelled": 8}),
    "a table of their labels": (lambda: table("labels.csv"), {"train": 8, "labelled": 8}),
    "as parquet": (lambda: table("labels.parquet"), {"train": 6, "val": 2}),
    "elsewhere": (labelled_elsewhere, {"train": 8, "labelled": 8}),
    "without a validation part": (classes, {"train": 6, "val": 2}),
    "different sizes": (scans, {"train": 8, "test": 8}),
    "cannot be read": (damaged, {"train": 9}),
    "phone": (phone, {"train": 4}),
    "many bands": (tiles, {"train": 4}),
    "X-rays": (xrays, {"train": 4}),
    "one array a file": (arrays, {"train": 4}),
    "in one file": (one_file, {"train": 8, "labelled": 8}),
    "no pictures yet": (lambda: None, {"train": 1437, "test": 360}),
}


def test_the_table_is_found() -> None:
    assert len(ROWS) >= len(INPUTS)


@pytest.mark.parametrize("row", ROWS)
def test_row(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = [word for word in INPUTS if word in row]
    make, expected = INPUTS[own]
    monkeypatch.chdir(tmp_path)
    make()
    monkeypatch.setattr(SimCLRCLI, "_run_subcommand", lambda self, subcommand: None)
    (command,) = re.findall(r"`(simclr .+?)`", ROWS[row])
    small = ["--model.encoder", "resnet8", "--model.width", "0.125", "--trainer.accelerator", "cpu"]
    quick = ["--data.batch_size", "4", "--data.num_workers", "0", "--data.views.size", "16"]
    quick = quick[:4] if own in ("no pictures yet", "many bands") else quick  # which have views of their own
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *small, *quick])
    data = SimCLRCLI().datamodule
    data.setup("fit")
    splits = data.splits
    found = {name: getattr(splits, name) for name in expected}
    assert {name: part and len(part.positions) for name, part in found.items()} == expected
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.views[0].shape[:2] == (2, 4)
