"""Pictures of six domains: ``python experiments/domains/make_pictures.py satellite satellite.npz``.

Four are made by formulas; each is one .npz with train_images, train_labels, test_images, test_labels, and is the same
one for a seed:

satellite   2,000 + 1,000 tiles, 32 x 32, 10 bands, uint16: eight kinds of land use (reflectance x 10,000)
xray        2,000 + 1,000 chests, 64 x 64, 12 bits in uint16: clear lungs, and five that are not
microscopy  800 + 400 fields of cells, 64 x 64, 4 stains, uint16: four treatments
galaxy      800 + 400 galaxies, 64 x 64, 3 bands, float32: four shapes

Two are parts of a picture that scikit-image ships (pip install scikit-image), as a folder of PNGs without labels:

retina      400 parts, 128 x 128, of a photograph of the fundus
histology   400 parts, 96 x 96, of a section of a colon, stained
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter

Values = NDArray[np.float64]

# Reflectance in the ten bands of Sentinel-2 that have 10 and 20 m; rounded, of the kind that spectral libraries show.
WAVELENGTHS = np.array([490, 560, 665, 705, 740, 783, 842, 865, 1610, 2190])
SPECTRA = {
    "green": [0.03, 0.06, 0.03, 0.09, 0.25, 0.32, 0.35, 0.36, 0.18, 0.09],
    "dry": [0.07, 0.10, 0.14, 0.18, 0.22, 0.25, 0.28, 0.30, 0.33, 0.25],
    "conifer": [0.02, 0.035, 0.02, 0.05, 0.13, 0.17, 0.19, 0.20, 0.09, 0.04],
    "soil": [0.09, 0.12, 0.17, 0.19, 0.21, 0.23, 0.25, 0.26, 0.32, 0.28],
    "water": [0.06, 0.05, 0.03, 0.025, 0.02, 0.018, 0.015, 0.015, 0.008, 0.005],
    "concrete": [0.18, 0.20, 0.22, 0.23, 0.24, 0.25, 0.26, 0.26, 0.28, 0.26],
    "roof": [0.08, 0.10, 0.18, 0.20, 0.21, 0.22, 0.23, 0.24, 0.30, 0.28],
    "asphalt": [0.08, 0.09, 0.10, 0.10, 0.11, 0.11, 0.12, 0.12, 0.14, 0.13],
}


def smooth(rng: Generator, side: int, width: float) -> Values:
    """A random field of mean 0 and standard deviation 1, whose hills are about as wide as told."""
    field = gaussian_filter(rng.standard_normal((side + 16, side + 16)), width)[8:-8, 8:-8]
    return (field - field.mean()) / (field.std() + 1e-9)


def turned(rng: Generator, side: int) -> tuple[Values, Values]:
    """Coordinates of the pixels in a grid of any direction and place."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:side, :side].astype(float)
    along, across = np.cos(angle) * rows + np.sin(angle) * columns, np.cos(angle) * columns - np.sin(angle) * rows
    return along + rng.uniform(0, 99), across + rng.uniform(0, 99)


def soft(values: Values, width: float = 0.3) -> Values:
    """1 where positive, 0 where negative, and a seam between."""
    inside: Values = 1 / (1 + np.exp(-np.clip(values / width, -30, 30)))
    return inside


def per_cell(rng: Generator, rows: Values, columns: Values) -> Values:
    """A random number in [0, 1] for each cell of a grid."""
    table = rng.random((64, 64))
    return table[rows.astype(int) % 64, columns.astype(int) % 64]


