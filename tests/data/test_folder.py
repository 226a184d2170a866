from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_lightning.data.folder import find_splits, scan
from simclr_lightning.errors import InputError

WriteTree = Callable[..., Path]


def names(root: Path) -> list[str]:
    found = scan(root)
    return [found.path(position).relative_to(root).as_posix() for position in range(len(found))]


def test_finds_pictures_at_any_depth_in_the_order_of_their_names(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["b.png", "2020/may/x.jpg", "a.JPG", "2020/z.JPEG", "2019/y.webp"])
    (root / "notes.txt").write_text("not a picture")
    assert names(root) == ["2019/y.webp", "2020/may/x.jpg", "2020/z.JPEG", "a.JPG", "b.png"]


def test_hidden_files_and_folders_are_left_out(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["a.png", ".b.png", ".thumbnails/c.png", "d/._e.jpg"])
    assert names(root) == ["a.png"]


def test_names_beyond_ascii(write_tree: WriteTree) -> None:
    assert names(write_tree("photos", ["Käfer/ümläut.png", "犬/写真.png"])) == ["Käfer/ümläut.png", "犬/写真.png"]


def test_class_folders_are_labels(write_tree: WriteTree) -> None:
    found = scan(write_tree("pets", ["dog/1.png", "cat/deep/1.png", "cat/2.png", "dog/2.png"]))
    assert found.class_names == ["cat", "dog"]
    assert found.targets.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("tree", [["a.png", "b.png"], ["only/a.png", "only/b.png"], ["x/a.png", "y/b.png", "c.png"]])
def test_other_trees_are_unlabelled(write_tree: WriteTree, tree: list[str]) -> None:
    found = scan(write_tree("photos", tree))
    assert found.class_names is None
    assert set(found.targets.tolist()) == {-1}


def test_links_are_followed_but_not_in_circles(write_tree: WriteTree, tmp_path: Path) -> None:
    root = write_tree("photos", ["a.png"])
    (root / "more").symlink_to(write_tree("elsewhere", ["b.png"]))
    (root / "circle").symlink_to(root)
    assert names(root) == ["a.png", "more/b.png"]


def test_no_picture_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no picture in .*\.jpg, \.jpeg, \.png"):
        scan(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.*--data\.root"):
        find_splits(tmp_path / "nowhere")


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_text("")
    with pytest.raises(InputError, match=r"archive\.zip' is a file"):
        find_splits(tmp_path / "archive.zip")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train", "val", "test"], {"train": "train", "val": "val", "test": "test"}),
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "validation", "annotations"], {"train": "train", "val": "validation"}),
        (["train", "valid"], {"train": "train", "val": "valid"}),
        (["train"], {"train": "train"}),
        (["train", "bus", "car"], {"train": "."}),  # a class of vehicles
        (["val", "test"], {"train": "."}),
        (["cat", "dog"], {"train": "."}),
        ([], {"train": "."}),
    ],
)
def test_splits(tmp_path: Path, folders: list[str], expected: dict[str, str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    (tmp_path / ".hidden").mkdir()
    assert find_splits(tmp_path) == {split: tmp_path / name for split, name in expected.items()}


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    assert find_splits("~/photos") == {"train": tmp_path / "photos"}
