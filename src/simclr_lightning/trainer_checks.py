"""The Trainer's settings, which are Lightning's: what they may be, checked before data or a model are built."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from simclr_lightning.errors import InputError, check_folder, check_number

MOST_DEVICES = 1_024
"""Processes of one machine: more were never meant."""


class Range(NamedTuple):
    """What a number of the Trainer may be.

    Attributes:
        least: the smallest.
        share: whether numbers with a point are shares, of at most 1.0.
        zero: whether 0 is allowed.
        example: what to type instead.
        most: the largest.

    Example:
        >>> Range(1).zero
        True
    """

    least: float
    share: bool = False
    zero: bool = True
    example: str = ""
    most: float = math.inf


RANGES = {
    "num_nodes": Range(1, example="1", most=65_536),
    "max_epochs": Range(-1, zero=False, example="100"),
    "min_epochs": Range(0),
    "max_steps": Range(-1, zero=False, example="1000"),
    "min_steps": Range(0),
    "limit_train_batches": Range(0, share=True, zero=False, example="0.1"),
    "limit_val_batches": Range(0, share=True),
    "limit_test_batches": Range(0, share=True),
    "limit_predict_batches": Range(0, share=True),
    "overfit_batches": Range(0, share=True),
    "fast_dev_run": Range(0),
    "val_check_interval": Range(0, share=True, zero=False, example="0.25"),
    "check_val_every_n_epoch": Range(1, example="1"),
    "num_sanity_val_steps": Range(-1),
    "log_every_n_steps": Range(0),
    "accumulate_grad_batches": Range(1, example="1"),
    "gradient_clip_val": Range(0, example="1.0"),
    "reload_dataloaders_every_n_epochs": Range(0),
}
"""Numbers of the Trainer."""

_ONLY_ONE = ("name", "filename")  # arguments by which two callbacks of a class live side by side
_HALF = ("16", "16-mixed")


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Raise InputError if a setting of the Trainer is out of range, or cannot be on this machine.

    Args:
        settings: by name, as they were typed; those that are missing are not checked.

    Example:
        >>> check_trainer({"gradient_clip_val": -1})
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: gradient_clip_val is -1: choose 0 or more (--trainer.gradient_clip_val 1.0).
        >>> check_trainer({"limit_train_batches": 1.5})
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: limit_train_batches is 1.5: choose a share above 0 and at most 1.0, or a \
whole number of at least 1 (--trainer.limit_train_batches 0.1).
    """
    for name, allowed in RANGES.items():
        _check_range(name, settings.get(name), allowed)
    check_devices(settings.get("devices"), str(settings.get("accelerator") or "auto"), "trainer.devices")
    _check_choices(settings)
    check_folder("default_root_dir", settings.get("default_root_dir"), "trainer.default_root_dir")
    callbacks = settings.get("callbacks")
    _check_callbacks(callbacks if isinstance(callbacks, list) else [])
    loggers = settings.get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = _arguments(logger)
        check_folder("save_dir", arguments.get("save_dir"), "trainer.logger.save_dir")


def check_accelerator(name: str, option: str) -> None:
    """Raise InputError if there is no accelerator of this name, or torch finds none of its kind here.

    Example:
        >>> check_accelerator("cup", "accelerator")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: accelerator is 'cup': choose auto, cpu, cuda, gpu, ... (--accelerator auto).
    """
    known = sorted({"auto", "gpu", *AcceleratorRegistry.available_accelerators()})
    if name.lower() not in known:
        raise InputError(f"accelerator is {name!r}: choose {', '.join(known)}", f"{option} auto")
    if name.lower() in ("gpu", "cuda") and not _has_gpu(name.lower()):
        raise InputError(f"accelerator is {name!r}, and torch finds none of the kind on this machine", f"{option} auto")


def check_devices(devices: Any, accelerator: str, option: str) -> None:
    """Raise InputError if so many devices cannot be.

    Example:
        >>> check_devices(0, "cpu", "devices")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: devices is 0: choose a number of at least 1, -1 for all, or auto \
(--devices 1).
    """
    check_accelerator(accelerator, option.replace("devices", "accelerator"))
    if isinstance(devices, str) and re.fullmatch(r"[+-]?\d+", devices.strip()):
        devices = int(devices)
    if isinstance(devices, str):
        if devices != "auto" and not re.fullmatch(r"\d+(, ?\d+)*,?", devices):
            raise InputError(f"devices is {devices!r}: choose a number, or auto", f"{option} auto")
        return
    if isinstance(devices, list):
        if not devices or len(set(devices)) < len(devices) or min(devices) < 0:
            raise InputError(f"devices is {devices}: list different devices, numbered from 0", f"{option} 1")
        return
    if devices is None or devices == -1:
        return
    if devices < 1:
        raise InputError(f"devices is {devices}: choose a number of at least 1, -1 for all, or auto", f"{option} 1")
    check_number("devices", devices, f"{option} 1", most=MOST_DEVICES)
    found = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and torch.cuda.is_available() and devices > found:
        raise InputError(f"devices is {devices}, and this machine has {found}", f"{option} {found}")