def land(kind: str, rng: Generator, side: int = 32) -> dict[str, Values]:
    """How much of what covers each pixel, of a kind of land use."""
    along, across = turned(rng, side)
    cover: dict[str, Values] = {}
    if kind == "crops":  # large fields, some of them bare, with drills
        size = rng.uniform(9, 16)
        grown = per_cell(rng, along / size, across / size / rng.uniform(0.6, 1.6))
        drills = 0.5 + 0.5 * np.sin(across * 2 * np.pi / rng.uniform(2.5, 3.5))
        cover["green"] = soft(grown - 0.45, 0.1) * (0.75 + 0.25 * drills)
        cover["soil"] = 1 - cover["green"]
    elif kind == "orchard":  # trees in rows
        size = rng.uniform(4, 5.5)
        trees = np.sin(along * 2 * np.pi / size) + np.sin(across * 2 * np.pi / size)
        cover["green"] = soft(trees - 0.3) * rng.uniform(0.7, 1)
        cover["soil"] = 1 - cover["green"]
    elif kind == "forest":  # crowns of two kinds
        crowns = soft(smooth(rng, side, 1.0) + 0.6)
        needles = soft(smooth(rng, side, 5.0) + rng.normal(0, 1))
        cover["conifer"], cover["green"] = crowns * needles, crowns * (1 - needles)
        cover["soil"] = (1 - crowns) * 0.3  # the rest is shade
    elif kind == "scrub":  # bushes wherever they like
        cover["green"] = soft(smooth(rng, side, 1.5) - rng.uniform(-0.3, 0.6))
        cover["soil"] = 1 - cover["green"]
    elif kind == "homes":  # small roofs in gardens along streets
        size = rng.uniform(4.5, 6)
        street = soft(np.cos(along * 2 * np.pi / (2.5 * size)) - 0.75, 0.1)
        house = (per_cell(rng, along / size, across / size) > 0.25) & (along % size < 3) & (across % size < 3)
        cover["asphalt"], cover["roof"] = street, (1 - street) * house
        cover["green"] = (1 - street) * (1 - house) * soft(smooth(rng, side, 1.5) + 0.8)
    elif kind == "works":  # large halls between yards
        size = rng.uniform(9, 14)
        hall = soft(per_cell(rng, along / size, across / size) - 0.4, 0.05) * ((along % size > 2) & (across % size > 2))
        tone = per_cell(rng, along / size + 7, across / size + 7)
        cover["concrete"], cover["roof"] = hall * tone, hall * (1 - tone) * 0.6
        cover["asphalt"] = 1 - hall
        cover["green"] = (1 - hall) * soft(smooth(rng, side, 2.0) - 1)
    elif kind == "river":  # one band of water that winds
        bed = across - across.mean() + rng.uniform(2, 5) * np.sin(along / rng.uniform(4, 9)) + rng.normal(0, 4)
        cover["water"] = soft(rng.uniform(2.5, 6) - np.abs(bed), 0.5)
        cover["green"] = (1 - cover["water"]) * soft(smooth(rng, side, 4.0) + rng.uniform(0, 1))
        cover["soil"] = 1 - cover["water"] - cover["green"]
    else:  # bog: many pools
        cover["water"] = soft(smooth(rng, side, 2.0) - rng.uniform(0, 0.8))
        cover["green"] = (1 - cover["water"]) * soft(smooth(rng, side, 4.0) + rng.uniform(0, 1))
        cover["soil"] = 1 - cover["water"] - cover["green"]
    return cover


def satellite(kind: str, rng: Generator) -> NDArray[np.uint16]:
    """A tile, (32, 32, 10): cover x spectra, then season, soil, light, haze, sensor."""
    cover = land(kind, rng)
    spectra = {name: np.array(values) for name, values in SPECTRA.items()}
    season = rng.beta(0.8, 0.8) * 0.9
    spectra["green"] = (1 - season) * spectra["green"] + season * spectra["dry"]
    spectra["soil"] = spectra["soil"] * rng.uniform(0.5, 1.3)  # wet or dry
    spectra["water"] = spectra["water"] + rng.uniform(0, 0.4) * np.array(SPECTRA["soil"]) * (WAVELENGTHS < 800)  # mud
    tile = sum(amount[..., None] * spectra[name] * rng.normal(1, 0.08, 10) for name, amount in cover.items())
    assert isinstance(tile, np.ndarray)
    tile *= 1 + 0.06 * rng.standard_normal((32, 32, 1))
    light = rng.uniform(0.45, 1.15) * (1 + 0.12 * smooth(rng, 32, 9.0))  # height of the sun, slopes
    haze = np.maximum(rng.exponential(0.05) * (1 + 0.5 * smooth(rng, 32, 7.0)), 0)[..., None]
    path = haze * (WAVELENGTHS / 490.0) ** -1.3
    seen = tile * light[..., None] * (1 - path) ** 2 + path
    seen *= rng.normal(1, 0.03, 10)
    seen += rng.standard_normal(seen.shape) * np.sqrt(0.004**2 + 0.0004 * np.maximum(seen, 0))
    return np.clip(seen * 10_000, 0, 65_535).astype(np.uint16)


