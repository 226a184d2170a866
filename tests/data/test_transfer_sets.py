"""The data sets of the transfer experiments, from tiny copies of their real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io  # type: ignore[import-untyped]
import torch
import torchvision
from PIL import Image

from simclr_lightning.data import FilePictures, InMemoryPictures, PictureSets, SimCLRDataModule, find_source
from simclr_lightning.data.sources import METRICS, FunctionSource
from simclr_lightning.data.splits import arrange
from simclr_lightning.data.transfer_sets import VOC_CLASSES
from simclr_lightning.errors import InputError

Write = Callable[[Path], None]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (len(path.name), 20, 30)).save(path)


def lines(path: Path, *content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in content))


def write_food101(root: Path) -> None:
    meta = root / "food-101" / "meta"
    meta.mkdir(parents=True)
    for split, numbers in (("train", (11, 12)), ("test", (13,))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in ("sushi", "apple_pie")}
        (meta / f"{split}.json").write_text(json.dumps(listed))
        for name in (name for names in listed.values() for name in names):
            picture(root / "food-101" / "images" / f"{name}.jpg")


def write_sun397(root: Path) -> None:
    lines(root / "SUN397" / "ClassName.txt", "/a/abbey", "/a/apse/indoor")
    for number in range(6):
        picture(root / "SUN397" / "a" / "abbey" / f"sun_a{number}.jpg")
        picture(root / "SUN397" / "a" / "apse" / "indoor" / f"sun_b{number}.jpg")
    lines(root / "SUN397" / "Training_01.txt", "/a/apse/indoor/sun_b3.jpg", "/a/abbey/sun_a1.jpg")
    lines(root / "SUN397" / "Testing_01.txt", "/a/abbey/sun_a5.jpg")


def write_cars(root: Path) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    kind = [("bbox_x1", "u1"), ("class", "u1"), ("fname", "O")]
    for split, path, classes in (
        ("train", folder / "devkit" / "cars_train_annos.mat", (2, 1, 2)),
        ("test", folder / "cars_test_annos_withlabels.mat", (1, 2)),
    ):
        rows = np.array([(0, label, f"{number:05d}.jpg") for number, label in enumerate(classes, start=1)], kind)
        scipy.io.savemat(path, {"annotations": rows})
        for name in rows["fname"]:
            picture(folder / f"cars_{split}" / name)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], object)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})


def write_aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    lines(data / "variants.txt", "707-320", "DC-10")
    for split, content in {"train": ("1 DC-10", "2 707-320"), "val": ("3 707-320",), "test": ("4 DC-10",)}.items():
        lines(data / f"images_variant_{split}.txt", *content)
        for line in content:
            picture(data / "images" / f"{line[0]}.jpg")


def write_voc2007(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2007"
    shown = {  # class -> what the official lists say, for the pictures that it is not absent from
        "000001": {"dog": "1", "person": "1", "chair": "0"},
        "000002": {"car": "1"},
        "000003": {"person": "0"},
        "000004": {"aeroplane": "0", "tvmonitor": "1"},
        "000005": {"cat": "1"},
    }
    for split, names in {"train": ("000001", "000003"), "val": ("000004",), "test": ("000002", "000005")}.items():
        lines(folder / "ImageSets" / "Main" / f"{split}.txt", *names)
        for kind in VOC_CLASSES:
            labels = [f"{name} {shown[name].get(kind, '-1'):>2}" for name in names]
            lines(folder / "ImageSets" / "Main" / f"{kind}_{split}.txt", *labels)
        for name in names:
            picture(folder / "JPEGImages" / f"{name}.jpg")


def write_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    listed = {"train": ("dotted_2", "banded_1"), "val": ("banded_3", "dotted_4"), "test": ("banded_5", "dotted_6")}
    for split, names in listed.items():
        files = [f"{name.split('_')[0]}/{name}.jpg" for name in names]
        lines(folder / "labels" / f"{split}1.txt", *files)
        lines(folder / "labels" / f"{split}2.txt", *files[::-1])
        for file in files:
            picture(folder / "images" / file)


def write_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    pets = ["Abyssinian", "shiba_inu"]
    for split, listed in {"trainval": [(0, 100), (1, 7), (1, 8)], "test": [(1, 9), (0, 3)]}.items():
        lines(folder / "annotations" / f"{split}.txt", *(f"{pets[pet]}_{n} {pet + 1} {pet + 1} 1" for pet, n in listed))
        for pet, number in listed:
            picture(folder / "images" / f"{pets[pet]}_{number}.jpg")


def write_caltech101(root: Path) -> None:
    folder = root / "caltech101" / "101_ObjectCategories"
    for name, count in {"BACKGROUND_Google": 3, "Faces": 34, "accordion": 31}.items():
        for number in range(1, count + 1):
            picture(folder / name / f"image_{number:04d}.jpg")


def write_flowers(root: Path) -> None:
    folder = root / "flowers-102"
    for number in range(1, 7):
        picture(folder / "jpg" / f"image_{number:05d}.jpg")
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[3, 1, 2, 2, 102, 1]], np.uint8)})
    splits = {"trnid": [[6, 1]], "valid": [[2, 3]], "tstid": [[4, 5]]}
    scipy.io.savemat(folder / "setid.mat", {key: np.array(ids, np.uint16) for key, ids in splits.items()})


def write_birdsnap(root: Path) -> None:
    for name in ("train/Ovenbird/1.jpg", "train/Osprey/2.jpg", "test/Osprey/3.jpg", "test/Ovenbird/4.jpg"):
        picture(root / "birdsnap" / name)


WRITERS: dict[str, Write] = {
    "food101": write_food101,
    "sun397": write_sun397,
    "cars": write_cars,
    "aircraft": write_aircraft,
    "voc2007": write_voc2007,
    "dtd": write_dtd,
    "pets": write_pets,
    "caltech101": write_caltech101,
    "flowers": write_flowers,
    "birdsnap": write_birdsnap,
}
OWN_VALIDATION = {"aircraft", "voc2007", "dtd", "flowers"}


def sets_of(name: str, root: str | Path, *, download: bool = False) -> PictureSets:
    sets = find_source(name).load(str(root), download)
    assert isinstance(sets, PictureSets)
    return sets


def downloads(name: str) -> bool:
    source = find_source(name)
    assert isinstance(source, FunctionSource)
    return source.downloads


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PictureSets]:
    def loaded(name: str) -> PictureSets:
        WRITERS[name](tmp_path)
        monkeypatch.setattr(torchvision.datasets.flowers102, "check_integrity", lambda path, md5: Path(path).exists())
        return sets_of(name, tmp_path)

    return loaded


def content(part: Any) -> list[tuple[str, str | int]]:
    """Name of the file, and name of the class, of every picture."""
    assert isinstance(part, FilePictures)
    names = part.class_names
    return [
        (part.path(position).name, names[target] if names else target)
        for position, target in enumerate(part.targets.tolist())
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_pictures_can_be_read_and_validated_apart_from_the_test(load: Callable[[str], PictureSets], name: str) -> None:
    sets = load(name)
    assert (sets.val is not sets.test) == (name in OWN_VALIDATION)
    files = set()
    for part in {id(part): part for part in sets}.values():
        assert isinstance(part, FilePictures)
        assert part.targets.dtype == torch.int64
        assert part.in_channels == find_source(name).in_channels == 3
        for position in range(len(part)):
            assert part.read(position).shape == (3, 10, 12)
            assert part.path(position) not in files
            files.add(part.path(position))


def test_metrics_are_those_of_the_paper() -> None:
    found = {name: find_source(name).metric for name in (*WRITERS, "cifar10", "cifar100")}
    assert {name for name, metric in found.items() if metric == "mean_per_class"} == {
        "aircraft", "pets", "caltech101", "flowers"
    }  # fmt: skip
    assert [name for name, metric in found.items() if metric == "map11"] == ["voc2007"]
    assert set(found.values()) == set(METRICS)


def test_food101(load: Callable[[str], PictureSets]) -> None:
    sets = load("food101")
    assert sets.train.class_names == ["apple_pie", "sushi"]
    assert [(name, label) for name, label in content(sets.train)] == [
        ("11.jpg", "sushi"), ("12.jpg", "sushi"), ("11.jpg", "apple_pie"), ("12.jpg", "apple_pie")
    ]  # fmt: skip
    assert content(sets.test) == [("13.jpg", "sushi"), ("13.jpg", "apple_pie")]


def test_sun397_uses_the_official_lists(load: Callable[[str], PictureSets]) -> None:
    sets = load("sun397")
    assert sets.train.class_names == ["abbey", "apse/indoor"]
    assert content(sets.train) == [("sun_b3.jpg", "apse/indoor"), ("sun_a1.jpg", "abbey")]
    assert content(sets.test) == [("sun_a5.jpg", "abbey")]


def test_sun397_list_of_other_pictures(tmp_path: Path, load: Callable[[str], PictureSets]) -> None:
    lines(tmp_path / "SUN397" / "Partitions" / "Training_01.txt", "/a/abbey/sun_a1.jpg")
    lines(tmp_path / "SUN397" / "Partitions" / "Testing_01.txt", "/a/abbey/sun_a1.jpg", "/a/abbey/sun_zz.jpg")
    load("sun397")  # the lists beside the pictures come first
    for split in ("Training", "Testing"):
        (tmp_path / "SUN397" / f"{split}_01.txt").unlink()
    with pytest.raises(InputError, match=r"Testing_01\.txt lists 2 pictures, 1 of which are not in .*sun_zz\.jpg"):
        sets_of("sun397", tmp_path)


def test_sun397_without_lists_draws_a_split_of_the_same_size(tmp_path: Path) -> None:
    lines(tmp_path / "SUN397" / "ClassName.txt", "/a/abbey", "/b/bar")
    for kind, count in (("a/abbey", 100), ("b/bar", 120)):
        (tmp_path / "SUN397" / kind).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "SUN397" / kind / f"sun_{number}.jpg").touch()
    with pytest.warns(UserWarning, match=r"official partition of SUN397 is not there.*Training_01\.txt"):
        sets = sets_of("sun397", tmp_path)
    with pytest.warns(UserWarning, match="official partition"):
        again = sets_of("sun397", tmp_path)
    assert content(again.train) == content(sets.train)
    for part in (sets.train, sets.test):
        assert part is not None
        assert torch.bincount(part.targets).tolist() == [50, 50]
    assert not set(content(sets.train)) & set(content(sets.test))
    numbers = [int(name[4:-4]) for name, kind in content(sets.train) if kind == "bar"]
    assert max(numbers) > 100  # they are drawn from all


def test_cars(load: Callable[[str], PictureSets]) -> None:
    sets = load("cars")
    first, second = "AM General Hummer SUV 2000", "Acura RL Sedan 2012"
    assert sets.train.class_names == [first, second]
    assert content(sets.train) == [("00001.jpg", second), ("00002.jpg", first), ("00003.jpg", second)]
    assert content(sets.test) == [("00001.jpg", first), ("00002.jpg", second)]


@pytest.mark.parametrize("download", [True, False])
def test_cars_cannot_be_downloaded(tmp_path: Path, download: bool) -> None:
    with pytest.raises(FileNotFoundError, match=r"no longer offer it.*cars_test_annos_withlabels\.mat into '.*_cars'"):
        find_source("cars").load(str(tmp_path), download)
    assert not downloads("cars")


def test_aircraft(load: Callable[[str], PictureSets]) -> None:
    sets = load("aircraft")
    assert content(sets.train) == [("1.jpg", "DC-10"), ("2.jpg", "707-320")]
    assert content(sets.val) == [("3.jpg", "707-320")]
    assert content(sets.test) == [("4.jpg", "DC-10")]


def test_voc2007_has_several_labels_and_one_for_all_that_needs_one(load: Callable[[str], PictureSets]) -> None:
    sets = load("voc2007")
    assert content(sets.train) == [("000001.jpg", "dog"), ("000003.jpg", "person")]  # person: difficult ones only
    assert content(sets.val) == [("000004.jpg", "tvmonitor")]
    assert content(sets.test) == [("000002.jpg", "car"), ("000005.jpg", "cat")]
    targets = sets.train.multi_targets
    assert targets is not None
    assert (targets.shape, targets.dtype) == ((2, 20), torch.int64)
    known = {(row, VOC_CLASSES[column]): int(targets[row, column]) for row, column in (targets != 0).nonzero().tolist()}
    assert known == {(0, "dog"): 1, (0, "person"): 1, (0, "chair"): -1, (1, "person"): -1}


def test_voc2007_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(url: str, root: str, filename: str, md5: str) -> None:
        fetched.append(filename)
        write_voc2007(tmp_path)

    monkeypatch.setattr(torchvision.datasets.voc, "download_and_extract_archive", fetch)
    for _ in range(2):
        assert len(sets_of("voc2007", tmp_path, download=True).train) == 2
    assert fetched == ["VOCtrainval_06-Nov-2007.tar"]


def test_dtd_is_its_first_partition(load: Callable[[str], PictureSets]) -> None:
    sets = load("dtd")
    assert content(sets.train) == [("dotted_2.jpg", "dotted"), ("banded_1.jpg", "banded")]
    assert content(sets.val) == [("banded_3.jpg", "banded"), ("dotted_4.jpg", "dotted")]
    assert content(sets.test) == [("banded_5.jpg", "banded"), ("dotted_6.jpg", "dotted")]


def test_pets(load: Callable[[str], PictureSets]) -> None:
    sets = load("pets")
    assert content(sets.train) == [
        ("Abyssinian_100.jpg", "Abyssinian"), ("shiba_inu_7.jpg", "Shiba Inu"), ("shiba_inu_8.jpg", "Shiba Inu")
    ]  # fmt: skip
    assert content(sets.test) == [("shiba_inu_9.jpg", "Shiba Inu"), ("Abyssinian_3.jpg", "Abyssinian")]


def test_caltech101_learns_from_thirty_of_each_class(load: Callable[[str], PictureSets], tmp_path: Path) -> None:
    sets = load("caltech101")
    assert sets.train.class_names == ["Faces", "accordion"]
    assert sets.test is not None
    assert torch.bincount(sets.train.targets).tolist() == [30, 30]
    assert torch.bincount(sets.test.targets).tolist() == [4, 1]
    assert len({*content(sets.train), *content(sets.test)}) == 65
    assert content(sets_of("caltech101", tmp_path).train) == content(sets.train)
    assert content(sets.test) != [(f"image_{n:04d}.jpg", "Faces") for n in range(31, 35)] + [
        ("image_0031.jpg", "accordion")
    ]


def test_flowers(load: Callable[[str], PictureSets]) -> None:
    sets = load("flowers")
    assert sets.test is not None
    assert sets.val is not None
    assert [name for name, _ in content(sets.train)] == ["image_00006.jpg", "image_00001.jpg"]
    assert (sets.train.targets.tolist(), sets.val.targets.tolist()) == ([0, 2], [0, 1])
    assert sets.test.targets.tolist() == [1, 101]


def test_birdsnap_is_a_folder(load: Callable[[str], PictureSets]) -> None:
    sets = load("birdsnap")
    assert content(sets.train) == [("2.jpg", "Osprey"), ("1.jpg", "Ovenbird")]
    assert content(sets.test) == [("3.jpg", "Osprey"), ("4.jpg", "Ovenbird")]


def test_birdsnap_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "birdsnap" / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Birdsnap is not in .*get_birdsnap\.py.*test/<species>/"):
        find_source("birdsnap").load(str(tmp_path), True)
    assert not downloads("birdsnap")


@pytest.mark.parametrize("name", sorted({*WRITERS} - {"cars", "birdsnap"}))
def test_missing_files_say_what_to_type(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"not, or not intact, in '{tmp_path}'.*--data\.download true"):
        find_source(name).load(str(tmp_path), False)
    assert downloads(name)


@pytest.mark.parametrize(("name", "where"), [("food101", "food101"), ("caltech101", "caltech"), ("voc2007", "voc")])
def test_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise OSError("no route to host")

    module = getattr(torchvision.datasets, where)
    monkeypatch.setattr(module, "download_and_extract_archive", fail)
    with pytest.raises(InputError, match=r"could not be downloaded to .*no route to host"):
        find_source(name).load(str(tmp_path), True)


def test_root_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("cars", "pets", "sun397", "birdsnap"):
        WRITERS[name](tmp_path / "data")
        assert sets_of(name, "~/data").train.read(0).shape == (3, 10, 12)


def test_several_labels_follow_the_pictures_but_not_other_labels(load: Callable[[str], PictureSets]) -> None:
    sets = load("voc2007")
    splits = arrange(sets, cache=True)
    assert isinstance(splits.train.pictures, InMemoryPictures)
    assert splits.train.pictures.multi_targets is sets.train.multi_targets
    assert splits.num_classes == 20
    relabelled = sets.train.relabelled(torch.tensor([-1, 0]), ["a"])
    assert relabelled.multi_targets is None
    assert sets.train.multi_targets is not None


@pytest.mark.parametrize("name", ["voc2007", "pets"])
def test_pretraining_batches(load: Callable[[str], PictureSets], tmp_path: Path, name: str) -> None:
    load(name)
    data = SimCLRDataModule(name, tmp_path, batch_size=2, download=False, num_workers=0)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.crops[0].pixels.shape == (2, 2, 3, 224, 224)
    assert (batch.targets.shape, batch.targets.dtype) == ((2,), torch.int64)
    assert data.num_classes == {"voc2007": 20, "pets": 2}[name]
