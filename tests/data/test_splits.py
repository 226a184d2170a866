from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_lightning.data import InMemoryPictures, PictureSets
from simclr_lightning.data.folder import folder_sets
from simclr_lightning.data.splits import Split, Splits, arrange

WriteTree = Callable[..., Path]


def in_memory(targets: list[int], names: list[str] | None = None, channels: int = 3) -> InMemoryPictures:
    return InMemoryPictures(torch.zeros(len(targets), channels, 2, 2, dtype=torch.uint8), torch.tensor(targets), names)


def labels(part: Split | None) -> list[int]:
    assert part is not None
    return part.pictures.targets[part.positions].tolist()


def positions(part: Split | None) -> list[int]:
    assert part is not None
    return part.positions.tolist()


def test_labelled_data_set_as_it_is() -> None:
    sets = PictureSets(in_memory([0, 1, 2, 1], [*"abc"]), in_memory([2, 0], [*"abc"]))
    splits = arrange(sets)
    assert splits.train.pictures is sets.train
    assert positions(splits.train) == positions(splits.labelled) == [0, 1, 2, 3]
    assert labels(splits.val) == [2, 0]
    assert splits.test is None
    assert (splits.num_classes, splits.class_names) == (3, [*"abc"])


def test_unlabelled_data_set() -> None:
    splits = arrange(PictureSets(in_memory([-1] * 4)))
    assert splits == Splits(splits.train, None, None, None, None, None)
    assert positions(splits.train) == [0, 1, 2, 3]


def test_partly_labelled_training_pictures() -> None:
    splits = arrange(PictureSets(in_memory([1, 0, -1, -1, -1])))
    assert len(splits.train.positions) == 5
    assert positions(splits.labelled) == [0, 1]
    assert splits.num_classes == 2


def test_classes_without_names_are_counted_over_all_parts() -> None:
    assert arrange(PictureSets(in_memory([0, 1]), in_memory([0, 4]))).num_classes == 5


def test_validation_fraction_comes_from_the_training_pictures_and_leaves_the_test_alone() -> None:
    test = in_memory([0, 1])
    splits = arrange(PictureSets(in_memory([0] * 50 + [1] * 30), test, test), val_fraction=0.1)
    assert sorted(positions(splits.train) + positions(splits.val)) == list(range(80))
    assert sorted(labels(splits.val)) == [0] * 5 + [1] * 3
    assert positions(splits.labelled) == positions(splits.train)
    assert splits.test is not None
    assert splits.test.pictures is test


def test_validation_fraction_of_unlabelled_pictures() -> None:
    splits = arrange(PictureSets(in_memory([-1] * 20)), val_fraction=0.25, seed=1)
    assert (len(splits.train.positions), len(positions(splits.val))) == (15, 5)
    assert not set(positions(splits.train)) & set(positions(splits.val))
    assert positions(arrange(PictureSets(in_memory([-1] * 20)), val_fraction=0.25, seed=2).val) != positions(splits.val)


def test_label_fraction_hides_labels_and_keeps_all_training_pictures() -> None:
    sets = PictureSets(in_memory([0] * 50 + [1] * 50), in_memory([1, 0]))
    splits = arrange(sets, label_fraction=0.1)
    assert len(splits.train.positions) == 100
    assert sorted(labels(splits.labelled)) == [0] * 5 + [1] * 5
    shown = [position for position, label in enumerate(labels(splits.train)) if label >= 0]
    assert shown == positions(splits.labelled)
    assert labels(splits.val) == [1, 0]
    assert sorted(sets.train.targets.tolist()) == [0] * 50 + [1] * 50  # the data set itself is unchanged


def test_label_fraction_after_a_validation_fraction() -> None:
    splits = arrange(PictureSets(in_memory([0] * 50 + [1] * 50)), label_fraction=0.1, val_fraction=0.2)
    assert sorted(labels(splits.val)) == [0] * 10 + [1] * 10
    assert sorted(labels(splits.labelled)) == [0] * 4 + [1] * 4
    assert set(positions(splits.labelled)) <= set(positions(splits.train))


def test_label_fraction_with_an_empty_class_names_it() -> None:
    sets = PictureSets(in_memory([0] * 50 + [1] * 20, ["cat", "dog"]))
    with pytest.raises(ValueError, match="leaves class dog without"):
        arrange(sets, label_fraction=0.02)
    with pytest.raises(ValueError, match="no picture has one"):
        arrange(PictureSets(in_memory([-1, -1])), label_fraction=0.5)


