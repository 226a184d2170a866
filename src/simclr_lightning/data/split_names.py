"""Which folders are splits, by their names: Training and Testing, seg_train and seg_test, train2017 and val2017."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

SPLITS = ("train", "val", "test")

_WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_RANK = {word: rank for words in _WORDS.values() for rank, word in enumerate(words)}
_NEUTRAL = frozenset(
    ("set", "sets", "data", "dataset", "x", "image", "images", "img", "imgs", "picture", "pictures", "photos", "split")
)
_JOINED = re.compile(rf"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})({'|'.join(_NEUTRAL - {'x'})})")


class _Name(NamedTuple):
    """What the name of a folder says: its split, by which word, and what else is in it."""

    split: str
    word: str
    rest: tuple[str, ...]


def split_of(name: str) -> str | None:
    """The split that a word stands for: train, val or test, in any case and form; None for any other word.

    Example:
        >>> [split_of(name) for name in ("Training", "x_valid", "dev", "TEST_images", "cat")]
        ['train', 'val', 'val', 'test', None]
    """
    parsed = _parsed(name)
    return None if parsed is None or parsed.rest else parsed.split


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Recognise splits among folders that lie side by side.

    There must be one to train on and another one, and but for the split their names must be alike: seg_train belongs
    to seg_test, and train_station to nothing. Where train has both ``dev`` and ``eval`` beside it, and nothing is
    called test, ``eval`` is the test.

    Args:
        names: of the folders.

    Returns:
        Split and folder; empty where there are no splits.

    Example:
        >>> split_folders(["Testing", "Training", "notes"])
        {'train': 'Training', 'test': 'Testing'}
        >>> split_folders(["train", "dev", "eval"])
        {'train': 'train', 'val': 'dev', 'test': 'eval'}
        >>> split_folders(["train", "bus", "car"])
        {}
    """
    parsed = {name: found for name in sorted(names) if (found := _parsed(name)) is not None}
    chosen = _alike(parsed)
    if not chosen:  # train and test1: a number may tell them apart where nothing else is in doubt
        chosen = _alike({name: found._replace(rest=_letters(found.rest)) for name, found in parsed.items()})
        chosen = {} if any(len(folders) > 1 for folders in chosen.values()) else chosen
    splits = {split: chosen[split][0] for split in SPLITS if split in chosen}
    others = [name for name in chosen.get("val", [])[1:] if parsed[name].word in ("eval", "evaluation")]
    if "test" not in splits and others:
        splits["test"] = others[0]
    return splits


def looks_like_splits(names: Iterable[str]) -> list[str]:
    """Folders whose names speak of splits, some of one to train on and some of another one.

    Example:
        >>> looks_like_splits(["train1", "train2", "test", "dog"])
        ['test', 'train1', 'train2']
        >>> looks_like_splits(["train", "bus"])
        []
    """
    parsed = {name: found.split for name in sorted(names) if (found := _parsed(name)) is not None}
    return list(parsed) if "train" in parsed.values() and set(parsed.values()) != {"train"} else []


def _alike(parsed: dict[str, _Name]) -> dict[str, list[str]]:
    """Folders by split, of those whose names differ in nothing else, the plainest first."""
    groups: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in sorted(parsed, key=lambda name: (_RANK[parsed[name].word], name)):
        groups.setdefault(parsed[name].rest, {}).setdefault(parsed[name].split, []).append(name)
    whole = [rest for rest, found in groups.items() if "train" in found and len(found) > 1]
    return groups[min(whole, key=lambda rest: (len(rest), rest))] if whole else {}


def _letters(rest: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(token for token in rest if not token.isdigit())


def _parsed(name: str) -> _Name | None:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()  # TrainSet
    tokens = re.findall(r"[^\W\d_]+|\d+", _JOINED.sub(r"\1_\2", parted))
    if len(tokens) > 1 and tokens[0].isdigit():
        del tokens[0]  # 1_train, 2_test
    words = [token for token in tokens if token in _SPLIT_OF]
    if {_SPLIT_OF[word] for word in words} == {"train", "val"}:
        words = ["trainval"]
    if len(words) != 1:
        return None
    rest = tuple(token for token in tokens if token not in _SPLIT_OF and token not in _NEUTRAL)
    return _Name(_SPLIT_OF[words[0]], words[0], rest)
