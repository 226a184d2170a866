from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_lightning.data.folder import find_roots, find_splits, folder_sets, scan
from simclr_lightning.data.pictures import FilePictures
from simclr_lightning.errors import InputError

WriteTree = Callable[..., Path]


def of(pictures: FilePictures) -> list[str]:
    return [os.fsdecode(bytes(file)) for file in pictures.files]


def names(root: Path) -> list[str]:
    return of(scan(root))


def classes(pictures: FilePictures) -> dict[str, str | None]:
    """Class by file."""
    own = pictures.class_names or []
    targets = pictures.targets.tolist()
    return {file: own[target] if target >= 0 else None for file, target in zip(of(pictures), targets, strict=True)}


def touched(root: Path, files: list[str]) -> Path:
    """A tree of empty files."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def findings(root: Path) -> tuple[list[str], list[str], list[str]]:
    found = find_splits(root)["train"].findings
    assert found is not None
    return [str(left) for left in found.left_out], found.notes, found.warnings


def test_finds_pictures_at_any_depth_in_the_order_of_their_names(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["b.png", "2020/may/x.jpg", "a.JPG", "2020/z.JPEG", "2019/y.webp"])
    (root / "notes.txt").write_text("not a picture")
    assert names(root) == ["2019/y.webp", "2020/may/x.jpg", "2020/z.JPEG", "a.JPG", "b.png"]


def test_hidden_files_and_folders_are_left_out(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["a.png", ".b.png", ".thumbnails/c.png", "d/._e.jpg"])
    assert names(root) == ["a.png"]
    assert findings(root)[0] == ["2 x hidden (.b.png)", "1 x hidden folder (.thumbnails)"]


def test_names_beyond_ascii(write_tree: WriteTree) -> None:
    assert names(write_tree("photos", ["Käfer/ümläut.png", "犬/写真.png"])) == ["Käfer/ümläut.png", "犬/写真.png"]


def test_class_folders_are_labels(write_tree: WriteTree) -> None:
    found = scan(write_tree("pets", ["dog/1.png", "cat/deep/1.png", "cat/2.png", "dog/2.png"]))
    assert found.class_names == ["cat", "dog"]
    assert found.targets.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "tree", [["a.png", "b.png"], ["only/a.png", "only/b.png"], ["x/a.png", "y/b.png", "c.png", "d.png"]]
)
def test_other_trees_are_unlabelled(tmp_path: Path, tree: list[str]) -> None:
    found = scan(touched(tmp_path, tree))
    assert found.class_names is None
    assert set(found.targets.tolist()) == {-1}


@pytest.mark.parametrize("strays", [["sheet.png"], ["a.jpg", "z.jpg"], ["preview.gif", "x/../sheet.png"]])
def test_pictures_beside_class_folders_are_unlabelled_and_named(tmp_path: Path, strays: list[str]) -> None:
    tree = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(3)]
    root = touched(tmp_path, [*tree, "cat/x.png", *strays])
    labels = classes(scan(root))
    own = [Path(os.path.normpath(stray)).name for stray in strays]
    assert {file for file, label in labels.items() if label is None} == set(own)
    assert {labels[file] for file in tree} == {"cat", "dog"}
    (warning,) = findings(root)[2]
    assert f"{len(own)} of the {len(labels)} train pictures lie beside the class folders" in warning
    assert own[0] in warning


def test_a_picture_beside_the_only_folder_does_not_hide_what_is_in_it(tmp_path: Path) -> None:
    root = touched(tmp_path, ["archive/cat/1.png", "archive/dog/2.png", "archive/dog/3.png", "sheet.png"])
    assert classes(scan(root))["archive/cat/1.png"] == "cat"


def test_an_unlabelled_folder_is_no_class(tmp_path: Path) -> None:
    labels = classes(scan(touched(tmp_path, ["cat/1.png", "dog/1.png", "Unlabeled/1.png", "Unlabeled/2.png"])))
    assert labels == {"Unlabeled/1.png": None, "Unlabeled/2.png": None, "cat/1.png": "cat", "dog/1.png": "dog"}


def test_unlabelled_pictures_beside_splits_are_trained_on(tmp_path: Path) -> None:
    found = find_splits(touched(tmp_path, ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "unlabeled/1.png"]))
    assert classes(found["train"]) == {"train/cat/1.png": "cat", "train/dog/1.png": "dog", "unlabeled/1.png": None}
    assert not found["train"].findings.warnings  # type: ignore[union-attr]


def test_links_are_followed_but_not_in_circles(write_tree: WriteTree, tmp_path: Path) -> None:
    root = write_tree("photos", ["a.png"])
    (root / "more").symlink_to(write_tree("elsewhere", ["b.png"]))
    (root / "circle").symlink_to(root)
    assert names(root) == ["a.png", "more/b.png"]


def test_no_picture_says_what_was_looked_for_and_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no picture in .*\.jpg, \.jpeg, .*\.png.*1 x \.txt: no picture"):
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
        (["train"], {"train": "."}),
        (["train", "bus", "car"], {"train": "."}),  # a class of vehicles
        (["val", "test"], {"train": "."}),
        (["cat", "dog"], {"train": "."}),
        (["."], {"train": "."}),
        (["Training", "Testing"], {"train": "Training", "test": "Testing"}),
        (["Train", "Valid"], {"train": "Train", "val": "Valid"}),
        (["TRAIN", "TEST"], {"train": "TRAIN", "test": "TEST"}),
        (["seg_train", "seg_test", "seg_pred"], {"train": "seg_train", "test": "seg_test"}),
        (["train", "dev"], {"train": "train", "val": "dev"}),
        (["train2017", "val2017"], {"train": "train2017", "val": "val2017"}),
        (["archive/train", "archive/test"], {"train": "archive/train", "test": "archive/test"}),
        (
            ["a b/training_set/training_set", "a b/test_set/test_set"],
            {"train": "a b/training_set", "test": "a b/test_set"},
        ),
    ],
)
def test_splits(tmp_path: Path, folders: list[str], expected: dict[str, str]) -> None:
    touched(tmp_path, [f"{folder}/{kind}/{n}.png" for folder in folders for kind in "xy" for n in range(2)])
    found = find_splits(tmp_path)
    inside = {
        split: sorted(file.as_posix() for file in (tmp_path / name).rglob("*.png")) for split, name in expected.items()
    }
    assert {split: [str(p.path(k)) for k in range(len(p))] for split, p in found.items()} == inside
    if len(expected) > 1:
        assert all(pictures.class_names == ["x", "y"] for pictures in found.values())


def test_splits_below_every_class(tmp_path: Path) -> None:
    found = find_splits(
        touched(tmp_path, [f"{kind}/{split}/1.png" for kind in ("cat", "dog") for split in ("Train", "Test")])
    )
    assert classes(found["train"]) == {"cat/Train/1.png": "cat", "dog/Train/1.png": "dog"}
    assert classes(found["test"]) == {"cat/Test/1.png": "cat", "dog/Test/1.png": "dog"}


@pytest.mark.parametrize(
    ("folders", "warning"),
    [
        (["train1", "train2", "test"], "test, train1, train2 look like splits"),
        (["train_a", "test_b"], "test_b, train_a look like splits"),
        (["train", "bus"], None),
    ],
)
def test_names_that_nearly_are_splits_are_told(tmp_path: Path, folders: list[str], warning: str | None) -> None:
    told = findings(touched(tmp_path, [f"{folder}/1.png" for folder in folders]))[2]
    assert [warning in text for text in told] == ([True] if warning else []) if warning else not told


def test_a_split_without_a_picture_is_told(tmp_path: Path) -> None:
    touched(tmp_path, ["train/a.png", "train/b.png", "val/notes.txt"])
    assert findings(tmp_path)[2] == ["The folder val holds no picture that is read."]


def test_what_lies_beside_splits_is_counted(tmp_path: Path) -> None:
    touched(tmp_path, ["train/a.png", "test/b.png", "masks/c.png", "masks/d.png", "sheet.png"])
    assert findings(tmp_path)[0] == ["3 x beside the splits (masks/c.png)"]


def test_a_class_that_only_one_picture_of_a_split_has_is_labelled(tmp_path: Path) -> None:
    found = find_splits(touched(tmp_path, ["train/cat/1.png", "train/dog/1.png", "val/dog/1.png"]))
    assert classes(found["val"]) == {"val/dog/1.png": "dog"}


@pytest.mark.parametrize(
    "run",
    [
        [
            "runs/simclr/version_0/config.yaml",
            "runs/simclr/version_0/views/epoch=0.png",
            "runs/simclr/version_0/views/more.png",
        ],
        ["runs/a/metrics.csv", "runs/a/hparams.yaml", "runs/a/figure.png"],
        ["runs/b/events.out.tfevents.1", "runs/b/hparams.yaml", "runs/b/images/figure.png"],
        ["views/epoch=0.png", "views/epoch=12.png", "config.yaml"],
        ["pictures/views/epoch=0-step=0.png", "pictures/embedding-map/epoch=9-step=10000.png", "config.yaml"],
        ["evaluation.json", "features.png", "label_curve.json", "label_curve.png"],
        ["ablation/matrix.json", "ablation/matrix.png"],
        ["cat/test_classes.csv", "cat/test_confusion.png"],
        ["wandb/run-1/files/media/images/views.png"],
        ["lightning_logs/version_0/x.png", "__MACOSX/cat/1.png"],
    ],
)
def test_what_runs_have_written_is_no_data(tmp_path: Path, run: list[str]) -> None:
    data = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/features.png"]
    root = touched(tmp_path, [*data, *run])
    assert names(root) == data
    assert scan(root).class_names == ["cat", "dog"]
    assert any(" run (" in left or "program (" in left for left in findings(root)[0])


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touched(tmp_path, ["photos/a.png"])
    assert scan(Path("~/photos")).path(0) == tmp_path / "photos/a.png"


@pytest.mark.parametrize("name", ["null", "[set 1]", "a: b", "~x", "~", "007", "#1", "- a", "[a, b]"])
def test_names_that_yaml_reads_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    touched(tmp_path, [f"{name}/a.png"])
    monkeypatch.chdir(tmp_path)
    assert names(name) == ["a.png"]  # type: ignore[arg-type]


def test_several_roots(tmp_path: Path) -> None:
    touched(
        tmp_path, ["a/train/cat/1.png", "a/train/dog/1.png", "a/test/dog/1.png", "deep/b/dog/1.png", "deep/b/owl/1.png"]
    )
    roots = [tmp_path / "a", tmp_path / "deep" / "b"]
    typed = f"[{roots[0]}, {roots[1]}]"
    for given in (roots, typed, [str(root) for root in roots]):
        found = find_splits(given)
        assert classes(found["train"]) == {
            "a/train/cat/1.png": "cat",
            "a/train/dog/1.png": "dog",
            "deep/b/dog/1.png": "dog",
            "deep/b/owl/1.png": "owl",
        }
        assert found["train"].class_names == ["cat", "dog", "owl"]
        assert classes(found["test"]) == {"a/test/dog/1.png": "dog"}
        assert all(found["train"].path(k).exists() for k in range(4))


@pytest.mark.parametrize(("second", "message"), [("a/cat", "lies in"), ("a", "lies in"), ("nowhere", "no folder")])
def test_roots_that_do_not_go_together(tmp_path: Path, second: str, message: str) -> None:
    touched(tmp_path, ["a/cat/1.png", "a/dog/1.png"])
    with pytest.raises(InputError, match=message):
        find_roots([tmp_path / "a", tmp_path / second])
    with pytest.raises(InputError, match="No folder"):
        find_roots([])


def test_test_pictures_serve_as_validation(tmp_path: Path) -> None:
    sets = folder_sets(touched(tmp_path, ["train/a.png", "testing/b.png"]))
    assert sets.val is sets.test
    assert len(sets.train) == 1
