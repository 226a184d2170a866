"""Labels and splits from a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.test_folder import classes, touched

from simclr_lightning import LabelledDataModule, SimCLRDataModule
from simclr_lightning.data.folder import find_splits
from simclr_lightning.errors import InputError, MissingFileError

FILES = ["images/a1.jpg", "images/a2.jpg", "images/b1.jpg", "images/deep/b2.png"]


def table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


@pytest.mark.parametrize(
    "lines",
    [
        ["file,label", "images/a1.jpg,a", "images/a2.jpg,a", "images/b1.jpg,b", "images/deep/b2.png,b"],
        ["label;Filename", "a;a1.jpg", "a;a2.jpg", "b;b1.jpg", "b;b2.png"],  # by the file's name
        ["id\tdiagnosis", "a1\ta", "a2\ta", "b1\tb", "b2\tb"],  # without its ending
        ["\ufeffimage_path,age,class", "./images/a1.jpg,3,a", "images\\a2.jpg,4,a", "b1.jpg,5,b", "deep/b2.png,5,b"],
    ],
)
def test_tables_of_any_form(tmp_path: Path, lines: list[str]) -> None:
    root = touched(tmp_path, FILES)
    found = find_splits(root, table(tmp_path, *lines))
    assert list(found) == ["train"]
    assert classes(found["train"]) == dict(zip(FILES, "aabb", strict=True))


def test_splits_of_the_table(tmp_path: Path) -> None:
    root = touched(tmp_path, [*FILES, "images/x.jpg"])
    lines = ["file,label,split", "a1.jpg,9,Training", "a2.jpg,10,VALID", "b1.jpg,,train", "b2.png,9,Testing"]
    found = find_splits(root, table(tmp_path, *lines))
    assert classes(found["train"]) == {"images/a1.jpg": "9", "images/b1.jpg": None, "images/x.jpg": None}
    assert classes(found["val"]) == {"images/a2.jpg": "10"}
    assert classes(found["test"]) == {"images/deep/b2.png": "9"}
    assert found["train"].findings is not None
    assert found["train"].findings.notes == ["pictures that labels.csv does not name, and that stay unlabelled: 1"]


def test_a_table_takes_the_place_of_class_folders_but_not_of_splits(tmp_path: Path) -> None:
    files = [f"{split}/{kind}/1.jpg" for split in ("train", "test") for kind in "xy"]
    root = touched(tmp_path, files)
    lines = ["file,label", *(f"{file},{label}" for file, label in zip(files, "pqpq", strict=True))]
    found = find_splits(root, table(tmp_path, *lines))
    assert classes(found["train"]) == {"train/x/1.jpg": "p", "train/y/1.jpg": "q"}
    assert classes(found["test"]) == {"test/x/1.jpg": "p", "test/y/1.jpg": "q"}


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    root = touched(tmp_path, FILES[:3])
    found = find_splits(root, table(tmp_path, "file,label", "a1.jpg,10", "a2.jpg,9", "b1.jpg,0"))
    assert found["train"].class_names == ["0", "9", "10"]


def test_absolute_names_and_several_roots(tmp_path: Path) -> None:
    touched(tmp_path, ["a/1.jpg", "b/1.jpg", "b/2.jpg"])
    lines = ["file,label", f"{tmp_path / 'a' / '1.jpg'},x", "b/1.jpg,y", "2,x"]
    assert classes(find_splits([tmp_path / "a", tmp_path / "b"], table(tmp_path, *lines))["train"]) == {
        "a/1.jpg": "x",
        "b/1.jpg": "y",
        "b/2.jpg": "x",
    }


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"file": ["a1.jpg", "a2.jpg", "b1.jpg"], "label": [1.0, None, 0.0], "split": ["train", "train", "test"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    found = find_splits(touched(tmp_path, FILES), tmp_path / "labels.parquet")
    assert classes(found["train"]) == {"images/a1.jpg": "1", "images/a2.jpg": None, "images/deep/b2.png": None}
    assert classes(found["test"]) == {"images/b1.jpg": "0"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name,age", "a1.jpg,3"], r"has the columns name, age, and needs one called file and one called label"),
        (["file,label"], r"has the columns \(none\)"),
        (["file,label", ",a"], "names no picture"),
        (["file,label", "a1.jpg,a", "c.jpg,b", "d.jpg,b"], r"2 of the 3 pictures .* are not in .*: c\.jpg, d\.jpg"),
        (["file,label,split", "a1.jpg,a,train", "a2.jpg,a,later"], r"says 'later' in the column split of row 2"),
        (["file,label,split", "a1.jpg,a,"], r"says 'nothing' in the column split of row 1"),
        (["file,label", "a1.jpg,a", "images/a1.jpg,b"], r"says two things of images/a1\.jpg"),
        (["file,label", "x.jpg,a"], r"names x\.jpg, and there are several"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    root = touched(tmp_path, [*FILES, "images/x.jpg", "more/x.jpg"])
    with pytest.raises(InputError, match=message):
        find_splits(root, table(tmp_path, *lines))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no table of labels 'nowhere\.csv'.*--data\.labels"):
        find_splits(touched(tmp_path, FILES), "nowhere.csv")


def test_nothing_to_train_on(tmp_path: Path) -> None:
    root = touched(tmp_path, FILES[:1])
    with pytest.raises(InputError, match="leaves no picture to train on"):
        find_splits(root, table(tmp_path, "file,label,split", "a1.jpg,a,test"))


def test_data_modules_take_a_table(tmp_path: Path) -> None:
    root = touched(tmp_path, FILES)
    lines = ["file,label,split", "a1.jpg,a,train", "a2.jpg,b,val", "b1.jpg,b,train"]
    path = table(tmp_path, *lines)
    for module in (SimCLRDataModule, LabelledDataModule):
        data = module(root=root, labels=path)
        data.setup()
        assert data.class_names == ["a", "b"]
        assert data.hparams["labels"] == str(path)
        assert data.splits.labelled is not None
        assert len(data.splits.labelled.positions) == 2
        assert "pictures that labels.csv does not name" in data.summary()["found"]
