"""Curves that are drawn, and colours that can be read and told apart."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import simclr_lightning.run_report
from simclr_lightning.run_report.charts import COLOURS, DASHES, Curve, chart, look_of
from simclr_lightning.run_report.metric_columns import Floats

STYLE = (Path(simclr_lightning.run_report.__file__).parent / "page.css").read_text()


def paths_of(drawn: str, colour: int) -> list[str]:
    root = ElementTree.fromstring(drawn)
    found = [own for own in root.iter("path") if f"stroke: var(--c{colour})" in own.get("style", "")]
    return [own.get("d", "") for own in found if "M" in own.get("d", "")]


def test_points_lie_where_they_belong() -> None:
    x = np.array([0.0, 5.0, 10.0])
    (path,) = [own for own in paths_of(chart([Curve(x, 2 * x, 0)], "a", "rises", "step"), 0) if own.count("L") == 2]
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", path), dtype=float)
    assert points[1] == pytest.approx(points[[0, 2]].mean(0), abs=0.01)
    assert points[0, 0] < points[2, 0]
    assert points[0, 1] > points[2, 1]  # up is less


@pytest.mark.parametrize(
    "values",
    [[np.nan] * 3, [np.inf, 1.0, -np.inf], [1.0], [0.0] * 3, [1e-9] * 3, [1e300, -1e300, 0.0], [1.0, 1.0, 1e9]],
)
def test_curves_of_any_numbers(values: list[float]) -> None:
    drawn = chart([Curve(np.arange(len(values), dtype=float), np.array(values), 7)], "a", "b", "epoch")
    assert ElementTree.fromstring(drawn).tag == "svg"


def test_a_peak_does_not_hide_the_rest() -> None:
    """It brings a logarithmic axis; a rate that comes down to almost nothing does not."""
    x = np.arange(100.0)
    heights = []
    for y in (np.where(x == 3, 1e5, 1 + x / 100), 0.5 + 0.5 * np.cos(np.pi * x / 99) + 1e-9):
        path = max(paths_of(chart([Curve(x, y, 0)], "a", "b", "epoch"), 0), key=len)
        heights.append([float(own) for own in re.findall(r"[\d.]+ ([\d.]+)", path)])
    peak, rate = heights
    assert peak[0] - peak[-1] > 5  # from 1 to 1.99
    assert rate[len(rate) // 2] == pytest.approx((rate[0] + rate[-1]) / 2, abs=5)


def test_every_run_looks_different() -> None:
    assert len({look_of(number) for number in range(COLOURS * len(DASHES))}) == COLOURS * len(DASHES)


def linear(colour: str) -> Floats:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.asarray(np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4))


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """Of WCAG 2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def colours_of(theme: int) -> dict[str, str]:
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[theme]
    return dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", block))


@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_contrast(theme: int) -> None:
    """WCAG 2.1 asks for 4.5 (text) and 3 (lines)."""
    found = colours_of(theme)
    text = [("ink", "ground"), ("muted", "ground"), ("link", "ground"), ("well", "ground"), ("ink", "panel")]
    text += [("ill", "ill-ground"), ("ink", "ill-ground"), ("mark-ink", "mark")]
    for one, other in text:
        assert contrast(found[one], found[other]) >= 4.5, (one, other)
    for number in range(COLOURS):
        assert contrast(found[f"c{number}"], found["ground"]) >= 3, number


# What those see who lack red or green cones: Machado et al. 2009, severity 1, of linear RGB.
EYES = {
    "most": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def lab(rgb: Floats) -> Floats:
    """CIE L*a*b* of linear RGB under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    root = np.where((of := xyz / [0.9505, 1, 1.089]) > 0.008856, np.cbrt(of), 7.787 * of + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_everybody_tells_the_curves_apart(theme: int, eyes: str) -> None:
    """A distance of 20, where 2.3 can just be seen; their dashes differ, too."""
    seen = [lab(np.array(EYES[eyes]) @ linear(colours_of(theme)[f"c{number}"])) for number in range(COLOURS)]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) >= 20