def test_probe_supplies_the_labels_and_is_not_trained_on(write_tree: WriteTree) -> None:
    photos = write_tree("photos", ["2019/a.png", "2020/b.png", "2020/c.png"])  # folders that are not classes
    probe = write_tree(
        "pets", [f"{split}/{pet}/{i}.png" for split in ("train", "val") for pet in ("cat", "dog") for i in (1, 2)]
    )
    splits = arrange(folder_sets(photos), probe=str(probe))
    assert labels(splits.train) == [-1, -1, -1]
    assert labels(splits.labelled) == labels(splits.val) == labels(splits.test) == [0, 0, 1, 1]
    assert (splits.num_classes, splits.class_names) == (2, ["cat", "dog"])
    assert splits.labelled is not None
    assert splits.labelled.pictures is not splits.train.pictures

    aside = arrange(folder_sets(photos), probe=str(probe), val_fraction=0.5)
    assert len(aside.train.positions) == 3
    assert labels(aside.labelled) == labels(aside.val) == [0, 1]
    assert set(positions(aside.labelled)) | set(positions(aside.val)) == {0, 1, 2, 3}
    assert labels(aside.test) == [0, 0, 1, 1]

    few = arrange(folder_sets(photos), probe=str(probe), label_fraction=0.5)
    assert len(few.train.positions) == 3
    assert sorted(labels(few.labelled)) == [0, 1]


def test_probe_without_class_folders(write_tree: WriteTree) -> None:
    probe = write_tree("pets", ["1.png", "2.png"])
    with pytest.raises(ValueError, match=r"probe folder '.*pets' needs class folders"):
        arrange(PictureSets(in_memory([-1])), probe=str(probe))


def test_classes_of_the_validation_pictures_are_matched_by_name() -> None:
    splits = arrange(PictureSets(in_memory([0, 1, 2], [*"abc"]), in_memory([0, 1, -1], [*"bc"])))
    assert labels(splits.val) == [1, 2, -1]
    assert splits.num_classes == 3


def test_classes_that_only_judged_pictures_have_are_told_and_not_judged() -> None:
    sets = PictureSets(in_memory([0, 1], [*"ab"]), in_memory([0, 1, 2, 2, -1], [*"axy"]))
    with pytest.warns(UserWarning, match=r"The val pictures have classes .* lack: x, y\. Their 3 picture"):
        splits = arrange(sets)
    assert labels(splits.val) == [0, -1, -1, -1, -1]
    with pytest.raises(ValueError, match=r"The test pictures have classes .* lack: x, y\. No class is the same"):
        arrange(PictureSets(in_memory([0, 1], [*"ab"]), test=in_memory([0, 1, -1], [*"xy"])))


def test_judged_pictures_without_labels_are_told() -> None:
    train, flat = in_memory([0, 1], [*"ab"]), in_memory([-1, -1])
    with pytest.warns(UserWarning, match="The test pictures are unlabelled") as told:
        splits = arrange(PictureSets(train, flat, flat))
    assert len(told) == 1
    assert labels(splits.val) == [-1, -1]
    with pytest.warns(UserWarning, match="The val pictures are unlabelled"):
        arrange(PictureSets(train, flat, train))


def test_a_class_of_one_picture_is_learned_from() -> None:
    sets = PictureSets(in_memory([0] * 10 + [1] + [2] * 10, ["cat", "dog", "owl"]))
    with pytest.warns(UserWarning, match=r"1 class\(es\) of one picture .*: dog\."):
        splits = arrange(sets, val_fraction=0.2)
    assert sorted(labels(splits.labelled)) == [0] * 8 + [1] + [2] * 8
    assert sorted(labels(splits.val)) == [0, 0, 2, 2]


def test_labels_for_validation_only_are_not_used() -> None:
    with pytest.warns(
        UserWarning, match=r"The test pictures have labels, but there are none to learn from.*--data\.probe"
    ):
        splits = arrange(PictureSets(in_memory([-1, -1]), test=in_memory([0, 1], [*"ab"])))
    assert labels(splits.test) == [-1, -1]
    assert splits.num_classes is None


def test_channels_must_agree() -> None:
    with pytest.raises(ValueError, match=r"val pictures have 3 channel\(s\) and the training pictures 1"):
        arrange(PictureSets(in_memory([0, 1], channels=1), in_memory([0, 1])))


def test_cache_reads_every_set_once_and_leaves_bad_pictures_out(write_tree: WriteTree) -> None:
    root = write_tree(
        "pets", [f"{split}/{pet}/{i}.png" for split in ("train", "test") for pet in "ab" for i in (1, 2)], side=6
    )
    splits = arrange(folder_sets(root), cache=True)
    assert isinstance(splits.train.pictures, InMemoryPictures)
    assert splits.labelled is not None
    assert splits.labelled.pictures is splits.train.pictures
    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.pictures is splits.test.pictures
    (root / "train/b/1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"b/1\.png"):
        splits = arrange(folder_sets(root), cache=True, on_bad_picture="skip")
    assert positions(splits.train) == positions(splits.labelled) == [0, 1, 3]
    assert labels(splits.train) == [0, 0, 1]
