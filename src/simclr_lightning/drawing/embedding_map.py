"""Features in two dimensions: which pictures an encoder finds alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simclr_lightning.drawing.figure_image import as_image, as_it_is, shortened
from simclr_lightning.drawing.palette import COLOURS, FAINT, INK, MOST_NAMED, QUANTITIES, UNKNOWN, style
from simclr_lightning.errors import InputError, MissingPackageError

Method = Literal["pca", "tsne", "umap"]
"""How features become places in the plane."""

_THUMBNAIL = 24  # points (1/72 inch) of a picture's side
_SIDE = 7.0  # inches of the map
_LEAST_SPREAD = 1e-6  # of unit features; below it they are one


class EmbeddingMap(NamedTuple):
    """Where features lie in two dimensions.

    Attributes:
        points: (N, 2) float32.
        name: of the method.
        axes: what the two directions are, and their units.

    Example:
        >>> EmbeddingMap(np.zeros((1, 2), np.float32), "PCA", ("first", "second")).name
        'PCA'
    """

    points: NDArray[np.float32]
    name: str
    axes: tuple[str, str]


def check_method(method: str) -> None:
    """Make sure that a method can be used, before anything is computed.

    Args:
        method: pca, tsne or umap.

    Raises:
        InputError: if there is no such method.
        MissingPackageError: if umap-learn is not installed.

    Example:
        >>> check_method("mds")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no map by 'mds': choose pca, tsne or umap.
    """
    if method not in get_args(Method):
        raise InputError(f"There is no map by {method!r}: choose pca, tsne or umap.")
    if method == "umap" and find_spec("umap") is None:
        raise MissingPackageError(
            'A map by umap needs the package umap-learn: pip install "simclr-lightning[umap]", or choose tsne.'
        )


def two_dimensional(features: Tensor, method: Method = "pca", *, seed: int = 0) -> EmbeddingMap:
    """Features in two dimensions, by their directions, as kNN compares them.

    Args:
        features: (N, F) float, finite. Fewer than four pictures, and features that are all the same, are not worth a
            t-SNE or UMAP and come by PCA.
        method: pca shows the directions in which features differ most, and distances in them; it takes no time. tsne
            and umap show who is beside whom: distances between groups mean little.
        seed: of what is random in a method.

    Raises:
        InputError: if there is no such method.
        MissingPackageError: if umap-learn is not installed.

    Source: t-SNE: van der Maaten & Hinton 2008; UMAP: McInnes et al. 2018 (arXiv 1802.03426).

    Example:
        >>> import torch
        >>> two_dimensional(torch.eye(3).repeat(4, 1)).axes[0]
        'first principal component (50 % of the variance)'
    """
    check_method(method)
    rows: NDArray[np.float32] = F.normalize(features.float()).numpy()
    if rows.shape[1] < 2:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    if method == "pca" or len(rows) < 4 or rows.std(0).max() < _LEAST_SPREAD:
        return _principal(rows, seed)
    if method == "tsne":
        from sklearn.manifold import TSNE

        tsne = TSNE(perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", learning_rate="auto", random_state=seed)
        return EmbeddingMap(_plane(tsne.fit_transform(rows)), "t-SNE", _directions("t-SNE"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its parts that need TensorFlow
        from umap import UMAP

        found = UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1).fit_transform(rows)
    return EmbeddingMap(_plane(found), "UMAP", _directions("UMAP"))


def _principal(rows: NDArray[np.float32], seed: int) -> EmbeddingMap:
    from sklearn.decomposition import PCA

    if len(rows) < 2:
        return EmbeddingMap(np.zeros((len(rows), 2), np.float32), "PCA", _components(np.zeros(2)))
    with np.errstate(invalid="ignore"):  # all the same: no share of no variance
        pca = PCA(n_components=2, random_state=seed).fit(rows)
    return EmbeddingMap(_plane(pca.transform(rows)), "PCA", _components(np.nan_to_num(pca.explained_variance_ratio_)))


def _components(shares: NDArray[Any]) -> tuple[str, str]:
    first, second = (f"{100 * share:.2g} % of the variance" for share in shares.tolist())
    return f"first principal component ({first})", f"second principal component ({second})"


def _directions(method: str) -> tuple[str, str]:
    return f"{method}, first dimension (no unit)", f"{method}, second dimension (no unit)"


def _plane(points: Any) -> NDArray[np.float32]:
    return np.asarray(points, dtype=np.float32)


def draw_map(
    found: EmbeddingMap,
    targets: Tensor,
    *,
    title: str,
    class_names: Sequence[str] | None = None,
    pictures: Tensor | None = None,
) -> Image.Image:
    """Draw a map: a point a picture, coloured by its class, or by one colour where nothing is labelled.

    Args:
        found: of N pictures.
        targets: (N,) int64 classes, -1 where unlabelled.
        title: above the map.
        class_names: names of the classes, their numbers by default. More than 20 are coloured by their numbers.
        pictures: (N, 3, H, W) uint8, to be drawn in place of the points, as far as they find room.

    Example:
        >>> import torch
        >>> found = two_dimensional(torch.eye(4))
        >>> draw_map(found, torch.tensor([0, 1, 1, -1]), title="Four pictures", class_names=["cat", "dog"]).mode
        'RGB'
    """
    labels: NDArray[np.int64] = targets.numpy()
    names = class_names or [str(label) for label in range(max(0, int(labels.max(initial=-1))) + 1)]
    figure = Figure(figsize=(_SIDE + 2, _SIDE), layout="constrained")
    axes = figure.subplots()
    if pictures is not None:
        shown = draw_thumbnails(axes, found.points, pictures)
        # Whoever is drawn as a picture has the marker of its class at a corner.
        corner = ScaledTranslation(-0.5 * _THUMBNAIL / 72, 0.5 * _THUMBNAIL / 72, figure.dpi_scale_trans)
        shift: Transform = axes.transData + corner
        scatter_classes(axes, found.points[~shown], labels[~shown], names, size=10, zorder=1)
        marks: dict[str, Any] = {"size": 30, "transform": shift, "zorder": 5, "edgecolors": INK, "linewidths": 0.6}
        scatter_classes(axes, found.points[shown], labels[shown], names, **marks)
    else:
        scatter_classes(axes, found.points, labels, names, size=24)
    axes.set(xlabel=found.axes[0], ylabel=found.axes[1])
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.06)
    name_classes(figure, axes, labels, names)
    return as_image(figure)


def draw_thumbnails(axes: Axes, points: NDArray[np.float32], pictures: Tensor) -> NDArray[np.bool_]:
    """Draw pictures at their points, as far as they find room, in random order; which (N,) were drawn is returned.

    Example:
        >>> import torch
        >>> axes = Figure().subplots()
        >>> points = np.array([[0, 0], [0.01, 0], [1, 1]], np.float32)
        >>> int(draw_thumbnails(axes, points, torch.zeros(3, 3, 8, 8, dtype=torch.uint8)).sum())  # two would overlap
        2
    """
    low, spread = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    places = (points - low) / spread * (0.9 * _SIDE * 72 / _THUMBNAIL)  # in sides of a picture
    shown = np.zeros(len(points), dtype=bool)
    for number in np.random.default_rng(0).permutation(len(points)):  # data sets are sorted by class
        taken = places[shown]
        if len(taken) and np.abs(taken - places[number]).max(1).min() < 1:
            continue
        shown[number] = True
        pixels = pictures[number].permute(1, 2, 0).numpy()
        drawn = OffsetImage(pixels, zoom=_THUMBNAIL / max(pixels.shape[:2]), cmap="gray", interpolation="nearest")
        x, y = points[number].tolist()
        box = AnnotationBbox(drawn, (x, y), frameon=False, pad=0)
        box.set_in_layout(False)
        axes.add_artist(box)
    axes.update_datalim(points)
    axes.autoscale_view()
    return shown


def scatter_classes(
    axes: Axes,
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    names: Sequence[str],
    *,
    size: float,
    **settings: Any,
) -> None:
    """Points with the colour and the marker of their class; small dots are unlabelled ones among others.

    Args:
        axes: to draw on.
        points: (N, 2).
        labels: (N,) classes, -1 where unlabelled.
        names: of all classes. Where there are more than 20, colours follow their numbers.
        size: of a point, in square points.
        settings: of matplotlib's scatter.

    Example:
        >>> axes = Figure().subplots()
        >>> scatter_classes(axes, np.zeros((3, 2), np.float32), np.array([0, 1, -1]), ["cat", "dog"], size=9)
        >>> len(axes.collections)
        3
    """
    settings = {"linewidths": 0.3, "edgecolors": "white", **settings}
    if (labels < 0).all():
        axes.scatter(points[:, 0], points[:, 1], s=size, color=COLOURS[0], **settings)
        return
    x, y = points.T
    known = labels >= 0
    if not known.all():
        dots = settings | {"linewidths": 0}
        axes.scatter(x[~known], y[~known], s=size / 3, color=UNKNOWN, marker=".", **dots)
    if len(names) > MOST_NAMED:
        numbers: dict[str, Any] = {"c": labels[known], "cmap": QUANTITIES, "vmin": 0, "vmax": len(names) - 1}
        axes.scatter(x[known], y[known], s=size, **numbers, **settings)
        return
    for label in np.unique(labels[known]).tolist():
        own = labels == label
        axes.scatter(x[own], y[own], s=size, **style(label)._asdict(), **settings)


def name_classes(figure: Figure, axes: Axes, labels: NDArray[np.int64], names: Sequence[str]) -> None:
    """Say beside the figure which colour and marker a class has; of more than 20, which numbers the colours stand for.

    Example:
        >>> figure = Figure()
        >>> name_classes(figure, figure.subplots(), np.array([0, 1]), ["cat", "dog"])
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['cat', 'dog']
    """
    classes = np.unique(labels[labels >= 0]).tolist()
    if not classes:
        return
    if len(names) > MOST_NAMED:
        if coloured := [points for points in axes.collections if points.get_array() is not None]:
            figure.colorbar(coloured[-1], ax=axes, label=f"number of the class, of {len(names):,}", shrink=0.6)
        return
    handles = [Line2D([], [], linestyle="", markersize=8, **style(label)._asdict()) for label in classes]
    told = [shortened(names[label]) for label in classes]
    if (labels < 0).any():
        handles.append(Line2D([], [], linestyle="", markersize=6, color=UNKNOWN, marker="."))
        told.append("unlabelled")
    legend = figure.legend(
        handles, [str(number) for number in range(len(told))], loc="outside right upper", frameon=False, fontsize=10
    )
    for text, name in zip(legend.get_texts(), told, strict=True):  # matplotlib leaves out names that begin with _
        as_it_is(text)
        text.set_text(name)
        text.set_color(FAINT if name == "unlabelled" else "black")
