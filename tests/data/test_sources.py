from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from simclr_lightning.data import (
    SOURCES,
    DatasetPictures,
    InMemoryPictures,
    IterableStream,
    LabelledDataModule,
    PictureSets,
    SimCLRDataModule,
    Source,
    Stream,
    find_source,
    register_source,
    sources,
)
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewRecipe


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test registers are forgotten."""
    before = dict(SOURCES)
    monkeypatch.setattr(sources, "SOURCES", before)
    monkeypatch.setattr(f"{__name__}.SOURCES", before)


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'cifar11'. Did you mean cifar10.*Choose one of digits, "):
        find_source("cifar11")
    with pytest.raises(ValueError, match=r"Choose one of digits, cifar10, .*, birdsnap, folder, packed, hf:NAME, or"):
        find_source("?")


class Squares:
    """A data set that is told where it is, as torchvision's are."""

    classes = ("red", "blue")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.told = (root, train, download)
        self.targets = [0, 1] * (3 if train else 1)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (4, 4), self.classes[self.targets[position]]), self.targets[position]


def told(pictures: Any) -> Any:
    assert isinstance(pictures, DatasetPictures)
    return pictures.dataset.told


def test_callable_is_given_the_arguments_that_it_has() -> None:
    entry = find_source(Squares)
    assert entry.downloads  # type: ignore[attr-defined]
    assert entry.in_channels is None
    sets = entry.load("somewhere", True)
    assert isinstance(sets, PictureSets)
    assert told(sets.train) == ("somewhere", True, True)
    assert told(sets.test) == ("somewhere", False, True)
    assert sets.val is sets.test
    assert sets.train.class_names == ["red", "blue"]


def test_callable_without_arguments_has_training_pictures_only() -> None:
    sets = find_source(lambda: [torch.zeros(1, 2, 2, dtype=torch.uint8)]).load("", False)
    assert isinstance(sets, PictureSets)
    assert (len(sets.train), sets.val, sets.test) == (1, None, None)


