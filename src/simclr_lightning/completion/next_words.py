"""How the words of a command go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise

from simclr_lightning.commands import COMMANDS
from simclr_lightning.completion.source_text import (
    Argument,
    arguments_of,
    bases_of,
    keys_of,
    public_classes,
    registered_models,
)
from simclr_lightning.recipe_files import recipes, sweeps

DATASETS = (
    *("digits", "cifar10", "cifar100", "stl10", "svhn", "fashion_mnist", "food101", "sun397", "cars", "aircraft"),
    *("voc2007", "dtd", "pets", "caltech101", "flowers", "birdsnap", "folder", "packed", "hf:"),
)
"""The data sets by name, which are registered when they are imported."""

OF_LIGHTNING = {
    name: ("lightning.pytorch.trainer.trainer", f"Trainer.{name}") for name in ("fit", "validate", "test", "predict")
} | {name: ("simclr_lightning.evaluation", name) for name in ("evaluate", "label_curve")}
"""The commands that build a model and data, and the function that each calls."""

OF_ALL = {
    **dict.fromkeys(("help", "config", "print_config", "seed_everything", "save_every_minutes")),
    **dict.fromkeys(("sync_batchnorm", "auto_resume", "dry_run"), ("false", "true")),
}
"""Options of each of them."""

_PASSED = {"model", "module", "datamodule", "data", "trainer", "dataloaders"} | {
    f"{kind}_dataloaders" for kind in ("train", "val")
}
_LIGHTNING = "lightning.pytorch"
_DEFAULTS = {"model": "SimCLR", "data": "SimCLRDataModule", "model.loss": "NTXentLoss", "trainer.logger": "CSVLogger"}
_ENCODERS = ("--model.encoder", "--encoder", "--part")


def candidates(words: Sequence[str]) -> list[str]:
    """What the last word of a command may become; nothing where only files may follow.

    Args:
        words: after ``simclr``, up to the cursor; the last one may be empty.

    Example:
        >>> candidates(["fit", "--model.loss.temp"]), candidates(["fit", "--config", "quickstart_l"])
        (['--model.loss.temperature'], ['quickstart_linear'])
        >>> candidates(["fit", "--model.loss", "Hard"])
        ['HardNegativeNTXent']
    """
    typed, prefix = _without_equals(words)
    *before, last = typed or [""]
    return [f"{prefix}{word}" for word in dict.fromkeys(_words(before, last)) if word.startswith(last)]


def _without_equals(words: Sequence[str]) -> tuple[list[str], str]:
    """``--option=value`` as two words, and what stands before the value; bash makes three of it."""
    typed: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        typed += [option, value] if equals and option.startswith("--") else [word]
    last = words[-1] if words else ""
    prefix = f"{last.partition('=')[0]}=" if last.startswith("--") and "=" in last else ""
    if typed and typed[-1] == "=":
        typed[-1:] = ["=", ""]
    return [word for word in typed if word != "="], prefix


def _words(before: list[str], last: str) -> Iterator[str]:
    if not before:
        yield from (*COMMANDS, "--help", "--version")
        return
    command, option = before[0], before[-1]
    if command not in COMMANDS:
        return
    if last.startswith("-"):
        yield from (f"--{name}" for name in _options(before))
    elif option.startswith("-"):
        yield from _values(command, option, before, last)
    else:
        yield from _first_words(command, before, last)


def _first_words(command: str, before: list[str], last: str) -> Iterator[str]:
    """Words without an option."""
    if command == "init" and len(before) == 1:
        yield from (*recipes(), *sweeps())
    elif command == "recipes" and len(before) == 1:
        yield from sorted({name.partition("/")[0] for name in recipes()})
    elif command == "models" and len(before) == 1:
        yield from _encoders(last)
    elif command == "completion" and len(before) == 1:
        yield from ("bash", "zsh", "fish")


def _values(command: str, option: str, before: list[str], last: str) -> Iterator[str]:
    name = option.removeprefix("--").removesuffix("+")
    if option in ("--config", "-c") and command in OF_LIGHTNING:
        yield from recipes()
    elif option in _ENCODERS:
        yield from _encoders(last)
    elif name in ("data.dataset", "dataset"):
        yield from DATASETS
    elif name in ("data.views.preset", "views.preset"):
        yield from keys_of("simclr_lightning.views.presets", "PRESETS")
    elif name == "ckpt_path" and command in OF_LIGHTNING:
        yield "last"
    elif name in _FAMILIES and command in OF_LIGHTNING:
        yield from _FAMILIES[name][1]()
    else:
        yield from _options(before).get(name) or ()


def _options(before: list[str]) -> dict[str, tuple[str, ...] | None]:
    """Options of a command, with the classes that were chosen, and their values where they are few."""
    command = before[0]
    if command not in OF_LIGHTNING:
        module, _, name = COMMANDS[command].function.partition(":")
        return {**_with_fields("", arguments_of(module, name)), "help": None}
    own = [argument for argument in arguments_of(*OF_LIGHTNING[command]) if argument.name not in _PASSED]
    found = {**OF_ALL, **_with_fields("", own), **dict.fromkeys(("model", "data", "trainer.callbacks+"))}
    found |= _with_fields("trainer.", arguments_of(f"{_LIGHTNING}.trainer.trainer", "Trainer"))
    for family, (modules, names) in _FAMILIES.items():
        chosen = _chosen(family, before)
        if family in found and chosen in names():  # a classifier has no loss to choose
            arguments = (own for module in modules for own in arguments_of(module, chosen))
            found |= _with_fields(f"{family}.", list(arguments))
    return found


def _with_fields(prefix: str, arguments: Sequence[Argument]) -> dict[str, tuple[str, ...] | None]:
    found: dict[str, tuple[str, ...] | None] = {}
    for own in arguments:
        found[f"{prefix}{own.name}"] = own.choices or None
        found |= {f"{prefix}{own.name}.{field.name}": field.choices or None for field in own.fields}
    return found


def _chosen(family: str, before: list[str]) -> str:
    """The class that was typed last, by its own name."""
    typed = _DEFAULTS.get(family, "")
    for option, value in pairwise(before):
        if option in (f"--{family}", f"--{family}+"):
            typed = value.rpartition(".")[2]
    return typed


def _encoders(last: str) -> Iterator[str]:
    yield from keys_of("simclr_lightning.models.resnet", "RESNETS")
    yield from registered_models("torchvision")
    if last.startswith("timm/"):
        yield from (f"timm/{name}" for name in registered_models("timm"))
    elif find_spec("timm"):
        yield "timm/"


def _models() -> list[str]:
    return ["SimCLR", "FineTune", "LinearEvaluation", "Supervised"]


def _data() -> list[str]:
    return ["SimCLRDataModule", "LabelledDataModule"]


def _losses() -> list[str]:
    module = "simclr_lightning.losses"
    return [name for name in public_classes(module) if "ContrastiveLoss" in bases_of(module, name)]


def _callbacks() -> list[str]:
    return [*public_classes("simclr_lightning.callbacks"), *public_classes(f"{_LIGHTNING}.callbacks")]


def _loggers() -> list[str]:
    return ["CSVLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger", "false"]


_FAMILIES = {
    "model": (("simclr_lightning",), _models),
    "model.loss": (("simclr_lightning.losses",), _losses),
    "data": (("simclr_lightning",), _data),
    "trainer.callbacks": (("simclr_lightning.callbacks", f"{_LIGHTNING}.callbacks"), _callbacks),
    "trainer.logger": ((f"{_LIGHTNING}.loggers",), _loggers),
}
"""Options that take a class -> where they are found, and the names of the classes."""