def lungs_with(kind: str, rng: Generator, lung: Values, side: int) -> Values:
    """What a disease adds to the attenuation of the lungs."""
    amount = rng.uniform(0.5, 1.2)
    rows = np.mgrid[:side, :side][0].astype(float)
    if kind == "nodules":
        spots = np.zeros((side, side))
        for row, column in rng.integers(0, side, (int(rng.integers(50, 120)), 2)):
            spots[row, column] += 1
        return amount * 2.6 * gaussian_filter(spots, rng.uniform(0.9, 1.3)) * lung
    if kind == "network":
        return amount * 0.35 * np.exp(-((smooth(rng, side, 1.3) / 0.35) ** 2)) * lung
    if kind == "bullae":
        field = np.zeros((side, side))
        for row, column in rng.integers(0, side, (int(rng.integers(12, 24)), 2)):
            from_there = np.hypot(rows - row, rows.T - column) - rng.uniform(2.5, 5)
            field += -0.3 * soft(-from_there, 0.4) + 0.4 * np.exp(-(from_there**2))
        return amount * np.clip(field, -0.5, 0.6) * lung
    if kind == "patches":
        return amount * 0.5 * soft(smooth(rng, side, 4.0) - rng.uniform(0.2, 0.8)) * lung
    if kind == "fluid":
        level = side * rng.uniform(0.5, 0.65) + rng.normal(0, 1.5) * smooth(rng, side, 6.0)
        one_side = rng.choice([-1, 1]) * (rows.T - side / 2)
        return amount * 0.9 * soft(rows - level, 0.8) * lung * soft(one_side + rng.choice([0, side]), 2)
    return 0 * lung


def xray(kind: str, rng: Generator) -> NDArray[np.uint16]:
    """A chest, (64, 64): attenuation of what lies one behind the other, then posture, exposure, film."""
    side = 64
    rows, columns = np.mgrid[:side, :side].astype(float)
    y, x = rows / side - 0.5, columns / side - 0.5

    def ellipse(cy: float, cx: float, height: float, width: float) -> Values:
        return soft(1 - ((y - cy) / height) ** 2 - ((x - cx) / width) ** 2, 0.12)

    wide = rng.uniform(0.9, 1.1)
    body = 1.6 * ellipse(0.1, 0, 0.75, 0.5 * wide)
    lung = np.maximum(ellipse(-0.03, -0.2 * wide, 0.36, 0.15), ellipse(-0.03, 0.2 * wide, 0.36, 0.15))
    heart = 0.7 * ellipse(0.13, 0.06, rng.uniform(0.13, 0.18), rng.uniform(0.11, 0.18))
    spine = 0.5 * ellipse(0, 0, 0.8, 0.05)
    bent = y + rng.uniform(0.8, 1.6) * x**2 + rng.uniform(0, 1)
    ribs = rng.uniform(0.15, 0.35) * soft(np.sin(bent * 2 * np.pi * rng.uniform(8, 11)) - 0.3, 0.2) * body
    vessels = 0.12 * smooth(rng, side, 1.6) * np.exp(-(((np.abs(x) - 0.1) / 0.12) ** 2)) * lung
    soft_tissue = 0.12 * smooth(rng, side, 8.0) * body
    thick = body - 0.95 * lung + np.maximum(heart - 0.4 * lung, 0) + spine + ribs + vessels + soft_tissue
    thick = thick + lungs_with(kind, rng, lung, side)
    angle, zoom = np.deg2rad(rng.normal(0, 4)), rng.uniform(0.88, 1.12)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    middle = np.array([31.5, 31.5])
    offset = middle - matrix @ middle + rng.normal(0, 2.5, 2)
    thick = affine_transform(thick, matrix, offset, order=1, mode="nearest")
    dose = rng.uniform(200, 2500)
    counts = rng.poisson(dose * np.exp(-np.maximum(thick, 0))) + 1
    film = -np.log(counts / dose) * rng.uniform(0.55, 1.1) + rng.uniform(0, 0.5)  # dense is bright
    return np.clip(film / 3.2 * 4095, 0, 4095).astype(np.uint16)


def microscopy(kind: str, rng: Generator) -> NDArray[np.uint16]:
    """A field of cells, (64, 64, 4): nuclei, bodies, spots and fibres, by what was done to the cells."""
    side = 64
    nuclei, bodies = np.zeros((side, side)), np.zeros((side, side))
    rows, columns = np.mgrid[:side, :side].astype(float)
    size = {"control": 1.0, "large nuclei": 1.5}.get(kind, 1.0)
    for row, column in rng.uniform(0, side, (int(rng.integers(5, 11)), 2)):
        angle, long, radius = rng.uniform(0, np.pi), rng.uniform(1, 1.5), rng.uniform(3.4, 4.6)
        up, along = rows - row, columns - column
        a, b = np.cos(angle) * up + np.sin(angle) * along, np.cos(angle) * along - np.sin(angle) * up
        away = np.hypot(a / long, b)
        nuclei = np.maximum(nuclei, soft(radius * size - away) * rng.uniform(0.6, 1))
        bodies = np.maximum(bodies, soft(radius * 2.2 - away, 0.8) * rng.uniform(0.5, 1))
    inside = bodies * (1 - nuclei)
    spots = gaussian_filter((rng.random((side, side)) < (0.06 if kind == "vesicles" else 0.01)) * 8.0, 0.8) * bodies
    width = 0.25 if kind == "fibres" else 0.8
    along, across = turned(rng, side)
    fibres = inside * (0.5 + 0.5 * np.sin((across + 3 * smooth(rng, side, 8.0)) * 2 * np.pi / 4)) ** (0.5 / width)
    channels = np.stack([nuclei, inside + 0.2 * nuclei, spots, fibres], -1)
    channels = gaussian_filter(channels, (0.7, 0.7, 0)) * rng.uniform(300, 3000, 4) + rng.uniform(80, 300, 4)
    return np.clip(rng.poisson(channels) + rng.normal(0, 8, channels.shape), 0, 65_535).astype(np.uint16)


