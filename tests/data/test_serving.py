from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image

from simclr_lightning.data import (
    BadPictureError,
    DatasetPictures,
    InMemoryPictures,
    Key,
    Pictures,
)
from simclr_lightning.data.folder import scan
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.views import ViewRecipe, centre_view, crop_views

WriteTree = Callable[..., Path]
RECIPE = ViewRecipe("cifar10", size=12)
TRAINING: dict[str, Any] = {"random": True, "training": True}
EVALUATION: dict[str, Any] = {"random": True, "training": False}
CLEAN: dict[str, Any] = {"random": False, "training": False}


def served(
    pictures: Pictures,
    wanted: dict[str, Any],
    positions: list[int] | None = None,
    on_bad_picture: Literal["raise", "skip"] = "raise",
) -> BatchDataset:
    part = torch.arange(len(pictures)) if positions is None else torch.tensor(positions)
    return BatchDataset(pictures, part, [RECIPE], **wanted, seed=5, on_bad_picture=on_bad_picture)


def in_memory() -> InMemoryPictures:
    return InMemoryPictures(torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8), torch.arange(10), [*"abcdefghij"])


@pytest.mark.parametrize(
    ("wanted", "epoch", "clean"), [(TRAINING, 4, False), (EVALUATION, 4, True), (CLEAN, None, True)]
)
def test_pictures_in_memory_are_handed_over_whole(wanted: dict[str, bool], epoch: int | None, clean: bool) -> None:
    pictures = in_memory()
    batch = served(pictures, wanted, positions=[7, 8, 9]).__getitems__([Key(2, epoch=4), Key(0, epoch=4)])
    assert (batch.epoch, batch.clean) == (epoch, clean)
    assert batch.images is not None
    assert torch.equal(batch.images, pictures.images[[9, 7]])
    assert batch.crops is None
    assert batch.indices.tolist() == batch.targets.tolist() == [9, 7]


def test_repeated_pictures_lose_their_label() -> None:
    batch = served(in_memory(), CLEAN).__getitems__([Key(3), Key(0, repeated=True)])
    assert batch.targets.tolist() == [3, -1]
    assert batch.indices.tolist() == [3, 0]


def test_plain_indices_and_single_pictures(write_tree: WriteTree) -> None:
    data = served(in_memory(), TRAINING)
    assert data.__getitems__([4, 5]).indices.tolist() == [4, 5]
    assert data[6].indices.tolist() == [6]
    assert len(data) == 10


def test_files_are_cropped_as_their_epoch_and_position_say(write_tree: WriteTree) -> None:
    pictures = scan(write_tree("photos", [f"{i}.png" for i in range(6)]))
    batch = served(pictures, TRAINING, positions=[1, 3, 5]).__getitems__([Key(2, epoch=4), Key(0, epoch=4)])
    assert batch.images is None
    assert batch.crops is not None
    (crops,) = batch.crops
    assert crops.pixels.shape == (2, 2, 3, 12, 12)
    assert crops.pixels.dtype == torch.uint8
    assert batch.epoch == 4
    for place, position in enumerate((5, 1)):
        (alone,) = crop_views([pictures.read(position)], [RECIPE], torch.tensor([position]), seed=5, epoch=4)
        assert torch.equal(crops.pixels[:, [place]], alone.pixels)
        assert torch.equal(crops.parameters.sigma[:, [place]], alone.parameters.sigma)
    later = served(pictures, TRAINING).__getitems__([Key(5, epoch=5)])
    assert later.crops is not None
    assert not torch.equal(later.crops[0].pixels[:, 0], crops.pixels[:, 0])


def test_what_each_kind_of_batch_holds(write_tree: WriteTree) -> None:
    pictures = scan(write_tree("photos", ["a.png", "b.png"]))
    evaluation = served(pictures, EVALUATION).__getitems__([Key(0), Key(1)])
    clean = served(pictures, CLEAN).__getitems__([Key(0), Key(1)])
    assert evaluation.crops is not None
    assert clean.crops is None
    for batch in (evaluation, clean):
        assert batch.images is not None
        assert torch.equal(batch.images[1], centre_view(pictures.read(1), RECIPE))


def test_pictures_smaller_than_the_view_are_enlarged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (3, 1), "red").save(tmp_path / f"{name}.png")
    batch = served(scan(tmp_path), EVALUATION).__getitems__([Key(0), Key(1)])
    assert batch.crops is not None
    assert batch.images is not None
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    assert (batch.crops[0].pixels == red).all()
    assert (batch.images == red).all()
    assert batch.images.shape == (2, 3, 12, 12)


