"""A folder of ``simclr export --format hub``, read as a checkpoint: JSON and safetensors, which hold no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from simclr_lightning.checkpoints.content import load_safetensors
from simclr_lightning.errors import InputError, MissingFileError

CONFIG = "config.json"
ENCODER = "model.safetensors"
"""Weights of the encoder under its own names: timm and transformers look for this file."""

OTHER_WEIGHTS = "simclr.safetensors"
"""All other tensors of the model, the projection head above all, under the names of its state dict."""

SECTION = "simclr_lightning"
"""What config.json tells for this package; timm and transformers read other keys, and leave this one alone."""

_TOLD = ("hyper_parameters", "datamodule_hyper_parameters", "class_path", "global_step", "pytorch-lightning_version")


def is_hub_folder(path: str | Path) -> bool:
    """Whether a folder looks like a model of the Hub, which this package need not have written.

    Example:
        >>> is_hub_folder("no/such/folder")
        False
    """
    return Path(path, CONFIG).is_file()


def bytes_of(path: str | Path) -> bytes:
    """What features depend on in a checkpoint's file, or in a folder for the Hub.

    Example:
        >>> b"files = " in bytes_of(__file__)
        True
    """
    files = [Path(path, name) for name in (CONFIG, ENCODER)] if is_hub_folder(path) else [Path(path)]
    return b"".join(file.read_bytes() for file in files)


def section_of(content: Mapping[str, Any], clean_pictures: Mapping[str, Any], scale: Any) -> dict[str, Any]:
    """What config.json tells of a checkpoint: the model's hyperparameters, and how clean pictures are prepared.

    Paths, and what else the data module was given, stay at home.

    Args:
        content: of the checkpoint.
        clean_pictures: fields of the recipe that clean pictures depend on.
        scale: what is black and white in the pictures, see :func:`~simclr_lightning.checkpoints.plain_scale`.

    Example:
        >>> section_of({"global_step": 5, "optimizer_states": []}, {"eval_size": 32}, None)
        {'global_step': 5, 'datamodule_hyper_parameters': {'views': {'eval_size': 32}}}
    """
    told = {name: content[name] for name in _TOLD if content.get(name) is not None}
    data = {"views": dict(clean_pictures)} | ({} if scale is None else {"scale": scale})
    return {**told, "datamodule_hyper_parameters": data}


def read_hub_folder(folder: Path) -> dict[str, Any]:
    """The content of a folder, as if it were that of a checkpoint.

    Raises:
        MissingFileError: if the weights are missing.
        MissingPackageError: if the package safetensors is missing.
        InputError: if a file is damaged, or ``simclr export --format hub`` has not written the folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as name:
        ...     written = Path(name, "config.json").write_text('{"architecture": "resnet18"}')
        ...     read_hub_folder(Path(name))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: ... has a config.json, but not from `simclr export --format hub`.
        If it holds a network of timm, SimCLR.load_encoder('.../model.safetensors', 'timm/NAME') loads it.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{folder / CONFIG} is damaged, or no JSON: copy it anew.") from error
    section = config.get(SECTION) if isinstance(config, dict) else None
    if not isinstance(section, dict) or not isinstance(section.get("hyper_parameters"), dict):
        raise InputError(
            f"{folder} has a {CONFIG}, but not from `simclr export --format hub`.\nIf it holds a network of timm, "
            f"SimCLR.load_encoder({str(folder / ENCODER)!r}, 'timm/NAME') loads it."
        )
    if not (folder / ENCODER).is_file():
        raise MissingFileError(f"{folder} has no {ENCODER}: copy the folder anew, with all of its files.")
    weights: dict[str, Tensor] = {
        f"encoder.{name}": value for name, value in load_safetensors(folder / ENCODER).items()
    }
    if (folder / OTHER_WEIGHTS).is_file():
        weights |= load_safetensors(folder / OTHER_WEIGHTS)
    return {**{name: section[name] for name in _TOLD if name in section}, "state_dict": weights}
