"""Nearest neighbours of some pictures: what an encoder takes for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from simclr_lightning.drawing.figure_image import as_image, as_it_is, shortened
from simclr_lightning.drawing.palette import FAINT, INK, RIGHT, WRONG
from simclr_lightning.errors import InputError

_GAP = 0.35  # between the query and its neighbours, in sides of a picture
_CELL = 1.22, 1.62  # width and height of a picture with its text, in sides of a picture


class Neighbours(NamedTuple):
    """Pictures, and who is nearest to them.

    Attributes:
        queries: (Q,) int64 places.
        places: (Q, k) int64 places of the nearest, the nearest first.
        similarities: (Q, k) float32 cosines.

    Example:
        >>> nearest(torch.eye(3), torch.tensor([0]), k=1).places.shape
        torch.Size([1, 1])
    """

    queries: Tensor
    places: Tensor
    similarities: Tensor


def choose_queries(targets: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Places of pictures to look for neighbours of: of as many classes as there are, at random.

    Args:
        targets: (N,) int64 classes, -1 where unlabelled.
        count: at most.
        seed: of the choice.

    Returns:
        (Q,) int64, in the order of the classes.

    Example:
        >>> targets = torch.tensor([0, 0, 0, 0, 1])
        >>> targets[choose_queries(targets, 2)]
        tensor([0, 1])
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).tolist()
    seen: dict[int, int] = {}
    turn = {}
    for place in order:  # the first of every class, then the second of every class, ...
        label = int(targets[place])
        turn[place] = seen[label] = seen.get(label, -1) + 1
    chosen = sorted(order, key=lambda place: turn[place])[:count]
    return torch.tensor(sorted(chosen, key=lambda place: int(targets[place])), dtype=torch.int64)


def nearest(features: Tensor, queries: Tensor, *, k: int) -> Neighbours:
    """The nearest neighbours of some pictures among all others, by cosine.

    Args:
        features: (N, F) float.
        queries: (Q,) int64 places.
        k: neighbours, at least 1; all others where there are fewer.

    Raises:
        InputError: if there are fewer than two pictures.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> nearest(features, torch.tensor([0]), k=2).places
        tensor([[1, 2]])
    """
    if len(features) < 2:
        raise InputError(f"A picture has neighbours among two or more; there are {len(features)}.")
    rows = F.normalize(features.float())
    cosines = rows[queries] @ rows.T
    cosines[torch.arange(len(queries)), queries] = -torch.inf
    found = cosines.topk(min(k, len(rows) - 1))
    return Neighbours(queries, found.indices, found.values)


def draw_neighbours(
    found: Neighbours,
    pictures: Tensor,
    targets: Tensor,
    *,
    title: str,
    class_names: Sequence[str] | None = None,
) -> Image.Image:
    """Draw each query with its neighbours beside it, the nearest first, and their similarities.

    Neighbours of the query's class have a whole frame and a tick, those of another one a dashed frame, a cross and the
    name of their class. Where one of the two has no label, there is neither.

    Args:
        found: of N pictures.
        pictures: (N, 3, H, W) uint8.
        targets: (N,) int64 classes, -1 where unlabelled.
        title: above the strips.
        class_names: names of the classes, their numbers by default.

    Example:
        >>> found = nearest(torch.eye(3), torch.tensor([0, 1]), k=2)
        >>> black = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
        >>> draw_neighbours(found, black, torch.tensor([0, 0, 1]), title="Neighbours").mode
        'RGB'
    """
    rows, columns = found.places.shape
    wide, high = _CELL
    width, height = _GAP + wide * (1 + columns), high * rows
    figure = Figure(figsize=(max(6.0, width), height + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.1, max(6.0, width)), ylim=(height, -0.5), aspect="equal")
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11)
    axes.text(0.5, -0.2, "query", ha="center", fontsize=10, fontweight="bold", color=INK)
    told = "nearest first, with cosine similarity"
    told += "; ✓ of the same class, ✗ of another" if (targets[found.queries] >= 0).any() else ""
    axes.text(_GAP + wide, -0.2, told, fontsize=10, color=INK)
    for row, (query, places, cosines) in enumerate(
        zip(found.queries.tolist(), found.places.tolist(), found.similarities.tolist(), strict=True)
    ):
        label = int(targets[query])
        name = "" if label < 0 else _name(label, class_names)
        for column, place in enumerate([query, *places]):
            left, top = column * wide + _GAP * (column > 0), row * high
            pixels = pictures[place].permute(1, 2, 0).numpy()
            axes.imshow(pixels, extent=(left, left + 1, top + 1, top), interpolation="nearest", zorder=2)
            if column == 0:
                line, colour, text = "-", INK, name
            else:
                other = int(targets[place])
                line, colour, text = _verdict(label, other, cosines[column - 1], class_names)
            frame = Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linestyle=line, linewidth=2.5, zorder=3)
            axes.add_patch(frame)
            as_it_is(axes.text(left + 0.5, top + 1.08, text, ha="center", va="top", fontsize=9, color=INK))
    return as_image(figure)


def _name(label: int, names: Sequence[str] | None) -> str:
    return shortened(names[label]) if names else f"class {label}"


def _verdict(query: int, label: int, cosine: float, names: Sequence[str] | None) -> tuple[str, str, str]:
    """Line, colour and text of a neighbour."""
    if query < 0 or label < 0:
        return "-", FAINT, f"{cosine:.3f}"
    if query == label:
        return "-", RIGHT, f"✓ {cosine:.3f}"
    return (0, (2, 1.5)), WRONG, f"✗ {cosine:.3f}\n{_name(label, names)}"  # type: ignore[return-value]
