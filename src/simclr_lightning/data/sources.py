"""Data sets by name: an open registry, and what may stand behind a name."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, TypeVar, get_args, runtime_checkable

from torch.utils.data import IterableDataset

from simclr_lightning.data.dataset_pictures import DatasetPictures
from simclr_lightning.data.iterable import IterableStream
from simclr_lightning.data.pictures import Pictures, PictureSets
from simclr_lightning.data.stream import Stream
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe

Metric = Literal["top1", "mean_per_class", "map11"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""By what classifiers of a data set are judged: share of right answers, its mean over the classes, or VOC2007's mAP."""

ENTRY_POINTS = "simclr_lightning.sources"
"""Group of entry points: modules that register sources. They are imported when a name is unknown."""

IMAGENET = ViewRecipe("imagenet")
"""The views of a data set that has none of its own."""

_EntryT = TypeVar("_EntryT")


@runtime_checkable
class Source(Protocol):
    """A data set, with what is known of it before it is there.

    Attributes:
        recipe: views that fit the pictures.
        in_channels: channels of the pictures, None where they are known only when the data is there.
        metric: by what classifiers of the pictures are judged: top1, mean_per_class or map11.

    Example:
        >>> class Noise:
        ...     recipe, in_channels, metric = ViewRecipe("cifar10"), 3, "top1"
        ...     def load(self, root, download):
        ...         images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
        ...         return PictureSets(InMemoryPictures(images, torch.arange(64) % 2))
        >>> import torch
        >>> from simclr_lightning.data import InMemoryPictures
        >>> len(find_source(Noise).load("data", False).train)
        64
    """

    @property
    def recipe(self) -> ViewRecipe:
        """Views that fit the pictures."""

    @property
    def in_channels(self) -> int | None:
        """Channels of the pictures."""

    @property
    def metric(self) -> Metric:
        """By what classifiers of the pictures are judged."""

    def load(self, root: str, download: bool) -> PictureSets | Stream:
        """Find the pictures.

        Args:
            root: folder of the data.
            download: whether to fetch what is not there. First one process of each node is asked to, then all are asked
                not to.
        """


SOURCES: dict[str, Source] = {}
"""The data sets that have a name, in the order of their registration."""

SCHEMES: dict[str, Callable[[str], Source]] = {}
"""What makes sources of all names that begin with ``SCHEME:``, from the rest of the name."""


@dataclass(frozen=True)
class FunctionSource:
    """A function, or a class, that returns a data set.

    Args:
        function: is given those of the arguments ``root``, ``download`` and ``train`` that it has; with ``train`` it is
            called twice, and what it returns for ``train=False`` is for validation and test. It returns a map-style or
            an iterable data set of PIL pictures or tensors (C, H, W), alone or in pairs with an integer label, or
            ``Pictures``, ``PictureSets`` or a ``Stream``.
        recipe: views that fit the pictures.
        in_channels: channels of the pictures, None where they are known only when the data is there.
        metric: by what classifiers of the pictures are judged.

    Example:
        >>> import torch
        >>> source = FunctionSource(lambda: [torch.zeros(1, 8, 8, dtype=torch.uint8)] * 5)
        >>> len(source.load("data", False).train), source.downloads
        (5, False)
    """

    function: Callable[..., Any]
    recipe: ViewRecipe = IMAGENET
    in_channels: int | None = None
    metric: Metric = "top1"

    @property
    def downloads(self) -> bool:
        """Whether ``download`` means anything to the function."""
        return self.takes("download")

    def takes(self, argument: str) -> bool:
        """Whether the function has such an argument."""
        return argument in inspect.signature(self.function).parameters

    def load(self, root: str, download: bool) -> PictureSets | Stream:
        """See :meth:`Source.load`."""
        accepted = inspect.signature(self.function).parameters
        given = {key: value for key, value in {"root": root, "download": download}.items() if key in accepted}
        if "train" not in accepted:
            return _as_sets(self.function(**given))
        return _as_sets(self.function(**given, train=True), self.function(**given, train=False))


def register_source(
    name: str,
    *,
    recipe: ViewRecipe | None = None,
    in_channels: int | None = None,
    metric: Metric = "top1",
) -> Callable[[_EntryT], _EntryT]:
    """Decorator that gives a data set a name, for ``--data.dataset NAME`` and ``SimCLRDataModule("NAME")``.

    An installed package needs no import where its entry points name the module:
    ``[project.entry-points."simclr_lightning.sources"]``, ``mine = "my_package.my_module"``.

    Args:
        name: of the data set.
        recipe: views that fit the pictures of a function: by default its attribute ``recipe``, or the preset imagenet.
        in_channels: channels of the pictures of a function, None where they are known only when the data is there.
        metric: by what classifiers of the pictures of a function are judged.

    Returns:
        What takes a function or a class as :class:`FunctionSource` does, or a :class:`Source`, or a :class:`Stream`, or
        the class of one, and returns it unchanged.

    Raises:
        InputError: if the name is taken, or the metric unknown.

    Example:
        >>> import torch
        >>> @register_source("black", recipe=ViewRecipe("grayscale"), in_channels=1)
        ... def black(root):
        ...     return [torch.zeros(1, 28, 28, dtype=torch.uint8)] * 300
        >>> from simclr_lightning import SimCLRDataModule
        >>> SimCLRDataModule("black").recipe.size
        28
        >>> _ = SOURCES.pop("black")
    """
    if name in SOURCES:
        raise InputError(f"There is a data set {name!r} already: register yours under another name.")
    if metric not in METRICS:
        raise InputError(f"The metric of the data set {name} is {metric!r}: choose one of {', '.join(METRICS)}.")

    def register(entry: _EntryT) -> _EntryT:
        SOURCES[name] = _source_of(entry, recipe, in_channels, metric)
        return entry

    return register


