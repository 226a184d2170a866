"""Which pictures are trained on, watched and tested, and which of them carry labels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.cache import cached
from simclr_lightning.data.folder import folder_sets
from simclr_lightning.data.labels import balanced_subset, stratified_split
from simclr_lightning.data.packed import is_packed, packed_sets
from simclr_lightning.data.pictures import FilePictures, InMemoryPictures, Pictures, PictureSets
from simclr_lightning.errors import InputError


class Split(NamedTuple):
    """Part of a set of pictures.

    Attributes:
        pictures: the set.
        positions: (n,) int64, the pictures that belong to the part.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> Split(pictures, torch.tensor([0, 4])).positions.tolist()
        [0, 4]
    """

    pictures: Pictures
    positions: Tensor


class Splits(NamedTuple):
    """The parts that a run works with, as :func:`arrange` makes them.

    Attributes:
        train: pictures to pre-train on; none of them where they come as a stream.
        labelled: labelled pictures that a classifier may learn from, None where there are none.
        val: pictures to watch the training with, None where there are none.
        test: pictures to judge the result on, None where there are none.
        class_names: names of the classes, None where they have none.
        num_classes: number of classes, None where nothing is labelled.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.full((9,), -1))
        >>> arrange(PictureSets(pictures)).labelled is None
        True
    """

    train: Split
    labelled: Split | None
    val: Split | None
    test: Split | None
    class_names: list[str] | None
    num_classes: int | None


def arrange(
    sets: PictureSets,
    *,
    probe: str | None = None,
    val_fraction: float = 0.0,
    label_fraction: float = 1.0,
    cache: bool = False,
    on_bad_picture: Literal["raise", "skip"] = "raise",
    seed: int = 0,
    reading: Reading | None = None,
    groups: Tensor | None = None,
) -> Splits:
    """Assign every picture its part.

    Args:
        sets: the data set.
        probe: folder of labelled pictures; the training pictures then count as unlabelled.
        val_fraction: share of the labelled pictures (of ``probe``, or of the training set) set aside for validation.
        label_fraction: share of the labels that is kept, class-balanced.
        cache: whether to read all pictures into memory.
        on_bad_picture: what the cache does about pictures that cannot be read.
        seed: of both fractions.
        reading: how files are read; None: as the pictures have it.
        groups: (N,) int64, equal where training pictures belong together, -1 where one belongs to none. Then
            ``val_fraction`` is a share of the groups, which are not torn apart; nothing changes with ``probe``.

    Raises:
        InputError: if there are too few labels for what is asked, classes do not match, or channels differ.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(90, 3, 8, 8, dtype=torch.uint8), torch.arange(90) % 3)
        >>> splits = arrange(PictureSets(pictures), val_fraction=0.1, label_fraction=0.5)
        >>> [len(part.positions) for part in (splits.train, splits.labelled, splits.val)], splits.num_classes
        ([81, 40, 9], 3)
    """
    source = sets if probe is None else _probe(probe)
    pictures = {
        "train": sets.train,
        "labelled": source.train,
        "val": sets.val or source.val,
        "test": sets.test or source.test,
    }
    present = {name: part for name, part in pictures.items() if part is not None}
    if reading is not None:
        for part in present.values():
            part.reading = reading
    if cache:
        present = _in_memory(present, on_bad_picture)
    names, labels = present["labelled"].class_names, bool((present["labelled"].targets >= 0).any())
    same = present.get("val") is present.get("test")
    for name in ("test", "val"):
        if name in present:
            again = same and name == "val"
            present[name] = present["test"] if again else _labelled_as(present[name], names, labels, name)
    if probe is not None:
        present["train"] = _unlabelled(present["train"])
    _check_channels(present)

    parts = {name: Split(part, torch.nonzero(~part.bad)[:, 0]) for name, part in present.items()}
    if val_fraction:
        learn, positions = parts["labelled"]
        together = None if groups is None or probe is not None else groups[positions]
        kept, aside = stratified_split(learn.targets[positions], val_fraction, seed, learn.class_names, together)
        parts |= {"labelled": Split(learn, positions[kept]), "val": Split(learn, positions[aside])}
        if probe is None:
            parts["train"] = parts["labelled"]
    if label_fraction < 1 or labels:
        parts["labelled"] = _usable(parts["labelled"], label_fraction, seed)
        if label_fraction < 1 and probe is None:
            parts["train"] = hide_other_labels(parts["train"], parts["labelled"].positions)
    largest = max(int(part.pictures.targets.max()) for part in parts.values())
    return Splits(
        parts["train"],
        parts["labelled"] if labels else None,
        parts.get("val"),
        parts.get("test"),
        names,
        len(names) if names is not None else largest + 1 if labels else None,
    )


def arrange_beside_stream(stream: object, probe: str | None, **options: Any) -> Splits:
    """What there is beside training pictures that come as a stream: a labelled folder, or nothing.

    Args:
        stream: may have attributes ``in_channels``, 3 by default, and ``class_names``, which are those of the classes
            where there is no folder.
        probe: folder of labelled pictures.
        options: as :func:`arrange` takes them.

    Raises:
        InputError: as :func:`arrange`; also if there is nothing that the options could be about.

    Example:
        >>> splits = arrange_beside_stream(object(), None)
        >>> len(splits.train.positions), splits.labelled, splits.val
        (0, None, None)
    """
    train = Split(_NoPictures(getattr(stream, "in_channels", None) or 3), torch.arange(0))
    if probe is not None:
        splits = arrange(_probe(probe), **options)
        _check_channels({"train": train.pictures, "probe": splits.train.pictures})
        return splits._replace(train=train)
    for option, default in (("val_fraction", 0.0), ("label_fraction", 1.0), ("cache", False)):
        value = options.get(option, default)
        if value != default:
            raise InputError(
                f"{option} is {value}, and pictures that come as a stream cannot be counted or kept: leave it out, or "
                "name a folder of labelled pictures that it is about",
                f"data.{option} {default}".lower(),
                "data.probe",
            )
    names = getattr(stream, "class_names", None)
    return Splits(train, None, None, None, *((None, None) if names is None else (list(names), len(names))))


def hide_other_labels(train: Split, allowed: Tensor) -> Split:
    """Training batches must not show the labels that ``label_fraction`` rules out; validation keeps its own.

    Args:
        train: training pictures.
        allowed: (n,) int64, positions of the pictures whose labels may be shown.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1]))
        >>> hide_other_labels(Split(pictures, torch.arange(3)), torch.tensor([0, 2])).pictures.targets
        tensor([ 0, -1,  1])
    """
    targets = torch.full_like(train.pictures.targets, -1)
    targets[allowed] = train.pictures.targets[allowed]
    return Split(train.pictures.relabelled(targets, train.pictures.class_names), train.positions)


def labelled_part(splits: Splits) -> Split:
    """The pictures that a classifier learns from.

    Raises:
        InputError: if nothing is labelled.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1]))
        >>> part = Split(pictures, torch.arange(3))
        >>> labelled_part(Splits(part, part, None, None, None, 2)) is part
        True
    """
    if splits.labelled is None:
        raise InputError(
            "None of the training pictures has a label, and a classifier needs some: sort them into class folders, or "
            "name a folder of labelled pictures",
            "data.root",
            "data.probe",
        )
    return splits.labelled


class _NoPictures(Pictures):
    def __init__(self, channels: int) -> None:
        super().__init__(torch.full((0,), -1), None, channels, equal_size=False)

    def read(self, position: int) -> Tensor:
        raise IndexError(f"There is no picture {position}: the training pictures come as a stream.")


def _probe(root: str) -> PictureSets:
    sets = packed_sets(root) if is_packed(root) else folder_sets(root)
    if isinstance(sets.train, FilePictures) and sets.train.findings is not None:
        sets.train.findings.warn()
    if sets.train.class_names is None:
        raise InputError(f"The probe folder {root!r} needs class folders, at least two: its pictures have no labels.")
    return sets


def _in_memory(sets: dict[str, Pictures], on_bad_picture: Literal["raise", "skip"]) -> dict[str, Pictures]:
    distinct = {id(pictures): pictures for pictures in sets.values()}  # one set may serve as val and as test
    for key, pictures in distinct.items():
        if not isinstance(pictures, InMemoryPictures):
            distinct[key] = cached(pictures, on_bad_picture)
    return {name: distinct[id(pictures)] for name, pictures in sets.items()}


def _check_channels(sets: dict[str, Pictures]) -> None:
    channels = sets["train"].in_channels
    for name, pictures in sets.items():
        if pictures.in_channels != channels:
            raise InputError(
                f"The {name} pictures have {pictures.in_channels} channel(s) and the training pictures {channels}: all "
                "must have the same."
            )


def _usable(part: Split, fraction: float, seed: int) -> Split:
    """The labelled pictures of a part, or as many of them as the fraction allows."""
    targets = part.pictures.targets[part.positions]
    chosen = targets >= 0 if fraction == 1 else balanced_subset(targets, fraction, seed, part.pictures.class_names)
    return Split(part.pictures, part.positions[chosen])


def _unlabelled(pictures: Pictures) -> Pictures:
    return pictures.relabelled(torch.full_like(pictures.targets, -1), None)


def _labelled_as(pictures: Pictures, names: list[str] | None, has_labels: bool, split: str) -> Pictures:
    """Number the classes of an evaluation set as those that a classifier learns from."""
    if not has_labels:
        if bool((pictures.targets >= 0).any()):
            rank_zero_warn(
                f"The {split} pictures have labels, but there are none to learn from, so they are not used: name a "
                "folder of labelled pictures with --data.probe."
            )
        return _unlabelled(pictures)
    if not bool((pictures.targets >= 0).any()):
        rank_zero_warn(
            f"The {split} pictures are unlabelled, so nothing is judged by them: sort them into class folders as the "
            "training pictures are, or leave them out."
        )
    if names is None or pictures.class_names is None or pictures.class_names == names:
        return pictures
    unknown = sorted(set(pictures.class_names) - set(names))
    number = torch.tensor([names.index(name) if name in names else -1 for name in pictures.class_names])
    targets = torch.where(pictures.targets < 0, -1, number[pictures.targets])
    if unknown:
        told = f"The {split} pictures have classes that the labelled pictures lack: {', '.join(unknown[:5])}"
        told += ", ..." * (len(unknown) > 5)
        if not bool((targets >= 0).any()):
            raise InputError(f"{told}. No class is the same: name the folders of both alike.")
        left = int(((targets < 0) & (pictures.targets >= 0)).sum())
        rank_zero_warn(f"{told}. Their {left:,} picture(s) count as unlabelled, so nothing is judged by them.")
    return pictures.relabelled(targets, names)
