"""Similarities of positive and negative pairs: what the loss pulls together and pushes apart."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image
from torch import Tensor

from simclr_lightning.drawing.figure_image import as_image
from simclr_lightning.drawing.palette import COLOURS, INK
from simclr_lightning.errors import InputError
from simclr_lightning.metrics.health import pair_similarities

_BINS = 80  # of [-1, 1]


def pair_cosines(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of positive pairs, of all negative pairs, and of every view to its hardest negative.

    Args:
        first: (N, D) float projections of first views, N of at least 2.
        second: (N, D) float, of second views of the same pictures.

    Returns:
        (N,), (2 N (N - 1),) and (2 N,) float32: each pair counts once, but for the hardest negatives of two views.

    Raises:
        InputError: if shapes differ, or there are fewer than two pictures.

    Example:
        >>> positive, negative, hardest = pair_cosines(torch.eye(3), torch.eye(3))
        >>> positive, negative.shape, hardest.max()
        (tensor([1., 1., 1.]), torch.Size([12]), tensor(0.))
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise InputError(
            f"Two views (N, D) of two or more pictures make pairs, got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    number = len(first)
    rows = F.normalize(torch.cat([first, second]).float())
    cosines = rows @ rows.T
    positive = cosines.diagonal(number).clone()
    pictures = torch.arange(number).repeat(2)
    others = pictures[:, None] != pictures
    hardest = cosines.masked_fill(~others, -torch.inf).amax(1)
    return positive, cosines[others.triu_()], hardest


def draw_similarities(first: Tensor, second: Tensor, *, title: str) -> Image.Image:
    """Draw how similar positive pairs, negative pairs and hardest negatives are: histograms on one axis.

    Each is given in percent of its own number, so that the few positives are seen beside the many negatives.

    Args:
        first: (N, D) float projections of first views.
        second: (N, D) float, of second views of the same pictures.
        title: above.

    Raises:
        InputError: as :func:`pair_cosines`.

    Example:
        >>> draw_similarities(torch.randn(9, 4), torch.randn(9, 4), title="Similarities").mode
        'RGB'
    """
    positive, negative, hardest = pair_cosines(first, second)
    overtaken = pair_similarities(first.float(), second.float()).overtaken.item()
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    parts = (
        (negative, COLOURS[1], "-", True, "negative pairs: views of two pictures"),
        (hardest, COLOURS[2], "--", False, "hardest negative of each view"),
        (positive, COLOURS[0], "-", True, "positive pairs: two views of a picture"),
    )
    edges = torch.linspace(-1, 1, _BINS + 1)
    for number, (values, colour, line, filled, name) in enumerate(parts):
        shares = torch.histc(values.clamp(-1, 1), bins=_BINS, min=-1, max=1) / len(values)
        label = f"{name} ({len(values):,}; mean {round(values.mean().item(), 2) + 0.0:.2f})"  # no -0.00
        settings: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.8, "zorder": 2 + number}
        if filled:
            axes.stairs(shares.numpy(), edges.numpy(), fill=True, color=colour, alpha=0.35, zorder=2 + number)
        axes.stairs(shares.numpy(), edges.numpy(), label=label, **settings)
        axes.axvline(values.mean().item(), color=colour, linestyle=":", linewidth=1.5, zorder=1)
    axes.set(xlim=(-1, 1), xlabel="cosine similarity of two projections (dotted: means)")
    axes.set_ylabel(f"share of the pairs, in bins of {2 / _BINS:.3f}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=9)
    legend.set_title(f"{100 * overtaken:.1f} % of the views have a negative more similar than their positive")
    legend.get_title().set_color(INK)
    return as_image(figure)