def find_source(dataset: Any) -> Source:
    """Look up a data set.

    Args:
        dataset: name, or whatever may be registered under one, or its import path (package.module.name), or hf:NAME.

    Raises:
        InputError: if there is no such name or import path, or what is there is no data set.
        TypeError: if it is neither a name nor a data set.

    Example:
        >>> find_source("digits").in_channels
        1
    """
    if not isinstance(dataset, str):
        return _source_of(dataset)
    scheme, colon, rest = dataset.partition(":")
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](rest)
    path = "." in dataset or ":" in dataset
    if dataset not in SOURCES and not path:
        _load_entry_points()
    if dataset in SOURCES:
        return SOURCES[dataset]
    near = difflib.get_close_matches(dataset, SOURCES, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    choice = f"Choose one of {', '.join(SOURCES)}, hf:NAME, or the import path of a function that returns a data set."
    if not path:
        raise InputError(f"Unknown data set {dataset!r}.{hint} {choice}")
    try:
        entry = pkgutil.resolve_name(dataset)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Cannot import the data set {dataset!r}: {error}. {choice}") from error
    try:
        return _source_of(entry)
    except TypeError as error:
        raise InputError(f"{dataset} is no data set: {error}") from error


def check_imported(dataset: object, origin: object) -> None:
    """Refuse a data set that a file names by an import path, unless its module was imported.

    Args:
        dataset: as the file names it.
        origin: of the name, for the message.

    Raises:
        InputError: if it would have to be imported.

    Example:
        >>> check_imported("digits", "last.ckpt")
        >>> check_imported("their_project.data.make", "last.ckpt")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: last.ckpt names the data set their_project.data.make, and nothing is \
imported because a file names it: import their_project.data first, or pass dataset=.
    """
    if not isinstance(dataset, str) or dataset in SOURCES or dataset.partition(":")[0] in SCHEMES:
        return
    parts = dataset.replace(":", ".").split(".")
    for number in range(len(parts), 0, -1):
        if (found := sys.modules.get(".".join(parts[:number]))) is not None:
            for name in parts[number:]:
                found = getattr(found, name, None)
            if found is not None:
                return
    if len(parts) > 1:
        raise InputError(
            f"{origin} names the data set {dataset}, and nothing is imported because a file names it: import "
            f"{'.'.join(parts[:-1])} first, or pass dataset=."
        )


def qualified_name(dataset: Any) -> str:
    """Where a function, a class, or the class of something else is defined: package.module.name.

    Example:
        >>> qualified_name(FunctionSource)
        'simclr_lightning.data.sources.FunctionSource'
    """
    return f"{getattr(dataset, '__module__', '')}.{getattr(dataset, '__qualname__', type(dataset).__name__)}"


def _load_entry_points() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"Cannot import the data sets of {entry.value}: {error}. Mend or remove it.") from error


def _source_of(
    entry: Any, recipe: ViewRecipe | None = None, in_channels: int | None = None, metric: Metric = "top1"
) -> Source:
    if hasattr(entry, "load") and not hasattr(entry, "__getitem__"):
        source = entry() if inspect.isclass(entry) else entry
        if isinstance(source, Source):
            return source
        raise TypeError(f"{entry!r} is no source: it should have recipe, in_channels, metric and load(root, download).")
    function = entry if callable(entry) else lambda: entry
    if not callable(entry) and not isinstance(entry, (Stream, IterableDataset, Pictures, PictureSets)):
        raise TypeError(f"dataset is {entry!r}: expected a name or a callable that returns a data set.")
    own = recipe or getattr(entry, "recipe", None) or IMAGENET
    return FunctionSource(function, own, in_channels or getattr(entry, "in_channels", None), metric)


def _as_sets(train: Any, test: Any = None) -> PictureSets | Stream:
    if isinstance(train, (Stream, PictureSets)):
        return train
    if isinstance(train, IterableDataset) or (isinstance(train, Iterable) and not hasattr(train, "__getitem__")):
        return IterableStream({"train": train} if test is None else {"train": train, "val": test})
    made = (part if part is None or isinstance(part, Pictures) else DatasetPictures(part) for part in (train, test))
    pictures, judged = made
    assert pictures is not None  # a function that returns nothing has been refused
    return PictureSets(pictures, judged, judged)
