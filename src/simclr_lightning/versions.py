"""Versions of packages, without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """Version of a package, "unknown" where it is on the path without being installed, as a clone of this one can be.

    Example:
        >>> version_of("no-such-package")
        'unknown'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