def galaxy(kind: str, rng: Generator) -> NDArray[np.float32]:
    """A galaxy, (64, 64, 3): a profile with or without arms, tilted, blurred, with noise of the sky."""
    side = 64
    rows, columns = np.mgrid[:side, :side] - 31.5 + rng.normal(0, 2, (2, 1, 1))
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1)
    if kind == "edge-on":
        tilt = rng.uniform(0.12, 0.22)
    a = np.cos(angle) * rows + np.sin(angle) * columns
    b = (np.cos(angle) * columns - np.sin(angle) * rows) / tilt
    away, around = np.hypot(a, b) + 1e-6, np.arctan2(b, a)
    size = rng.uniform(5, 9)
    old = np.exp(-3.67 * ((away / size) ** 0.5 - 1)) if kind == "elliptical" else 8 * np.exp(-((away / 3) ** 1.2))
    young = np.zeros((side, side))
    if kind != "elliptical":
        young = 1.5 * np.exp(-away / size)
    if kind in ("spiral", "barred"):
        turns = rng.choice([-1, 1]) * rng.uniform(2.0, 3.2)
        young *= 1 + 0.95 * np.cos(2 * around + turns * np.log(away / 3 + 0.3) * 2)
    if kind == "barred":
        old = old + 3 * np.exp(-((a / size) ** 2) - (b / 2) ** 2)
        young *= soft(away - 0.8 * size, 1)
    light = old[..., None] * [0.5, 0.9, 1.2] + young[..., None] * [1.3, 0.9, 0.6]
    light = gaussian_filter(light * rng.uniform(0.4, 1.6), (1, 1, 0))
    return (light + rng.normal(0, 0.08, light.shape)).astype(np.float32)


KINDS: dict[str, tuple[Callable[[str, Generator], NDArray[Any]], list[str], int]] = {
    "satellite": (satellite, ["crops", "orchard", "forest", "scrub", "homes", "works", "river", "bog"], 2000),
    "xray": (xray, ["clear", "nodules", "network", "bullae", "patches", "fluid"], 2000),
    "microscopy": (microscopy, ["control", "large nuclei", "vesicles", "fibres"], 800),
    "galaxy": (galaxy, ["elliptical", "spiral", "barred", "edge-on"], 800),
}
CUT = ("retina", "histology")


def make(name: str, number: int | None = None, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of a set: ``number`` pictures to train on, and half as many to test, the classes in turn."""
    draw, classes, usual = KINDS[name]
    number = number or usual
    arrays: dict[str, NDArray[Any]] = {}
    for place, (split, count) in enumerate((("train", number), ("test", number // 2))):
        labels = [classes[k % len(classes)] for k in range(count)]
        streams = np.random.default_rng([seed, place]).spawn(count)
        arrays[f"{split}_images"] = np.stack([draw(*pair) for pair in zip(labels, streams, strict=True)])
        arrays[f"{split}_labels"] = np.array(labels)
    return arrays


def cut(name: str, folder: Path, number: int = 400, seed: int = 0) -> None:
    """Write parts of a picture of scikit-image, without the black around a fundus."""
    from skimage import data

    whole, side = (data.retina(), 128) if name == "retina" else (data.immunohistochemistry(), 96)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    written = 0
    while written < number:
        row, column = (int(rng.integers(0, length - side)) for length in whole.shape[:2])
        part = whole[row : row + side, column : column + side]
        if (part.max(2) > 40).mean() > 0.95:
            Image.fromarray(part).save(folder / f"{written:03}.png")
            written += 1


def main() -> None:
    """Make a set and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, *CUT])
    parser.add_argument("output", type=Path)
    parser.add_argument("--number", type=int, help="pictures to train on; half as many are to test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.kind in CUT:
        cut(options.kind, options.output, options.number or 400, options.seed)
    else:
        np.savez(options.output, **make(options.kind, options.number, options.seed))


if __name__ == "__main__":
    main()