def test_tensors_of_a_data_set_are_stacked() -> None:
    images = [torch.full((5, 4, 4), value, dtype=torch.uint8) for value in range(3)]
    data: Any = [(image, 7) for image in images]
    batch = served(DatasetPictures(data), TRAINING).__getitems__([Key(2), Key(1)])
    assert batch.images is not None
    assert torch.equal(batch.images, torch.stack([images[2], images[1]]))
    assert batch.crops is None
    assert batch.targets.tolist() == [7, 7]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_bad_picture_stops_the_epoch_with_its_name_and_the_way_out(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"{i}.jpg" for i in range(4)])
    damage(root / "2.jpg")
    data = served(scan(root), TRAINING)
    assert len(data.__getitems__([Key(0), Key(1), Key(3)]).targets) == 3
    with pytest.raises(BadPictureError, match=r"photos/2\.jpg: .*truncated.*--data\.on_bad_picture skip"):
        data.__getitems__([Key(0), Key(2)])


def test_bad_picture_is_skipped_and_warned_about_once(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"c{i % 2}/{i}.jpg" for i in range(6)])  # c0: 0 2 4, c1: 1 3 5
    damage(root / "c0/4.jpg")
    (root / "c1/1.jpg").write_bytes(b"")
    pictures = scan(root)
    data = served(pictures, TRAINING, on_bad_picture="skip")
    with pytest.warns(UserWarning, match="next picture takes its place") as caught:
        batch = data.__getitems__([Key(0), Key(2), Key(5)])
    assert [str(warning.message).split(":")[0].rsplit("/", 1)[1] for warning in caught] == ["4.jpg", "1.jpg"]
    assert batch.indices.tolist() == [0, 4, 5]
    assert batch.targets.tolist() == [0, 1, 1]
    (alone,) = crop_views([pictures.read(4)], [RECIPE], torch.tensor([4]), seed=5, epoch=0)
    assert batch.crops is not None
    assert torch.equal(batch.crops[0].pixels[:, [1]], alone.pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.__getitems__([Key(2)]).indices.tolist() == [4]
        assert served(pictures, CLEAN, on_bad_picture="skip").__getitems__([Key(3)]).indices.tolist() == [4]


@pytest.mark.parametrize("wanted", [EVALUATION, CLEAN])
def test_bad_picture_is_not_judged_under_the_label_of_its_neighbour(
    write_tree: WriteTree, wanted: dict[str, bool]
) -> None:
    root = write_tree("photos", [f"c{i % 2}/{i}.jpg" for i in range(6)])  # c0: 0 2 4, c1: 1 3 5
    damage(root / "c0/4.jpg")
    (root / "c1/1.jpg").write_bytes(b"")
    data = served(scan(root), wanted, on_bad_picture="skip")
    with pytest.warns(UserWarning, match="It does not count") as caught:
        batch = data.__getitems__([Key(place) for place in range(6)])
    assert len(caught) == 2
    assert batch.targets.tolist() == [0, 0, -1, -1, 1, 1]
    assert batch.indices.tolist() == [0, 1, 4, 4, 4, 5]
    with pytest.warns(UserWarning, match="2 of these 6 pictures cannot be read, and do not count"):
        data.report_unreadable()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.report_unreadable()


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
def test_bad_picture_is_replaced_where_a_classifier_learns_from_clean_pictures(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"c{i % 2}/{i}.jpg" for i in range(4)])  # c0: 0 2, c1: 1 3
    damage(root / "c0/2.jpg")
    data = served(scan(root), {"random": False, "training": True}, on_bad_picture="skip")
    assert data.__getitems__([Key(0), Key(1)]).targets.tolist() == [0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.report_unreadable()  # they were replaced


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
def test_a_picture_of_another_part_never_takes_the_place(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"{i}.jpg" for i in range(6)])
    damage(root / "4.jpg")
    data = served(scan(root), TRAINING, positions=[0, 2, 4], on_bad_picture="skip")
    assert data.__getitems__([Key(2)]).indices.tolist() == [0]


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
def test_nothing_but_bad_pictures(write_tree: WriteTree) -> None:
    root = write_tree("photos", ["1.jpg", "2.jpg"])
    damage(root / "1.jpg")
    damage(root / "2.jpg")
    with pytest.raises(BadPictureError, match="None of the 2 pictures"):
        served(scan(root), TRAINING, on_bad_picture="skip").__getitems__([Key(0)])
