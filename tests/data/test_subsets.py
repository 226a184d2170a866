from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simclr_lightning.data import balanced_subset, stratified_split


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


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_split_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="validation fraction is"):
        stratified_split(torch.tensor([0, 1]), fraction)


def test_split_of_too_few_pictures_says_which_option() -> None:
    with pytest.raises(ValueError, match=r"0\.5 of 3 pictures.*--data\.val_fraction"):
        stratified_split(torch.tensor([0, 1, 1]), 0.5)
