"""``simclr fit --help``: the options that matter first, with what the classes say of them; all by ``--help all``."""

from __future__ import annotations

import re
import textwrap
from argparse import Action
from collections.abc import Iterable
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from simclr_lightning.commands import COMMANDS, EXAMPLES
from simclr_lightning.data import SimCLRDataModule
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewRecipe

FIRST = {
    "Pictures": (
        "data.dataset",
        "data.root",
        "data.labels",
        "data.batch_size",
        "data.num_workers",
        "data.views.preset",
        "data.views.size",
        "data.views.crop_area",
    ),
    "Model": (
        "model.encoder",
        "model.width",
        "model.stem",
        "model.init_from",
        "model.learning_rate",
        "model.loss.temperature",
        "model.micro_batch_size",
    ),
    "Training": (
        "trainer.max_epochs",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.precision",
        "trainer.logger",
        "seed_everything",
        "auto_resume",
        "dry_run",
        "save_every_minutes",
    ),
}
"""Group -> options, of the default classes; their words and defaults are read from the parsers and the classes."""

_CLASSES: dict[str, Any] = {
    "model.loss.": NTXentLoss,
    "data.views.": ViewRecipe,
    "model.": SimCLR,
    "data.": SimCLRDataModule,
}
_NOT_OF_THE_COMMAND = ("help", "trainer", "model", "data", "sync_batchnorm", "weights_only")
_WIDTH = 100
_LINES = 2


def short_help(command: str, parser: ArgumentParser) -> str:
    """One screen about a command of LightningCLI.

    Args:
        command: such as fit.
        parser: of the command.

    Example:
        >>> parser = ArgumentParser()
        >>> for name in FIRST["Training"]:
        ...     _ = parser.add_argument(f"--{name}", help="That of fit.")
        >>> print(short_help("fit", parser).splitlines()[0])
        usage: simclr fit [--config RECIPE_OR_FILE ...] [OPTIONS]
    """
    known = _actions(parser)
    for prefix, cls in _CLASSES.items():
        of_class = ArgumentParser()
        of_class.add_class_arguments(cls, fail_untyped=False)
        known |= {f"{prefix}{name}": action for name, action in _actions(of_class).items()}
    first = [name for names in FIRST.values() for name in names]
    own = [name for name in _actions(parser) if name.partition(".")[0] not in _NOT_OF_THE_COMMAND]
    groups = {f"Of {command}": [name for name in own if name not in first], **FIRST}
    lines = [
        f"usage: simclr {command} [--config RECIPE_OR_FILE ...] [OPTIONS]",
        "",
        f"{COMMANDS[command].purpose}.",
        "",
    ]
    for group, names in groups.items():
        lines += [f"{group}:", *(line for name in names for line in _told(name, known[name])), ""]
    lines += [
        f"`simclr {command} --help all` explains all of the Trainer, `simclr {command} --model.help SimCLR` and",
        f"`simclr {command} --data.help SimCLRDataModule` those of the model and the data. Other classes have others.",
    ]
    examples = [(typed, purpose) for typed, purpose in EXAMPLES if typed.startswith(f"simclr {command} ")]
    if examples:
        lines += ["", "Examples:", *(line for typed, why in examples for line in (f"  # {why}", f"  {typed}"))]
    return "\n".join(lines)


def _actions(parser: ArgumentParser) -> dict[str, Action]:
    """Options of a parser by their long names: those that it hands to its formatter, in their order."""
    found: dict[str, Action] = {}

    class Collecting(DefaultHelpFormatter):
        def add_arguments(self, actions: Iterable[Action]) -> None:
            for action in actions:
                names = [option[2:] for option in action.option_strings if option.startswith("--")]
                if names and not names[0].endswith(".help"):
                    found[names[0]] = action  # before --root+, which adds to a list

    usual, parser.formatter_class = parser.formatter_class, Collecting
    try:
        parser.format_help()
    finally:
        parser.formatter_class = usual
    return found


def _told(name: str, action: Action) -> list[str]:
    """An option, the first sentence about it, and its default."""
    words = " ".join(str(action.help or "").replace("%%", "%").split())
    sentence = re.split(r"(?<=[a-z0-9)\"'`])\.(?:\s|$)", words)[0].replace("``", "")
    default = action.default
    is_told = default != "" and isinstance(default, int | float | str) and not str(default).startswith("==")
    told = f" (default: {default})" if is_told else ""
    lines = textwrap.wrap(f"{sentence}{told}", _WIDTH - 8, max_lines=_LINES, placeholder=" ...") or [""]
    return [f"  --{name}", *(f"        {line}" for line in lines)]
