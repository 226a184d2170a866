from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simclr_lightning.data import FilePictures, InMemoryPictures, balanced_subset, stratified_split
from simclr_lightning.data.folder import scan
from simclr_lightning.data.labels import balanced_draw, default_counts, listed_positions

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
        listed_positions(InMemoryPictures(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1).long()), path)


def counts(targets: Tensor) -> list[int]:
    return torch.bincount(targets).tolist()


def test_subset_is_balanced_even_where_the_classes_are_not() -> None:
    targets = torch.arange(10).repeat_interleave(torch.arange(100, 200, 10))
    chosen = balanced_subset(targets, 0.1)
    assert len(chosen) == int(0.1 * len(targets))
    assert max(counts(targets[chosen])) - min(counts(targets[chosen])) <= 1
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_imagenet_counts_of_the_paper() -> None:
    # 1,281,167 pictures in 1000 classes of 732 to 1300; 1 % are 12,811 pictures, 12 or 13 of each class
    targets = torch.arange(1000).repeat_interleave(torch.tensor([1281] * 833 + [1282] * 167))
    sizes = counts(targets[balanced_subset(targets, 0.01)])
    assert sum(sizes) == len(targets) // 100
    assert set(sizes) == {12, 13}


def test_small_class_gives_all_and_the_others_the_rest() -> None:
    targets = torch.tensor([0] * 3 + [1] * 50 + [2] * 47)
    assert counts(targets[balanced_subset(targets, 0.5)]) == [3, 24, 23]


def test_fraction_of_one_is_everything_labelled() -> None:
    targets = torch.tensor([1, -1, 0, 2, -1, 2, 0])
    assert balanced_subset(targets, 1.0).tolist() == [0, 2, 3, 5, 6]


def test_fraction_is_not_cut_by_rounding() -> None:
    assert len(balanced_subset(torch.arange(2).repeat(50), 0.29)) == 29  # 0.29 * 100 is 28.999...


def test_seed_decides() -> None:
    targets = torch.arange(5).repeat(100)
    assert torch.equal(balanced_subset(targets, 0.1, seed=3), balanced_subset(targets, 0.1, seed=3))
    assert not torch.equal(balanced_subset(targets, 0.1, seed=3), balanced_subset(targets, 0.1, seed=4))


def test_empty_class_is_named_with_a_fraction_that_works() -> None:
    targets = torch.tensor([0] * 500 + [1] * 400 + [2] * 70)
    with pytest.raises(ValueError, match=r"leaves class zebra without a picture: choose at least 0\.0031"):
        balanced_subset(targets, 0.002, class_names=["ant", "bee", "zebra"])
    assert counts(targets[balanced_subset(targets, 0.0031)]) == [1, 1, 1]
    with pytest.raises(ValueError, match="leaves class 2 without"):
        balanced_subset(targets, 0.002)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="label fraction is"):
        balanced_subset(torch.tensor([0, 1]), fraction)


def test_labels_are_needed() -> None:
    with pytest.raises(ValueError, match="no picture has one"):
        balanced_subset(torch.full((5,), -1), 0.5)


def test_split_gives_every_class_its_share() -> None:
    targets = torch.tensor([0] * 100 + [1] * 50 + [-1] * 200)
    kept, aside = stratified_split(targets, 0.2, seed=1)
    assert sorted(kept.tolist() + aside.tolist()) == list(range(350))
    assert counts(targets[aside] + 1) == [40, 20, 10]
    assert torch.equal(stratified_split(targets, 0.2, seed=1)[1], aside)
    assert not torch.equal(stratified_split(targets, 0.2, seed=2)[1], aside)


