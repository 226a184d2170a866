from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from simclr_lightning.data import BadPictureError, DatasetPictures, InMemoryPictures
from simclr_lightning.errors import InputError

GREY = Image.new("L", (5, 4), 7)
COLOUR = Image.new("RGB", (6, 3), "red")
BYTES = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 4)


class Listed:
    """A data set of given items."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        if isinstance(self.items[position], Exception):
            raise self.items[position]
        return self.items[position]


def test_pil_pictures_become_rgb_and_may_differ_in_size() -> None:
    pictures = DatasetPictures(Listed([GREY, COLOUR]))
    assert pictures.in_channels == 3
    assert [pictures.read(position).shape for position in (0, 1)] == [(3, 4, 5), (3, 3, 6)]
    assert pictures.read(0)[:, 0, 0].tolist() == [7, 7, 7]
    assert pictures.targets.tolist() == [-1, -1]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_tensors_may_have_any_number_of_channels(channels: int) -> None:
    images = torch.randint(256, (4, channels, 3, 3), dtype=torch.uint8)
    pictures = DatasetPictures(Listed(list(images)))
    assert pictures.in_channels == channels
    read = pictures.read(2)
    assert isinstance(read, Tensor)
    assert torch.equal(read, images[2])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            torch.zeros(1, 3, 4, dtype=torch.uint8),
            r"Picture 1 of Listed has shape \(1, 3, 4\).*\(2, 3, 4\)",
        ),
        (torch.zeros(2, 5, 4, dtype=torch.uint8), "Return PIL pictures where sizes differ"),
        (torch.zeros(2, 3, 4), "is of torch.float32, picture 0 of torch.uint8"),
        (COLOUR, "Picture 1 of Listed is a Image.*always the same"),
        (np.zeros((3, 4)), "is a ndarray"),
    ],
)
def test_pictures_unlike_the_first(second: Any, message: str) -> None:
    pictures = DatasetPictures(Listed([BYTES, second]))
    with pytest.raises(InputError, match=message):
        pictures.read(1)


def test_tensor_after_pil_picture() -> None:
    with pytest.raises(match="always the same"):
        DatasetPictures(Listed([COLOUR, torch.zeros(3, 3, 4)])).read(1)


@pytest.mark.parametrize("first", [torch.zeros(3, 4, 4).int(), np.zeros((4, 4, 3), np.uint8), {"image": COLOUR}, None])
def test_first_picture_of_a_wrong_kind(first: Any) -> None:
    with pytest.raises(match="should return PIL pictures, or tensors"):
        DatasetPictures(Listed([first]))


def test_unreadable_picture_is_named() -> None:
    pictures = DatasetPictures(Listed([COLOUR, OSError("truncated"), Image.new("F", (2, 2))]))
    for position in (1, 2):
        with pytest.raises(BadPictureError, match=f"Picture {position} of Listed: "):
            pictures.read(position)


@pytest.mark.parametrize("attribute", ["targets", "labels"])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_labels_from_an_attribute(attribute: str, kind: Any) -> None:
    items = [(COLOUR, 9), OSError("not to be read"), OSError("not to be read")]
    pictures = DatasetPictures(Listed(items, **{attribute: kind([2, 0, 1])}, classes=("a", "b", "c")))
    assert pictures.targets.tolist() == [2, 0, 1]
    assert pictures.targets.dtype == torch.int64
    assert pictures.class_names == ["a", "b", "c"]


def test_labels_by_reading_everything_once() -> None:
    pictures = DatasetPictures(Listed([(COLOUR, 1), (GREY, None), [GREY, np.int64(0)]]))
    assert pictures.targets.tolist() == [1, -1, 0]
    assert pictures.class_names is None


def test_labels_are_integers() -> None:
    with pytest.raises(InputError, match=r"labels of Listed should be integers, got 0\.5"):
        DatasetPictures(Listed([(COLOUR, 0.5)]))


def test_empty_and_iterable_data_sets() -> None:
    with pytest.raises(ValueError, match="Listed is empty"):
        DatasetPictures(Listed([]))
    with pytest.raises(TypeError, match=r"map-style data set.*got generator"):
        DatasetPictures(item for item in [COLOUR])


def test_relabelled_pictures_share_the_pixels() -> None:
    pictures = InMemoryPictures(BYTES[None].repeat(2, 1, 1, 1), torch.tensor([0, 1]), ["a", "b"])
    other = pictures.relabelled(torch.tensor([-1, -1]), None)
    assert other.images.data_ptr() == pictures.images.data_ptr()
    assert (other.targets.tolist(), other.class_names) == ([-1, -1], None)
    assert (pictures.targets.tolist(), pictures.class_names) == ([0, 1], ["a", "b"])


def test_pictures_in_memory_are_checked() -> None:
    targets = torch.tensor([0])
    with pytest.raises(TypeError, match=r"\(N, C, H, W\) uint8, .* or float, got \(1, 2, 3, 4\) torch.int64"):
        InMemoryPictures(torch.zeros(1, 2, 3, 4).long(), targets)
    with pytest.raises(TypeError, match=r"got \(2, 3, 4\)"):
        InMemoryPictures(BYTES, targets)
    with pytest.raises(ValueError, match="2 pictures and 1 targets"):
        InMemoryPictures(BYTES[None].repeat(2, 1, 1, 1), targets)
    with pytest.raises(ValueError, match="0 pictures"):
        InMemoryPictures(BYTES[None][:0], targets[:0])
