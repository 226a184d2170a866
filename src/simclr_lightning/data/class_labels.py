"""Labels as people have them, numbers, columns, one-hot rows or names, become class indices, or an error says why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.errors import InputError

_FORMS = "integers, (N,) or (N, 1), one-hot rows (N, classes), or names of classes; None or -1 is unlabelled"


def class_indices(
    labels: Iterable[Any], owner: str, class_names: Sequence[str] | None = None
) -> tuple[Tensor, list[str] | None]:
    """Class indices of labels in any of the usual forms, and the names of the classes.

    Example:
        >>> class_indices([[2], [0], [1]], "Flowers")  # a column
        (tensor([2, 0, 1]), None)
        >>> class_indices(np.eye(3)[[2, 0]], "Flowers", ["iris", "lily", "rose"])  # one-hot
        (tensor([2, 0]), ['iris', 'lily', 'rose'])
        >>> class_indices(["rose", None, "iris"], "Flowers")
        (tensor([ 1, -1,  0]), ['iris', 'rose'])

    Args:
        labels: one for each picture: integers; arrays of shape (1,); one-hot arrays of any dtype, in which a row of
            zeros is unlabelled; texts; None where unlabelled.
        owner: of the labels, for messages.
        class_names: names of the classes, in the order of their indices, where they are known. Texts that are labels
            are looked up in them; without them their classes are numbered in alphabetical order.

    Returns:
        (N,) int64, -1 where unlabelled, and the names, None where there are none.

    Raises:
        InputError: if labels are anything else; it names their shape, or the first that is wrong, and the owner.
    """
    given = list(labels)
    names = None if class_names is None else list(class_names)
    present = [label for label in given if label is not None]
    if any(isinstance(label, (str, bytes)) for label in present):
        return _of_texts(given, owner, names)
    if not present:
        return torch.full((len(given),), -1), names
    try:
        array = np.asarray(present)
    except ValueError:  # of several shapes
        shapes = sorted({np.shape(label) for label in present})
        raise InputError(f"The labels of {owner} have the shapes {str(shapes[:4])[1:-1]}: expected {_FORMS}.") from None
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"The labels of {owner} are {present[0]!r} and the like ({type(present[0]).__name__}): expected {_FORMS}."
        )
    if array.ndim > 2:
        raise InputError(f"The labels of {owner} have the shape {array.shape}: expected {_FORMS}.")
    if array.ndim == 2:
        array = array[:, 0] if array.shape[1] == 1 else _of_one_hot(array, owner)
    if array.dtype.kind == "f":
        raise InputError(f"The labels of {owner} should be integers, got {present[0]!r}: expected {_FORMS}.")
    indices = torch.full((len(given),), -1)
    indices[torch.tensor([label is not None for label in given])] = torch.from_numpy(array.astype(np.int64))
    return indices, names


def _of_texts(labels: list[Any], owner: str, names: list[str] | None) -> tuple[Tensor, list[str]]:
    texts = [label.decode() if isinstance(label, bytes) else label for label in labels]
    for text in texts:
        if text is not None and not isinstance(text, str):
            raise InputError(f"The labels of {owner} are names, but one is {text!r}: expected {_FORMS}.")
    names = sorted({str(text) for text in texts if text is not None}) if names is None else names
    numbers = {None: -1} | {name: number for number, name in enumerate(names)}
    unknown = next((text for text in texts if text not in numbers), None)
    if unknown is not None:
        raise InputError(f"A label of {owner} is {unknown!r}, which is none of its classes: {', '.join(names[:20])}.")
    return torch.tensor([numbers[text] for text in texts]), names


def _of_one_hot(rows: np.ndarray[Any, Any], owner: str) -> np.ndarray[Any, Any]:
    """(N,) of (N, classes)."""
    wrong = ((rows != 0) & (rows != 1)).any(1) | (rows.sum(1) > 1)
    if wrong.any():
        number = int(wrong.argmax())
        raise InputError(
            f"The labels of {owner} have the shape {rows.shape}, and row {number} is not one-hot: "
            f"{rows[number].tolist()[:10]}.\nExpected {_FORMS}."
        )
    return np.where(rows.any(1), rows.argmax(1), -1)
