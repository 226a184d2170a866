from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_lightning.data import InMemoryPictures
from simclr_lightning.data.folder import scan
from simclr_lightning.data.label_list import listed_positions
from simclr_lightning.data.pictures import FilePictures

FILES = ["n01440764/n01440764_18.JPEG", "n01440764/n01440764_2.JPEG", "n01443537/n01443537_3.JPEG", "n01443537/x.png"]


@pytest.fixture
def pictures(write_tree: Callable[..., Path]) -> FilePictures:
    """In the order of their names, which is that of FILES."""
    return scan(write_tree("train", FILES, side=8))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["n01443537_3.JPEG", "n01440764_18.JPEG"], [0, 2]),  # as the official lists are
        (["n01443537/n01443537_3.JPEG", "n01440764/n01440764_2.JPEG"], [1, 2]),
        (["imagenet/train/n01443537/x.png"], [3]),  # folders above the root
        (["", "  x.png  ", "x.png", ""], [3]),
    ],
)
def test_names_with_or_without_folders_are_found(
    pictures: FilePictures, tmp_path: Path, lines: list[str], expected: list[int]
) -> None:
    path = tmp_path / "1percent.txt"
    path.write_text("\n".join(lines))
    assert listed_positions(pictures, path).tolist() == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["n01440764_18.JPEG", "nothing.JPEG", "n01440764/x.png"], r"2 of the 3 pictures.*: n01440764/x.png, nothing"),
        ([f"{number}.JPEG" for number in range(7)], r"7 of the 7 .*: 0.JPEG, .*4.JPEG, \.\.\..*--data\.root"),
        (["", " "], "is empty"),
    ],
)
def test_names_that_are_not_there_are_an_error(
    pictures: FilePictures, tmp_path: Path, lines: list[str], message: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        listed_positions(pictures, path)


def test_a_name_that_several_pictures_have_needs_its_folder(write_tree: Callable[..., Path], tmp_path: Path) -> None:
    pictures = scan(write_tree("train", ["cat/1.png", "dog/1.png"], side=8))
    path = tmp_path / "list.txt"
    path.write_text("1.png")
    with pytest.raises(ValueError, match=r"names 1\.png, and there are several such files"):
        listed_positions(pictures, path)
    path.write_text("dog/1.png")
    assert listed_positions(pictures, path).tolist() == [1]


def test_a_missing_list_is_an_error(pictures: FilePictures) -> None:
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.txt'.*--data\.label_list"):
        listed_positions(pictures, "nowhere.txt")


def test_pictures_without_files_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("1.png")
    with pytest.raises(ValueError, match="names files, and the training pictures are none"):
        listed_positions(InMemoryPictures(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1)), path)
