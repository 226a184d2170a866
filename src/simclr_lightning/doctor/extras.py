"""What is installed of what the package needs, and of what its extras add: read from the package's own metadata."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TypedDict

from packaging.requirements import Requirement

PACKAGE = "simclr-lightning"

ADDS = {
    "timm": "encoders named timm/...",
    "wandb": "Weights & Biases: --trainer.logger+=WandbLogger",
    "tensorboard": "--trainer.logger+=TensorBoardLogger",
    "umap": "a map of the embedding by UMAP: EmbeddingPictures(method=umap)",
    "fast": "on a CPU: compiled views, JPEGs in two thirds of the time",
    "export": "simclr export --format onnx, torchvision, timm, hub",
    "packed": "simclr pack",
    "tiff": "TIFF of many bands or 16 bits",
    "hdf5": "pictures in .h5",
    "zarr": "pictures in .zarr",
    "dicom": "X-rays and CT",
    "fits": "pictures of telescopes",
    "science": "dicom, fits, hdf5, tiff and zarr",
    "embed": "simclr embed --output features.parquet",
    "bolts": "data modules of lightning-bolts: AdaptedDataModule",
    "heic": "pictures of phones, .heic",
    "parquet": "--data.labels labels.parquet",
    "hf": "data sets of Hugging Face: --data.dataset hf:NAME",
    "docs": "builds the site",
    "dev": "tests and checks",
}
"""Extra -> what can be done with it."""


class Extra(TypedDict):
    """An extra of the package.

    Attributes:
        adds: what can be done with it.
        missing: what it needs and is not there, with the version that is found where that is the wrong one.
    """

    adds: str
    missing: list[str]


def versions() -> dict[str, str | None]:
    """Versions of what the package needs, by name; None where it is not installed.

    Example:
        >>> "torch" in versions()
        True
    """
    names = [requirement.name for requirement in _requirements("")] or ["torch", "torchvision", "lightning"]
    return {name: _version(name) for name in (PACKAGE, *names)}


def misfits() -> list[str]:
    """What the package needs and is not there, or in another version.

    Example:
        >>> misfits()
        []
    """
    return _missing("")


def extras() -> dict[str, Extra]:
    """Every extra; none where the package is on the path without being installed.

    Example:
        >>> all(extra["adds"] for extra in extras().values())
        True
    """
    try:
        names = metadata(PACKAGE).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    return {name: {"adds": ADDS.get(name, ""), "missing": _missing(name)} for name in names}


def _missing(extra: str) -> list[str]:
    told = []
    for requirement in _requirements(extra):
        found = _version(requirement.name)
        if found is None:
            told.append(requirement.name)
        elif not requirement.specifier.contains(found, prereleases=True):
            told.append(f"{requirement.name}{requirement.specifier} (found {found})")
    return told


def _requirements(extra: str) -> Iterator[Requirement]:
    """Those of an extra, and of the extras that it is made of; those of the package itself for ""."""
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if extra and (marker is None or marker.evaluate({"extra": ""})):
            continue  # of the package itself
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        if requirement.name == PACKAGE:
            for inner in sorted(requirement.extras):
                yield from _requirements(inner)
        else:
            yield requirement


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