def test_split_of_groups_tears_none_apart_and_shares_them_class_by_class() -> None:
    groups = torch.arange(900) // 3 * 7 % 300  # of three pictures each
    groups[-100:] = -1
    targets = (torch.arange(900) // 3 % 2).where(torch.arange(900) < 600, 2)
    kept, aside = stratified_split(targets, 0.2, seed=1, groups=groups)
    assert sorted(kept.tolist() + aside.tolist()) == list(range(900))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(aside, aside.sort().values)
    assert set(groups[kept].tolist()) & set(groups[aside].tolist()) == {-1}
    named = aside[groups[aside] >= 0]
    assert counts(targets[named])[:2] == [60, 60]  # a fifth of 100 groups of each class
    assert not torch.equal(stratified_split(targets, 0.2, seed=2, groups=groups)[1], aside)


def test_split_of_groups_keeps_a_class_of_one_group() -> None:
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    with pytest.warns(UserWarning, match=r"1 class\(es\) of one group are learned from, and not held out: rare"):
        kept, _ = stratified_split(groups // 4, 0.5, class_names=["common", "rare"], groups=groups)
    assert {8, 9} <= set(kept.tolist())
    with pytest.raises(ValueError, match=r"0\.2 of 5 groups cannot be split off.*--data\.val_fraction"):
        stratified_split(groups // 2, 0.2, groups=groups)


@pytest.mark.parametrize("groups", [torch.full((350,), -1), torch.arange(350), torch.arange(350).flip(0)])
def test_split_of_groups_of_one_is_that_of_pictures(groups: torch.Tensor) -> None:
    targets = torch.tensor([0] * 100 + [1] * 50 + [-1] * 200)
    for part, own in zip(
        stratified_split(targets, 0.2, seed=1), stratified_split(targets, 0.2, seed=1, groups=groups), strict=True
    ):
        assert torch.equal(part, own)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_split_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation fraction is"):
        stratified_split(torch.tensor([0, 1]), fraction)


def test_split_of_too_few_pictures_says_which_option() -> None:
    with pytest.raises(ValueError, match=r"0\.2 of 6 pictures.*--data\.val_fraction"):
        stratified_split(torch.tensor([0, 0, 1, 1, 2, 2]), 0.2)
    with pytest.raises(ValueError, match=r"0\.2 of 2 pictures.*--data\.val_fraction"):
        stratified_split(torch.tensor([0, 1]), 0.2)


@pytest.fixture
def targets() -> torch.Tensor:
    """Three classes of 12, 30 and 60 pictures, and 10 unlabelled ones."""
    return torch.tensor([0] * 12 + [1] * 30 + [2] * 60 + [-1] * 10)[torch.randperm(112)]


@pytest.mark.parametrize("per_class", [1, 5, 12])
def test_every_class_gives_the_same_number(targets: torch.Tensor, per_class: int) -> None:
    drawn = balanced_draw(targets, per_class, seed=3)
    assert targets[drawn].bincount().tolist() == [per_class] * 3
    assert torch.equal(drawn, torch.sort(drawn).values)
    assert len(set(drawn.tolist())) == len(drawn)


def test_draws_are_seeded_and_nested(targets: torch.Tensor) -> None:
    assert torch.equal(balanced_draw(targets, 5, seed=1), balanced_draw(targets, 5, seed=1))
    assert not torch.equal(balanced_draw(targets, 5, seed=1), balanced_draw(targets, 5, seed=2))
    assert torch.isin(balanced_draw(targets, 2, seed=1), balanced_draw(targets, 5, seed=1)).all()


@pytest.mark.parametrize("per_class", [0, 13])
def test_too_many_labels_are_named(targets: torch.Tensor, per_class: int) -> None:
    with pytest.raises(ValueError, match=rf"{per_class} labels per class .*class 0 has 12\. Choose from 1 to 12"):
        balanced_draw(targets, per_class)
    with pytest.raises(ValueError, match="no picture has a label"):
        balanced_draw(torch.full((4,), -1), 1)


@pytest.mark.parametrize(
    ("smallest", "counts"),
    [(1, []), (2, [1]), (12, [1, 2, 5, 10]), (100, [1, 2, 5, 10, 20, 50]), (101, [1, 2, 5, 10, 20, 50, 100])],
)
def test_counts_go_as_far_as_the_smallest_class(smallest: int, counts: list[int]) -> None:
    assert default_counts(torch.tensor([0] * smallest + [1] * 200 + [-1])) == counts