def _check_range(name: str, value: Any, allowed: Range) -> None:
    if isinstance(value, str) and value.strip().lower().lstrip("+-.") in ("nan", "inf", "infinity"):
        value = float(value.strip().lstrip("."))  # others are times
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    shares = allowed.share and isinstance(value, float)
    fits = allowed.least <= value <= allowed.most and (value <= 1.0 or not shares) and (value != 0 or allowed.zero)
    if fits and (isinstance(value, int) or math.isfinite(value)):
        return
    if allowed.share:
        low, first = ("0.0 to", 0) if allowed.zero else ("above 0 and at most", 1)
        choice = f"a share {low} 1.0, or a whole number of at least {first}"
    elif allowed.least == -1:
        choice = "-1 (no limit), or 1 or more" if not allowed.zero else "-1 (all), or 0 or more"
    else:
        choice = f"{allowed.least} or more" + (f", {allowed.most:,} at most" if allowed.most < math.inf else "")
    raise InputError(f"{name} is {value}: choose {choice}", f"trainer.{name} {allowed.example}".rstrip())


def _check_choices(settings: Mapping[str, Any]) -> None:
    strategy = settings.get("strategy")
    known = sorted({"auto", *StrategyRegistry.available_strategies()})
    if isinstance(strategy, str) and strategy not in known:
        raise InputError(f"strategy is {strategy!r}: choose auto, or ddp for several devices", "trainer.strategy auto")
    algorithm = settings.get("gradient_clip_algorithm")
    if algorithm not in (None, "norm", "value"):
        choice = "trainer.gradient_clip_algorithm norm"
        raise InputError(f"gradient_clip_algorithm is {algorithm!r}: choose norm or value", choice)
    profiler = settings.get("profiler")
    if isinstance(profiler, str) and profiler not in ("simple", "advanced", "pytorch", "xla"):
        choice = "trainer.profiler simple"
        raise InputError(f"profiler is {profiler!r}: choose simple, advanced, pytorch or xla", choice)
    time = settings.get("max_time")
    if isinstance(time, str) and not re.fullmatch(r"\d\d:\d\d:\d\d:\d\d", time):
        raise InputError(f"max_time is {time!r}: give days, hours, minutes, seconds", "trainer.max_time 00:12:00:00")
    accelerator = str(settings.get("accelerator") or "auto").lower()
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    if on_cpu and str(settings.get("precision")) in _HALF:
        raise InputError(
            f"precision is {settings['precision']}, which CPUs do not train in: choose bf16-mixed or 32",
            "trainer.precision bf16-mixed",
        )


def _check_callbacks(callbacks: list[Any]) -> None:
    """Of a class of this package there is one, unless they are told apart; of others no two are the same."""
    kinds: Counter[tuple[str, str]] = Counter()
    for callback in callbacks:
        path = _path(callback)
        arguments = _arguments(callback)
        ours = path.startswith("simclr_lightning.")
        told = {name: arguments.get(name) for name in _ONLY_ONE} if ours else dict(arguments)
        kinds[path, repr(sorted(told.items()))] += 1
    for (path, _), number in kinds.items():
        if path and number > 1:
            name = path.rpartition(".")[2]
            raise InputError(
                f"trainer.callbacks names {name} {number} times, and one is enough: remove the others from the "
                "configuration or the command line."
            )


def _path(described: Any) -> str:
    """Class path of what a configuration describes; "" of anything else."""
    return str(described.get("class_path") or "") if hasattr(described, "get") else ""


def _arguments(described: Any) -> dict[str, Any]:
    found = described.get("init_args") if hasattr(described, "get") else None
    return {} if found is None else dict(vars(found) if hasattr(found, "__dict__") else found)


def _has_gpu(kind: str) -> bool:
    return torch.cuda.is_available() or (kind == "gpu" and torch.backends.mps.is_available())