@pytest.mark.parametrize("separator", [".", ":"])
def test_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    code = "import torch\ndef two():\n    return [torch.zeros(1, 2, 2, dtype=torch.uint8)] * 2\n"
    (tmp_path / "my_pictures.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    sets = find_source(f"my_pictures{separator}two").load("", False)
    assert isinstance(sets, PictureSets)
    assert len(sets.train) == 2


@pytest.mark.parametrize("path", ["no_such_module.pictures", "simclr_lightning.data.no_such_name", "..", "a b.c"])
def test_import_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(ValueError, match=f"Cannot import the data set '{path}'.*Choose one of"):
        find_source(path)


@pytest.mark.parametrize(("dataset", "error"), [(3, TypeError), ("math.pi", InputError)])
def test_data_set_that_cannot_be_called(dataset: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected a name or a callable"):
        find_source(dataset)


GREY = ViewRecipe("grayscale", size=6)


def two() -> list[torch.Tensor]:
    return [torch.zeros(1, 4, 4, dtype=torch.uint8)] * 2


class Noise:
    """A source."""

    recipe, in_channels, metric = GREY, 1, "mean_per_class"

    def load(self, root: str, download: bool) -> PictureSets:
        images = torch.randint(256, (40, 1, 6, 6), dtype=torch.uint8)
        return PictureSets(InMemoryPictures(images, torch.arange(40) % 2, ["a", "b"]))


class Endless:
    """A stream."""

    recipe, in_channels = GREY, 1

    def __init__(self, root: str = "nowhere") -> None:
        self.root = root

    def batches(self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int) -> Any:
        share = batch_size // world_size
        first = rank * share
        while split == "train":
            indices = torch.arange(first, first + share)
            yield ImageBatch(
                torch.zeros(share, 1, 6, 6, dtype=torch.uint8), None, torch.full_like(indices, -1), indices
            )
            first += batch_size


def test_a_function_is_registered_with_what_is_known_of_it() -> None:
    assert register_source("two", recipe=GREY, in_channels=1, metric="map11")(two) is two
    source = find_source("two")
    assert isinstance(source, Source)
    assert (source.recipe, source.in_channels, source.metric) == (GREY, 1, "map11")
    data = SimCLRDataModule("two", batch_size=2)
    data.setup("fit")
    assert (data.recipe, data.num_pictures, data.metric, data.hparams["dataset"]) == (GREY, 2, "map11", "two")


def test_a_function_is_registered_without_anything() -> None:
    register_source("two")(two)
    assert find_source("two").recipe == ViewRecipe("imagenet")
    assert SimCLRDataModule("two", views=GREY).in_channels == 1


@pytest.mark.parametrize("entry", [Noise, Noise()])
def test_a_source_is_registered(entry: Any) -> None:
    register_source("noise")(entry)
    data = LabelledDataModule("noise", batch_size=10)
    data.prepare_data()
    data.setup("fit")
    assert (data.recipe, data.num_pictures, data.metric, data.class_names) == (GREY, 40, "mean_per_class", ["a", "b"])


@pytest.mark.parametrize("entry", [Endless, Endless("photos")])
def test_a_stream_is_registered(entry: Any) -> None:
    register_source("endless")(entry)
    data = SimCLRDataModule("endless", "photos" if entry is Endless else "", batch_size=8, num_workers=0)
    data.setup("fit")
    assert isinstance(data.stream, Stream)
    assert data.stream.root == "photos"  # type: ignore[attr-defined]
    assert (data.recipe, data.in_channels, data.num_pictures) == (GREY, 1, None)
    assert next(iter(data.train_dataloader())).indices.tolist() == list(range(8))


def test_pictures_and_iterables_are_what_a_function_may_return() -> None:
    pictures = InMemoryPictures(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3))
    sets = find_source(lambda train: pictures).load("", False)
    assert sets == PictureSets(pictures, pictures, pictures)
    assert find_source(lambda: sets).load("", False) is sets

    class Iterable:
        def __init__(self, train: bool) -> None:
            self.train = train

        def __iter__(self) -> Any:
            return iter(two())

    stream = find_source(Iterable).load("", False)
    assert isinstance(stream, IterableStream)
    assert [stream.sets[split].train for split in ("train", "val")] == [True, False]  # type: ignore[attr-defined]


def test_a_name_that_is_taken() -> None:
    with pytest.raises(InputError, match="There is a data set 'digits' already: register yours under another name"):
        register_source("digits")(two)


def test_a_metric_that_there_is_not() -> None:
    with pytest.raises(
        InputError, match="metric of the data set two is 'f1': choose one of top1, mean_per_class, map11"
    ):
        register_source("two", metric="f1")(two)  # type: ignore[arg-type]


def test_a_source_without_what_must_be_known() -> None:
    class Half:
        def load(self, root: str, download: bool) -> None: ...

    with pytest.raises(TypeError, match=r"no source: it should have recipe, in_channels, metric and load"):
        find_source(Half)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A package with an entry point, as pip leaves it."""
    (folder / "plug_in.py").write_text(code)
    about = folder / "plug_in-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug_in\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[simclr_lightning.sources]\nanything = plug_in\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)


def test_installed_packages_are_asked_for_an_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import torch
from simclr_lightning.data import register_source

@register_source("plugged")
def plugged():
    return [torch.zeros(1, 2, 2, dtype=torch.uint8)] * 3
"""
    install(tmp_path, monkeypatch, code)
    find_source("digits")
    assert "plug_in" not in sys.modules
    sets = find_source("plugged").load("", False)
    assert isinstance(sets, PictureSets)
    assert len(sets.train) == 3
    with pytest.raises(InputError, match=r"Unknown data set 'pluged'. Did you mean plugged"):
        find_source("pluged")


def test_an_installed_package_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "import no_such_package")
    with pytest.raises(InputError, match="Cannot import the data sets of plug_in: No module named 'no_such_package'"):
        find_source("plugged")
