"""Pictures that belong together: the file, the choice of partners, and the batches that they are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.test_module import Recorder, assert_same, fit, saving
from torch import Tensor

from simclr_lightning.data import (
    DatasetPictures,
    InMemoryPictures,
    IterableStream,
    Key,
    LabelledDataModule,
    PictureSets,
    SimCLRDataModule,
)
from simclr_lightning.data.folder import folder_sets, scan
from simclr_lightning.data.pairs import PictureGroups, read_groups
from simclr_lightning.data.resident import ResidentBatch, ResidentPictures
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, crop_views

WriteTree = Callable[..., Path]
RECIPE = ViewRecipe("cifar10", size=12)
LOCAL = [RECIPE, ViewRecipe("cifar10", size=8, count=2)]
SIX = torch.tensor([0, 4, 0, 4, -1, 0])  # groups of three, of two and of one


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def groups_of(numbers: Tensor) -> PictureGroups:
    return PictureGroups(numbers, torch.arange(len(numbers)))


def in_memory(number: int = 6) -> InMemoryPictures:
    images = torch.randint(256, (number, 3, 16, 16), dtype=torch.uint8)
    return InMemoryPictures(images, torch.arange(number))


def served(pictures: Any, groups: PictureGroups | None, recipes: list[ViewRecipe], **options: Any) -> BatchDataset:
    options = {"random": True, "training": True, **options}
    return BatchDataset(pictures, torch.arange(len(pictures)), recipes, seed=5, groups=groups, **options)


def keys(places: list[int], epoch: int = 3) -> list[Key]:
    return [Key(place, epoch) for place in places]


def test_first_view_is_of_the_picture_and_the_others_are_of_other_members_equally_often() -> None:
    groups = groups_of(torch.arange(4000) // 4)
    sources = groups.sources(torch.arange(4000), seed=0, epoch=0, views=4)
    assert torch.equal(sources[0], torch.arange(4000))
    assert (sources[1:] // 4 == torch.arange(4000) // 4).all()
    assert (sources[1:] != torch.arange(4000)).all()
    places = ((sources[1:] - torch.arange(4000)) % 4).flatten()
    shares = places.bincount(minlength=4)[1:] / len(places)
    assert (shares - 1 / 3).abs().max() < 4 * (2 / 9 / len(places)) ** 0.5
    agree = (sources[1] == sources[2]).double().mean()  # every view has a draw of its own
    assert abs(float(agree) - 1 / 3) < 4 * (2 / 9 / 4000) ** 0.5


def test_choice_depends_on_seed_epoch_picture_and_view_alone() -> None:
    groups, everything = groups_of(torch.arange(100) % 5), torch.arange(100)
    sources = groups.sources(everything, seed=3, epoch=7, views=3)
    part = torch.tensor([60, 3, 99])
    assert torch.equal(groups.sources(part, seed=3, epoch=7, views=3), sources[:, part])
    assert torch.equal(groups.sources(part, seed=3, epoch=7, views=2), sources[:2, part])
    for other in ({"seed": 4, "epoch": 7}, {"seed": 3, "epoch": 8}):
        assert not torch.equal(groups.sources(everything, views=3, **other), sources)


def test_only_pictures_that_are_trained_on_are_partners() -> None:
    positions = torch.tensor([5, 0, 1, 4])
    groups = PictureGroups(SIX, positions)
    assert sorted(groups.sizes.tolist()) == [1, 1, 2]
    assert groups.numbers.tolist() == [0, 1, 0, 1, 4, 0]
    assert groups.sources(positions, seed=0, epoch=0, views=2).tolist() == [[5, 0, 1, 4], [0, 5, 1, 4]]
    assert groups.lost_share == 2 / 12
    assert (groups.alone, groups.unnamed) == (2, 1)


def test_summary_says_what_the_groups_are() -> None:
    assert groups_of(SIX).summary() == (
        "3 groups of 1 / 2 / 3 pictures (least / median / most), 1 of them alone, 1 of which the file does not name"
    )
    assert groups_of(torch.tensor([1, 1, 0, 0])).summary() == "2 groups of 2 / 2 / 2 pictures (least / median / most)"


@pytest.fixture
def photos(write_tree: WriteTree) -> Path:
    """Training pictures a/0, a/1, a/2, b/0, b/1, b/2, and two for validation, of which one has the name of another."""
    names = [f"train/{pet}/{pet}{i}.png" for pet in "ab" for i in range(3)]
    return write_tree("photos", [*names, "val/a/a0.png", "val/b/late.png"])


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/a1.png", "train/b/b2.png"],
        ["a/a1.png", "b/b2.png"],
        ["a1.png", "b2.png"],
        [r"train\a\a1.png", r"b\b2.png"],
        ["./train/a/a1.png", "train//b/b2.png"],
        ["/elsewhere/photos/train/a/a1.png", r"D:\train\b\b2.png"],
    ],
)
def test_files_are_named_in_many_ways(photos: Path, names: list[str], tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "file,group", *(f"{name},eve" for name in names))
    assert read_groups(path, folder_sets(photos), photos).tolist() == [-1, 0, -1, -1, -1, 0]


def test_absolute_names_other_columns_spaces_quotes_and_a_mark_of_byte_order(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    lines = ["age, group ,file", f'71,"Eve, A.",{photos}/train/a/a0.png', f'71," Eve, A.",{photos}/train/b/b0.png', ""]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert read_groups(path, folder_sets(photos), photos).tolist() == [0, -1, -1, 0, -1, -1]


def test_pictures_of_other_splits_may_be_named(photos: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "file,group", "val/a/a0.png,eve", "late.png,eve", "train/a/a0.png,eve")
    assert read_groups(path, folder_sets(photos), photos).tolist() == [0, -1, -1, -1, -1, -1]


def test_a_folder_without_splits_has_names_relative_to_itself(write_tree: WriteTree, tmp_path: Path) -> None:
    root = write_tree("flat", ["1.png", "2.png", "3.png"])
    path = table(tmp_path / "pairs.csv", "file,group", "3.png,x", "./1.png,x", "elsewhere/2.png,y")
    assert read_groups(path, folder_sets(root), root).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty: its first line should be file,group"),
        (["file,group"], "names no picture"),
        (["file,patient", "a0.png,x"], "has the columns file, patient: its first line should be file,group"),
        (["file;group", "a1.png;x"], "has the columns file;group: its first line should be file,group"),
        (["file,group", "a1.png"], r"Line 2 of '.*' has no group"),
        (["file,group", ",x"], r"Line 2 of '.*' has no file"),
        (
            ["file,group", "a1.png,x", "c.png,x", "d.png,y"],
            r"2 of the 3 pictures in '.*' are not in '.*': c.png, d.png",
        ),
        (["file,group", "a1.png,x", "a/a1.png,x"], r"names the picture a/a1.png in the lines 2 and 3"),
        (["file,group", "a0.png,x"], r"Line 2 of '.*' names a0.png, and there are 2 such files, .*/a/a0.png and"),
        (["file,group", "val2/a/a1.png,x"], r"1 of the 1 pictures in '.*' are not in"),
    ],
)
def test_files_that_do_not_fit_are_told(photos: Path, lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(InputError, match=message) as told:
        read_groups(path, folder_sets(photos), photos)
    assert "--data.pairs" in str(told.value)
    assert len(str(told.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,group", "a.png,x"], "first line should be index,group, since these pictures are no files"),
        (["index,group", "6,x"], r"Line 2 of '.*' has the index 6: there are 6 training pictures.* 0 to 5"),
        (["index,group", "1,x", "-1,x"], r"Line 3 of '.*' has the index -1"),
        (["index,group", "1.0,x"], r"Line 2 of '.*' has the index 1\.0"),
        (["index,group", "1,x", "01,x"], r"names the picture 01 in the lines 2 and 3"),
    ],
)
def test_pictures_without_files_are_named_by_index(lines: list[str], message: str, tmp_path: Path) -> None:
    sets = PictureSets(in_memory())
    assert read_groups(table(tmp_path / "good.csv", "group,index", "x,5", "y,1", "x,0"), sets, "data").tolist() == [
        0, 1, -1, -1, -1, 0,
    ]  # fmt: skip
    with pytest.raises(InputError, match=message):
        read_groups(table(tmp_path / "pairs.csv", *lines), sets, "data")


def test_no_file() -> None:
    with pytest.raises(MissingFileError, match=r"There is no file 'lsat.csv'.*--data.pairs"):
        read_groups("lsat.csv", PictureSets(in_memory()), "data")


@pytest.mark.parametrize("recipes", [[RECIPE], [ViewRecipe("cifar10", size=12, count=4)], LOCAL])
def test_pictures_in_memory_bring_those_that_views_are_of(recipes: list[ViewRecipe]) -> None:
    pictures, groups = in_memory(), groups_of(SIX)
    data = served(pictures, groups, recipes)
    batch = data.__getitems__(keys([5, 4, 0]))
    views = sum(recipe.count for recipe in recipes)
    sources = groups.sources(batch.indices, seed=5, epoch=3, views=views)
    assert batch.images is not None
    assert batch.groups is not None
    assert torch.equal(batch.images, pictures.images[sources])
    assert batch.groups.tolist() == [0, 4, 0]
    assert batch.targets.tolist() == [5, 4, 0]
    assert data.nbytes * len(batch.indices) == batch.images.nbytes
    made = ViewEngine(recipes, seed=5)(batch)
    number = 0
    for own in made:  # each is what the engine draws for the same position of its source's pixels
        for view in own:
            alone = ImageBatch(pictures.images[sources[number]], None, batch.targets, batch.indices, epoch=3)
            expected = [one for many in ViewEngine(recipes, seed=5)(alone) for one in many]
            assert torch.equal(view, expected[number])
            number += 1
    data.pixels = False
    numbers = ResidentBatch(0, data.__getitems__(keys([5, 4, 0])))
    kept = ResidentPictures()
    kept.number(pictures)
    picked = kept.picked(numbers.to("cpu"))
    assert picked.images is not None
    assert torch.equal(picked.images, batch.images)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("recipes", [[RECIPE], LOCAL])
def test_files_are_cropped_as_the_pictures_that_views_are_of(
    recipes: list[ViewRecipe], scaled: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (20 + 30 * number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 30 + 100 * number)).save(tmp_path / f"{number}.jpg", quality=95)
    pictures, groups = scan(tmp_path), groups_of(SIX)
    batch = served(pictures, groups, recipes, scaled=scaled).__getitems__(keys([5, 4, 0]))
    assert batch.sources is not None
    assert batch.crops is not None
    expected_sources = groups.sources(batch.indices, seed=5, epoch=3, views=len(batch.sources))
    assert torch.equal(batch.sources, expected_sources)
    number = 0
    for crops in batch.crops:
        for pixels, sigma, boxes in zip(crops.pixels, crops.parameters.sigma, crops.parameters.boxes, strict=True):
            read = [pictures.read(position) for position in batch.sources[number].tolist()]
            alone = crop_views(read, recipes, batch.indices, seed=5, epoch=3)
            whole = torch.cat([own.pixels.flatten(2) for own in alone if own.pixels.shape[-1] == pixels.shape[-1]])
            first = 0 if crops is batch.crops[0] else 2
            if scaled:
                assert (whole[number - first].int() - pixels.flatten(1).int()).abs().float().mean() < 12
            else:
                assert torch.equal(whole[number - first], pixels.flatten(1))
            assert torch.equal(sigma, torch.cat([own.parameters.sigma for own in alone])[number])
            assert torch.equal(boxes, torch.cat([own.parameters.boxes for own in alone])[number])
            number += 1


def test_scaled_views_do_not_depend_on_the_other_pictures_of_the_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)).save(tmp_path / f"{number}.jpg")
    data = served(scan(tmp_path), groups_of(SIX), LOCAL, scaled=True)
    together = data.__getitems__(keys(list(range(6))))
    assert together.crops is not None
    for place in range(6):
        alone = data.__getitems__(keys([place])).crops
        assert alone is not None
        for own, whole in zip(alone, together.crops, strict=True):
            assert torch.equal(own.pixels[:, 0], whole.pixels[:, place])
    without = served(scan(tmp_path), None, LOCAL, scaled=True).__getitems__(keys([4])).crops  # it is alone
    assert without is not None
    assert torch.equal(without[1].pixels[:, 0], together.crops[1].pixels[:, 4])


def test_tensors_of_a_data_set_are_stacked_for_each_view() -> None:
    images: Any = [torch.full((5, 4, 4), value, dtype=torch.uint8) for value in range(6)]
    batch = served(DatasetPictures(images), groups_of(SIX), [RECIPE]).__getitems__(keys([1, 4]))
    assert batch.images is not None
    assert batch.images[..., 0, 0, 0].tolist() == [[1, 4], [3, 4]]


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
@pytest.mark.parametrize("scaled", [False, True])
def test_a_partner_that_cannot_be_read_is_replaced_by_the_next_of_the_group(
    write_tree: WriteTree, scaled: bool
) -> None:
    root = write_tree("photos", [f"{i}.jpg" for i in range(6)], side=300)
    for number in (1, 2):
        path = root / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:-2000])
    groups = groups_of(torch.zeros(6, dtype=torch.int64))
    for _ in range(2):  # known to be bad, or not yet, nothing changes
        data = served(scan(root), groups, [RECIPE], on_bad_picture="skip", scaled=scaled)
        for epoch in range(6):
            whole = data.__getitems__(keys([0, 3, 4], epoch))
            drawn = groups.sources(torch.tensor([0, 3, 4]), seed=5, epoch=epoch, views=2)[1].tolist()
            expected = [
                next(own for own in groups.in_place_of(source, place) if own not in (1, 2))
                for source, place in zip(drawn, (0, 3, 4), strict=True)
            ]
            assert whole.sources is not None
            assert whole.sources[1].tolist() == expected
    pair = served(scan(root), groups_of(torch.tensor([0, 0, 2, 3, 4, 5])), [RECIPE], on_bad_picture="skip")
    sources = pair.__getitems__(keys([0])).sources
    assert sources is not None
    assert sources.tolist() == [[0], [0]]  # nobody else is left


def ready(pairs: Path | None, **options: Any) -> SimCLRDataModule:
    data = SimCLRDataModule(pairs=pairs, **{"views": RECIPE, "batch_size": 4, "num_workers": 0, **options})
    data.setup("fit")
    return data


def epoch_of(data: SimCLRDataModule, epoch: int = 1) -> list[ViewBatch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


@pytest.fixture
def pairs(photos: Path, tmp_path: Path) -> Path:
    return table(tmp_path / "pairs.csv", "file,group", "a/a0.png,x", "b/b2.png,x", "a/a1.png,y", "a/a2.png,y")


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:num_workers is")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(photos: Path, pairs: Path, num_workers: int) -> None:
    options: dict[str, Any] = {"dataset": "folder", "root": photos, "batch_size": 2}
    batches = [epoch_of(ready(pairs, **options, num_workers=number)) for number in (0, num_workers)]
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first.views[0], second.views[0])
        assert first.groups is not None
        assert second.groups is not None
        assert torch.equal(first.groups, second.groups)
    assert len({int(group) for batch in batches[0] for group in batch.groups}) == 4  # type: ignore[union-attr]


def test_a_cached_folder_has_the_same_partners(write_tree: WriteTree, tmp_path: Path) -> None:
    root = write_tree("equal", [f"{i}.png" for i in range(6)], side=20)
    path = table(tmp_path / "equal.csv", "file,group", "0.png,x", "5.png,x", "3.png,x")
    options: dict[str, Any] = {"dataset": "folder", "root": root, "batch_size": 3}
    for read, kept in zip(*(epoch_of(ready(path, **options, cache=cache)) for cache in (False, True)), strict=True):
        assert torch.equal(read.indices, kept.indices)
        assert read.groups is not None
        assert kept.groups is not None
        assert torch.equal(read.groups, kept.groups)
        assert (read.views[0] - kept.views[0]).abs().mean() < 0.005  # crops of files are rounded to bytes in between


@pytest.mark.parametrize("lines", [[f"{i},{i % 100}" for i in range(1797)], [f"{i},only-me-{i}" for i in range(50)]])
def test_validation_is_the_same_with_and_without(lines: list[str], tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "index,group", *lines[:1000])
    with_pairs, without = (ready(own, dataset="digits", views=None, batch_size=100) for own in (path, None))
    for first, second in zip(with_pairs.val_dataloader(), without.val_dataloader(), strict=True):
        one, other = (data.on_after_batch_transfer(b, 0) for data, b in ((with_pairs, first), (without, second)))
        assert one.groups is None
        assert torch.equal(one.views[0], other.views[0])
        assert torch.equal(one.images, other.images)


def test_set_aside_pictures_are_nobodys_partners(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "index,group", *(f"{i},{i % 100}" for i in range(1000)))
    data = ready(path, dataset="digits", views=None, batch_size=100, val_fraction=0.3)
    assert data.splits.val is not None
    aside = set(data.splits.val.positions.tolist())
    for batch in data.train_dataloader():
        assert not aside & set(batch.sources.flatten().tolist())


def test_validation_is_of_other_groups_than_training(tmp_path: Path) -> None:
    """Else a patient whose other picture was trained on would flatter what is watched."""
    path = table(tmp_path / "pairs.csv", "index,group", *(f"{i},{i % 300}" for i in range(1200)))
    data = ready(path, dataset="digits", views=None, batch_size=100, val_fraction=0.3)
    assert data.splits.val is not None
    parts = (data.splits.train, data.splits.val)
    train, val = ({i % 300 for i in part.positions.tolist() if i < 1200} for part in parts)
    assert len(val) > 60
    assert not train & val
    without = ready(None, dataset="digits", views=None, batch_size=100, val_fraction=0.3)
    alone = table(tmp_path / "alone.csv", "index,group", *(f"{i},{i}" for i in range(1200)))
    same = ready(alone, dataset="digits", views=None, batch_size=100, val_fraction=0.3)
    assert without.splits.val is not None
    assert same.splits.val is not None
    assert torch.equal(same.splits.val.positions, without.splits.val.positions)


def test_a_probe_is_split_by_pictures(write_tree: WriteTree, tmp_path: Path) -> None:
    """The file is about the pictures that are trained on, which are not those of the probe."""
    root = write_tree("root", [f"{i}.png" for i in range(6)])
    probe = write_tree("probe", [f"{name}/{i}.png" for name in "ab" for i in range(10)])
    path = table(tmp_path / "pairs.csv", "file,group", *(f"{i}.png,x" for i in range(6)))
    options: dict[str, Any] = {"dataset": "folder", "root": root, "probe": str(probe), "val_fraction": 0.2}
    first, second = (ready(own, **options).splits for own in (path, None))
    assert first.val is not None
    assert second.val is not None
    assert torch.equal(first.val.positions, second.val.positions)
    assert len(first.train.positions) == 6


def test_no_company_is_told_and_changes_nothing(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "index,group", *(f"{i},{i}" for i in range(1000)))
    alone, without = (ready(own, dataset="digits", views=None, batch_size=100) for own in (path, None))
    with pytest.warns(UserWarning, match="No two training pictures are of one group"):
        batches = epoch_of(alone)
    for first, second in zip(batches, epoch_of(without), strict=True):
        assert first.groups is None
        assert torch.equal(first.views[0], second.views[0])


@pytest.mark.parametrize("recipes", [[RECIPE], LOCAL])
def test_groups_of_one_make_the_same_views_to_the_last_bit(recipes: list[ViewRecipe], photos: Path) -> None:
    for pictures in (in_memory(), scan(photos / "train")):
        alone = groups_of(torch.full((6,), -1))
        batches = [served(pictures, groups, recipes).__getitems__(keys([5, 0, 2])) for groups in (alone, None)]
        for first, second in zip(*(ViewEngine(recipes, seed=5)(batch) for batch in batches), strict=True):
            assert torch.equal(first, second)


def test_large_groups_are_warned_about(tmp_path: Path) -> None:
    size = len(ready(None, dataset="digits", views=None).splits.train.positions)
    path = table(tmp_path / "pairs.csv", "index,group", *(f"{i},{i % 2}" for i in range(size)))
    with pytest.warns(UserWarning, match=r"50% of the other pictures .*; of 99 pictures about 50 are left"):
        ready(path, dataset="digits", views=None, batch_size=100).train_dataloader()
    path = table(tmp_path / "pairs.csv", "index,group", *(f"{i},x" for i in range(size)))
    with pytest.raises(InputError, match=r"All training pictures are of one group.*--data\.pairs null"):
        ready(path, dataset="digits", views=None, batch_size=100).train_dataloader()


def test_streams_and_classifiers_have_no_pairs(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.csv", "index,group", "0,x", "1,x")
    stream = IterableStream({"train": [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 9})
    with pytest.raises(InputError, match=r"come as a stream.*--data\.pairs null"):
        ready(path, dataset=stream)
    with pytest.raises(InputError, match=r"a classifier sees one picture at a time.*--data\.pairs null"):
        LabelledDataModule("digits", pairs=path)


def test_hyperparameters_are_primitives(tmp_path: Path) -> None:
    assert SimCLRDataModule("digits", pairs=tmp_path / "pairs.csv").hparams["pairs"] == str(tmp_path / "pairs.csv")


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:num_workers is", "ignore:Total length of `list` across ranks is zero"
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_sees_the_same_partners(photos: Path, pairs: Path, tmp_path: Path, num_workers: int) -> None:
    def run(ckpt_path: Path | None = None) -> Recorder:
        data = SimCLRDataModule(
            "folder", photos, views=LOCAL, batch_size=2, pairs=pairs, num_workers=num_workers
        )  # three steps an epoch
        options = {**saving(tmp_path, every_n_train_steps=5), "limit_val_batches": 0, "max_epochs": 3}
        return fit(data, ckpt_path=ckpt_path, **options)

    whole, resumed = run(), run(tmp_path / "step=5.ckpt")
    expected = {key: batch for number, (key, batch) in enumerate(whole.training_batches.items()) if number >= 5}
    assert len(expected) == 4
    assert_same(expected, resumed.training_batches)
    for key, batch in expected.items():
        assert batch.groups is not None
        assert torch.equal(batch.groups, resumed.training_batches[key].groups)  # type: ignore[arg-type]
