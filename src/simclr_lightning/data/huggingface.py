"""Data sets of Hugging Face ``datasets``, by their name on the hub or the path of a folder: the extra ``hf``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import torch
from torch import Tensor

from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.data.decode import BadPictureError, fault
from simclr_lightning.data.items import decoded
from simclr_lightning.data.pictures import Pictures, PictureSets
from simclr_lightning.data.sources import IMAGENET, SCHEMES, Metric
from simclr_lightning.data.split_names import split_folders, split_of
from simclr_lightning.errors import InputError, MissingPackageError
from simclr_lightning.views import ViewRecipe

_LABELS = ("label", "labels", "target", "class")  # columns of numbers or names that hold classes
_OPTIONS = ("image", "label", "config")


class HuggingFacePictures(Pictures):
    """Pictures in a column of a data set of Hugging Face, in RGB.

    Args:
        dataset: a ``datasets.Dataset``.
        image: column of the pictures.
        label: column of the labels, numbers or names; None where there are none.
        name: of the data set, for messages.

    Raises:
        InputError: if there are no pictures, or the labels are none.

    Example:
        >>> from PIL import Image
        >>> class Two(list):  # stands for a datasets.Dataset
        ...     features = {}
        >>> row = {"photo": Image.new("L", (5, 4))}
        >>> HuggingFacePictures(Two([row, row]), "photo", None, "hf:mine").read(1).shape
        torch.Size([3, 4, 5])
    """

    def __init__(self, dataset: Any, image: str, label: str | None, name: str) -> None:
        if not len(dataset):
            raise InputError(f"{name} has no pictures.")
        targets, names = torch.full((len(dataset),), -1), None
        if label is not None:
            names = getattr(dataset.features[label], "names", None)
            targets, names = class_indices(dataset[label], f"{name}, column {label}", names)
        super().__init__(targets, names, in_channels=3, equal_size=False)
        self.dataset = dataset.select_columns([image]) if hasattr(dataset, "select_columns") else dataset
        self.image, self._name = image, name

    def name(self, position: int) -> str:
        """Number of the picture and name of the data set."""
        return f"Picture {position} of {self._name}"

    def read(self, position: int) -> Tensor:
        """One picture in RGB."""
        try:
            picture = self.dataset[position][self.image]
        except InputError:
            raise
        except Exception as error:  # whatever its decoder raises
            raise BadPictureError(f"Cannot read {self.name(position)}: {fault(error)}.") from error
        return decoded(picture, None, self.name(position), self.reading.max_megapixels)


class HuggingFaceSource:
    """A data set of Hugging Face: ``hf:NAME`` on the hub, or ``hf:PATH`` of a folder on this machine.

    A folder was written by ``save_to_disk``, or holds files that ``load_dataset`` reads, such as parquet. The splits
    are called train, validation and test, in any form that folders may have; others are not used. The columns are found
    where there is one of pictures, and one of class labels at most; or they are named, and so is the configuration of a
    data set that has several: ``hf:cifar100?image=img&label=fine_label``.

    Args:
        address: what follows ``hf:``.

    Raises:
        InputError: if what follows the question mark is unknown.

    Example:
        >>> source = HuggingFaceSource("cifar100?image=img&label=fine_label")
        >>> source.path, source.image, source.label, source.in_channels
        ('cifar100', 'img', 'fine_label', 3)

    Attributes:
        recipe: of the views.
        in_channels: 3, as all pictures become RGB.
        metric: top1.
        downloads: whether it is on the hub.
    """

    recipe: ViewRecipe = IMAGENET
    in_channels: int | None = 3
    metric: Metric = "top1"

    def __init__(self, address: str) -> None:
        self.path, _, options = address.partition("?")
        named = {key: values[-1] for key, values in parse_qs(options).items()}
        unknown = sorted(named.keys() - set(_OPTIONS))
        if unknown or not self.path or (options and not named):
            raise InputError(
                f"Cannot read the data set 'hf:{address}': expected a name or a folder, and after a question mark "
                f"{', '.join(_OPTIONS)} where they are not found",
                "data.dataset 'hf:NAME?image=COLUMN&label=COLUMN'",
            )
        self.image, self.label, self.config = (named.get(option) for option in _OPTIONS)

    @property
    def downloads(self) -> bool:
        """Whether there is anything to fetch."""
        return not Path(self.path).is_dir()

    def load(self, root: str, download: bool) -> PictureSets:
        """Find the pictures.

        Args:
            root: folder where data sets from the hub are kept.
            download: whether to fetch one that is not there.

        Raises:
            MissingPackageError: if the package datasets is not installed.
            InputError: if there is no such data set, or its columns are neither found nor named rightly.
        """
        splits = _splits(self._loaded(root, download))
        name = f"hf:{self.path}"
        features = splits["train"].features
        image = _image_column(features, self.image, name)
        label = _label_column(features, self.label, name)
        sets = {split: HuggingFacePictures(dataset, image, label, name) for split, dataset in splits.items()}
        return PictureSets(sets["train"], sets.get("val", sets.get("test")), sets.get("test"))

    def _loaded(self, root: str, download: bool) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise MissingPackageError(
                'Data sets named hf:... need the package datasets: pip install "simclr-lightning[hf]"'
            ) from error
        saved = any((Path(self.path) / name).is_file() for name in ("dataset_dict.json", "state.json"))
        try:
            if saved:
                return datasets.load_from_disk(self.path)
            local = datasets.DownloadConfig(local_files_only=not download)
            return datasets.load_dataset(self.path, self.config, cache_dir=root, download_config=local)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"'hf:{self.path}' is no data set that could be read from a folder here or from the hub: {first}\n"
                "Correct it",
                "data.dataset hf:NAME",
                "data.dataset hf:FOLDER",
            ) from error


def _splits(loaded: Any) -> dict[str, Any]:
    """What was loaded, by our names of the splits."""
    if not isinstance(loaded, dict):
        return {"train": loaded}
    by_name = {str(name): dataset for name, dataset in loaded.items()}
    named = split_folders(by_name)
    if not named:
        alone = list(by_name) if len(by_name) == 1 else [name for name in by_name if split_of(name) == "train"]
        if not alone:
            raise InputError(f"There is no split train to learn from, only {', '.join(by_name)}.")
        named = {"train": alone[0]}
    return {split: by_name[name] for split, name in named.items()}


def _image_column(features: Any, typed: str | None, name: str) -> str:
    found = [column for column, kind in features.items() if type(kind).__name__ == "Image"]
    return _column("image", typed, found, features, name) or _missing("image", "of pictures", features, name)


def _label_column(features: Any, typed: str | None, name: str) -> str | None:
    found = [column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    if not found:
        found = [column for column in _LABELS if column in features][:1]
    return _column("label", typed, found, features, name)


def _column(option: str, typed: str | None, found: Sequence[str], features: Any, name: str) -> str | None:
    if typed is not None:
        return typed if typed in features else _missing(option, f"called {typed!r}", features, name)
    if len(found) > 1:
        raise InputError(
            f"{name} has several columns for {option}: {', '.join(found)}. Choose one",
            f"data.dataset '{name}?{option}={found[0]}'",
        )
    return found[0] if found else None


def _missing(option: str, what: str, features: Any, name: str) -> str:
    raise InputError(
        f"{name} has no column {what}; it has {', '.join(features)}. Name one",
        f"data.dataset '{name}?{option}=COLUMN'",
    )


SCHEMES["hf"] = HuggingFaceSource
