"""The real command on tiny data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_lightning.console import main

Simclr = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole commands run much code that is not ours: its warnings are no errors here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture
def simclr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Simclr:
    """Runs `simclr ...` in this process, with relative paths in a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", ["simclr", *map(str, arguments)])
        try:
            main()
        finally:
            if sys.modules.get("wandb"):  # a command is a process elsewhere, whose run and service end with it:
                sys.modules["wandb"].finish()
                sys.modules["wandb"].teardown()  # the service writes on its own time

    return run


@pytest.fixture
def write_pictures(tmp_path: Path) -> Callable[..., Path]:
    """Writes eight JPEGs into each of some folders below a root in the temporary folder; gives the root."""

    def write(root: str, folders: list[str], *, smallest: int = 20, largest: int = 28) -> Path:
        rng = np.random.default_rng(0)
        for number, folder in enumerate(folders):
            (tmp_path / root / folder).mkdir(parents=True)
            for index in range(8):
                height, width = rng.integers(smallest, largest + 1, size=2)
                pixels = rng.integers(0, 128, (height, width, 3), dtype=np.uint8) + 60 * (number % 3)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / root / folder / f"{index}.jpg")
        return tmp_path / root

    return write


@pytest.fixture
def photos(write_pictures: Callable[..., Path]) -> Path:
    """A tree of labelled pictures of different sizes, with a training, a validation and a test part."""
    return write_pictures(
        "photos", [f"{split}/{label}" for split in ("train", "val", "test") for label in ("cat", "dog")]
    )


@pytest.fixture
def fashion_mnist(tmp_path: Path) -> Path:
    """Folder with 120 and 20 pictures of ten classes in Fashion-MNIST's own files."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, number in (("train", 120), ("t10k", 20)):
        pixels = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        for kind, values in (("images-idx3", pixels), ("labels-idx1", np.arange(number, dtype=np.uint8) % 10)):
            head = np.array([0x800 + values.ndim, *values.shape], dtype=">i4")
            (raw / f"{part}-{kind}-ubyte").write_bytes(head.tobytes() + values.tobytes())
    return tmp_path / "data"
