"""What was asked for, against the checkpoint that a run goes on from and the data: before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace

from simclr_lightning.checkpoints import is_address
from simclr_lightning.classifiers import Classifier
from simclr_lightning.errors import InputError, check_exists, check_number
from simclr_lightning.evaluation.asked import check_judgement
from simclr_lightning.simclr import SimCLR
from simclr_lightning.trainer_checks import check_trainer

FROM_THE_DATA = ("image_size", "in_channels")
"""Arguments of the model that the data tell, whatever is typed."""


def check_settings(chosen: Namespace, subcommand: str) -> None:
    """Check what can be checked without data and without a model.

    Args:
        chosen: settings of the sub-command.
        subcommand: of ``simclr``.

    Raises:
        InputError: if a setting of the Trainer or an argument of one of our callbacks is out of range; or if a model
            of ours would be judged as it begins, at random.

    Example:
        >>> check_settings(Namespace(trainer=Namespace(max_epochs=0)), "fit")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: max_epochs is 0: choose -1 (no limit), or 1 or more \
(--trainer.max_epochs 100).
    """
    seed = chosen.get("seed_everything")
    if not isinstance(seed, bool):  # whether there is one
        check_number("seed_everything", seed, "seed_everything 0", least=0, below=2**32)
    check_trainer(chosen.trainer)
    callbacks = chosen.trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        _check_callback(callback)
    check_number("save_every_minutes", chosen.get("save_every_minutes"), "save_every_minutes 10", above=0)
    _check_files(chosen)
    if chosen.get("dry_run") and subcommand != "fit":
        raise InputError(f"dry_run is a few steps of a training, and `simclr {subcommand}` trains none: leave it out.")
    if subcommand in ("evaluate", "label_curve"):
        check_judgement(vars(chosen))
    if subcommand in ("validate", "test", "predict") and chosen.get("ckpt_path") is None:
        kind = resolve_name(chosen.model.class_path)
        if issubclass(kind, SimCLR | Classifier) and not chosen.model.init_args.get("init_from"):
            raise InputError(
                f"`simclr {subcommand}` without a checkpoint would judge random weights: name the one of a run, or the "
                "newest",
                "ckpt_path runs/NAME/VERSION/checkpoints/last.ckpt",
                "ckpt_path last",
            )


def _check_callback(callback: Any) -> None:
    """One of ours complains of its arguments when it is made, which is too late: a model is made before."""
    path = getattr(callback, "class_path", "")
    told = callback.get("init_args") if path.startswith("simclr_lightning.") else None
    arguments: dict[str, Any] = {} if told is None else vars(told)
    try:
        if arguments and not any(isinstance(value, Namespace) for value in arguments.values()):
            resolve_name(path)(**arguments)
    except InputError:
        raise
    except Exception:  # told where it is made for use
        return


def _check_files(chosen: Namespace) -> None:
    """Files and folders that are read only when a model is there."""
    model, data = (chosen[part].get("init_args") or {} if part in chosen else {} for part in ("model", "data"))
    named = {f"data.{name}": data.get(name) for name in ("pairs", "probe", "labels", "label_list")}
    if chosen.get("ckpt_path") is None:  # which has the weights
        named["model.init_from"] = model.get("init_from")
    named |= {f"others.{name}": path for name, path in (chosen.get("others") or {}).items()}
    for option, path in named.items():
        if isinstance(path, str) and path not in ("torchvision", "timm") and not is_address(path):
            check_exists(option, path)


def typed_for_the_data(words: Iterable[str], files: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Arguments of the model that are taken from the data, but were typed.

    Args:
        words: of the command line.
        files: contents of the configurations.

    Example:
        >>> typed_for_the_data(["fit", "--model.in_channels", "3"], [])
        {'in_channels': '3'}
    """
    found: dict[str, str] = {}
    for file in files:
        model = file.get("model")
        arguments = {**model, **(model.get("init_args") or {})} if isinstance(model, dict) else {}
        found |= {name: str(arguments[name]) for name in FROM_THE_DATA if arguments.get(name) is not None}
    for word, after in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        for name in FROM_THE_DATA:
            if option in (f"--model.{name}", f"--model.init_args.{name}"):
                found[name] = value if equals else after
    return found


def check_typed_for_the_data(name: str, typed: Mapping[str, str], told: int | None) -> int | None:
    """What the data tell, if nothing else was typed.

    Raises:
        InputError: if it was.

    Example:
        >>> check_typed_for_the_data("in_channels", {"in_channels": "3"}, 1)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: model.in_channels is 3, and the data have 1: leave it out, since they \
tell it.
    """
    if typed.get(name, "null") not in ("null", "None", str(told)):
        other = " (--data.views.size is what decides it)" if name == "image_size" else ""
        raise InputError(
            f"model.{name} is {typed[name]}, and the data have {told}: leave it out, since they tell it{other}."
        )
    return told
