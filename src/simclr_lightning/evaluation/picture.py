"""Features in two dimensions, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor

from simclr_lightning.features import Features

_MOST_PICTURES = 2000
_MOST_NAMES = 20  # as many colours as one can tell apart


def plot_features(
    panels: Mapping[str, Features],
    path: Path,
    *,
    split: str,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Draw a t-SNE (van der Maaten and Hinton 2008) of the same pictures for several encoders, side by side.

    Features are compared by their directions, as kNN does. At most 2,000 pictures are drawn, evenly spread over the
    split. Classes are named where there are at most 20.

    Args:
        panels: title of each panel, and features of the same pictures in the same order.
        path: of the PNG.
        split: where the pictures are from.
        class_names: names of the classes, their numbers by default.
        seed: of the t-SNE.
    """
    targets = next(iter(panels.values())).targets
    chosen = torch.linspace(0, len(targets) - 1, min(len(targets), _MOST_PICTURES)).round().long()
    if targets.ndim == 2:  # a picture may show several classes: the first of them
        targets = (targets == 1).int().argmax(1)
    labels = targets[chosen].numpy()
    names = class_names or [str(label) for label in range(labels.max() + 1)]
    figure = Figure(figsize=(6 * len(panels) + 2, 6.5), layout="constrained")
    for axes, (title, features) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        points = _two_dimensional(features.features[chosen], seed)
        for label in np.unique(labels):
            axes.scatter(*points[labels == label].T, s=6, color=_colour(label, len(names)), label=names[label])
        axes.set(title=title, xticks=[], yticks=[])
    figure.suptitle(f"t-SNE of the features of {len(labels)} {split} pictures")
    if len(names) <= _MOST_NAMES:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", markerscale=2.5, frameon=False)
    figure.savefig(path, dpi=120)


def _two_dimensional(features: Tensor, seed: int) -> NDArray[np.float32]:
    tsne = TSNE(perplexity=min(30.0, (len(features) - 1) / 3), init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(tsne.fit_transform(F.normalize(features).numpy()), dtype=np.float32)


def _colour(label: int, classes: int) -> tuple[float, float, float, float]:
    if classes <= _MOST_NAMES:
        return colormaps["tab10" if classes <= 10 else "tab20"](label)
    return colormaps["turbo"](label / (classes - 1))
