"""Every command of ``simclr``, and what ``simclr --help`` says: known without importing any of them."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from simclr_lightning.errors import InputError


class Command(NamedTuple):
    """A command.

    Attributes:
        purpose: in a line.
        function: that it calls, ``module:name``; "" for those that LightningCLI builds a model and data for.
        positional: whether arguments without a default are typed without their names.
        flags: options that mean true where they are typed without a value.
        first: option whose name may be left out where its value comes first.
        several: whether the arguments without a name are one list, of any length.

    Example:
        >>> COMMANDS["export"].function
        'simclr_lightning.export:export_encoder'
    """

    purpose: str
    function: str = ""
    positional: bool = False
    flags: tuple[str, ...] = ()
    first: str = ""
    several: bool = False


GROUPS = {
    "Begin": {
        "recipes": Command(
            "list the recipes that come with the package",
            "simclr_lightning.recipe_files:list_recipes",
            first="--folder",
        ),
        "init": Command(
            "write a recipe into a file of your own, to edit", "simclr_lightning.recipe_files:write_recipe", True
        ),
        "describe": Command(
            "show what is in a folder of pictures", "simclr_lightning.describe:describe", True, ("--json",)
        ),
        "models": Command(
            "list the encoders by name, with their parameters",
            "simclr_lightning.encoder_list:list_encoders",
            flags=("--json",),
            first="--part",
        ),
        "doctor": Command(
            "show what this machine and installation have, and what a run warns of",
            "simclr_lightning.doctor:diagnose",
            flags=("--json",),
            first="--run",
        ),
        "completion": Command(
            "complete commands, options and names in bash, zsh or fish",
            "simclr_lightning.completion:completion",
            positional=True,
        ),
        "pack": Command(
            "write a large set of pictures into a few large files",
            "simclr_lightning.data.packed_writer:pack_pictures",
            True,
        ),
    },
    "Train": {
        "fit": Command("pre-train an encoder; or train a classifier on top of one, or from scratch"),
        "validate": Command("loss and probe of a checkpoint on the validation pictures"),
        "test": Command("accuracy of a trained classifier on the test pictures"),
        "predict": Command("hand every picture to the model"),
    },
    "Judge": {
        "evaluate": Command("set an encoder beside raw pixels, a random encoder and others: linear, kNN, fine-tuned"),
        "label_curve": Command("accuracy against the number of labels"),
        "report": Command(
            "write a page of what the folders of runs hold: curves, pictures, figures, differences",
            "simclr_lightning.run_report:report_runs",
            True,
            several=True,
        ),
        "ablate": Command("find out which augmentations suit your pictures", "simclr_lightning.ablation:ablate"),
    },
    "Use": {
        "embed": Command(
            "write the features of pictures into a file",
            "simclr_lightning.embed:embed_pictures",
            flags=("--patches",),
        ),
        "export": Command(
            "write the encoder for other programs: ONNX, TorchScript, torchvision, timm, the Hub",
            "simclr_lightning.export:export_encoder",
        ),
    },
}
"""The commands, in the order in which they are used."""

COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
"""All of them."""

EXAMPLES = (
    ("simclr fit --config quickstart", "handwritten digits: a minute, nothing to download"),
    ("simclr fit --config folder --data.root photos", "your own pictures"),
    (
        "simclr evaluate --config runs/folder/version_0/config.yaml"
        " --ckpt_path runs/folder/version_0/checkpoints/last.ckpt",
        "judge the encoder",
    ),
)


def overview() -> str:
    """What ``simclr --help`` says: every command with its purpose, and what to type first.

    Example:
        >>> print(overview().splitlines()[0])
        usage: simclr COMMAND [OPTIONS]
    """
    lines = ["usage: simclr COMMAND [OPTIONS]", "", "SimCLR: features from pictures without labels.", ""]
    width = max(map(len, COMMANDS))
    for group, commands in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<{width}}  {command.purpose}" for name, command in commands.items()), ""]
    lines += [
        "`simclr COMMAND --help` explains the options of a command, `simclr --version` tells the version.",
        "",
        "Examples:",
        *(line for command, purpose in EXAMPLES for line in (f"  # {purpose}", f"  {command}")),
    ]
    return "\n".join(lines)


def check_command(name: str) -> None:
    """Complain of a command that there is not.

    Raises:
        InputError: naming the one that is spelled most alike.

    Example:
        >>> check_command("fti")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no command 'fti': did you mean `simclr fit`? `simclr --help` \
lists them all.
    """
    if name in COMMANDS:
        return
    alike = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"did you mean `simclr {alike[0]}`? " if alike else ""
    raise InputError(f"There is no command {name!r}: {meant}`simclr --help` lists them all.")
