"""The palette holds what it promises, to everybody."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from simclr_lightning.drawing.palette import COLOURS, MARKERS, MOST_NAMED, RIGHT, WRONG, style

# Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0, on linear RGB.
VISION = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TAB10 = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"]


def lab(colour: str, vision: str) -> NDArray[np.float64]:
    """CIELAB (D65) of an sRGB colour as somebody sees it."""
    coded = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    shares = np.array(to_xyz) @ seen / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(shares > 216 / 24389, np.cbrt(shares), (24389 / 27 * shares + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colours: tuple[str, ...] | list[str], vision: str) -> float:
    """CIE76 between the two that are most alike."""
    return min(float(np.linalg.norm(lab(a, vision) - lab(b, vision))) for a, b in combinations(colours, 2))


def test_the_measure_is_right() -> None:
    np.testing.assert_allclose(lab("#ffffff", "normal"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab("#ff0000", "normal"), [53.24, 80.09, 67.20], atol=0.02)
    assert least_distance(TAB10, "protanopia") == pytest.approx(4.6, abs=0.05)


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_apart(vision: str) -> None:
    assert least_distance(COLOURS, vision) > 17
    assert np.linalg.norm(lab(RIGHT, vision) - lab(WRONG, vision)) > 40
    assert max(lab(colour, vision)[0] for colour in COLOURS) < 86, "seen on white"


def test_colour_and_marker_name_a_hundred_classes() -> None:
    assert len({style(number) for number in range(100)}) == 100
    assert set(map(tuple, map(style, range(100)))) == set(product(COLOURS, MARKERS))
    assert [len({style(number)[part] for number in range(10)}) for part in (0, 1)] == [10, 10]
    assert MOST_NAMED <= 100
