"""The private names of Lightning that this package relies on, each with its reason, and the versions of packages.

No other file uses any of these names.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

CLASS_PATH = "_class_path"
"""Hyperparameter in which LightningCLI leaves the class that it made: the only place where a checkpoint tells it."""

INSTANTIATOR = "_instantiator"
"""Hyperparameter that names a function which ``load_from_checkpoint`` would call: nothing is run because a file names
it, so it is dropped."""


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


class CommandLine(LightningCLI):
    """LightningCLI, with a way to its sub-commands' parsers, and without its own reading of checkpoints."""

    def parser_of(self, subcommand: str) -> LightningArgumentParser:
        """Parser of a sub-command: its defaults depend on the class that is chosen, and on a checkpoint."""
        return self._subcommand_parsers[subcommand]

    def chosen(self, config: Any, key: str) -> Any:
        """A setting of the sub-command that is run."""
        return self._get(config, key)

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the checkpoint overrule configuration and command line here."""
