"""What a checkpoint's file holds: read once, and without running code that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from simclr_lightning.checkpoints.content import (
    BESIDE_PIECES,
    is_address,
    load_content,
    load_safetensors,
    newest_checkpoint,
    refuse_pieces,
)
from simclr_lightning.checkpoints.hub_folder import is_hub_folder, read_hub_folder
from simclr_lightning.compat import CLASS_PATH
from simclr_lightning.errors import InputError, MissingFileError

CLEAN_FIELDS = ("eval_size", "eval_crop", "interpolation", "mean", "std", "normalize", "forms")
"""The fields of a ``ViewRecipe`` that clean pictures depend on."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of ``torch.save`` holds: a Lightning checkpoint, or a state dict of another package.

    Attributes:
        path: of the file, or its address.
        content: all of it, on the CPU: tensors and plain values. It is shared, so it must not be changed.

    Example:
        >>> import torch
        >>> Checkpoint(Path("resnet.pth"), {"fc.bias": torch.zeros(3)}).state_dict
        {'fc.bias': tensor([0., 0., 0.])}
    """

    path: Path | str
    content: dict[str, Any]

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """The weights, by name.

        Raises:
            InputError: if there are none.
        """
        weights = self.content.get("state_dict", self.content)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise InputError(
                f"{self.path} holds neither a state dict of tensors nor a checkpoint with one under state_dict."
            )
        return weights

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """What the model was built with, as this release names it; empty where the file does not tell."""
        found = self.content.get("hyper_parameters")
        return upgraded(found) if isinstance(found, dict) else {}

    @property
    def class_path(self) -> str | None:
        """Which class wrote it, where it tells."""
        path = self.hyperparameters.get(CLASS_PATH) or self.content.get("class_path")
        if path is None and self.classifier is not None:
            path = f"simclr_lightning.{self.classifier}"
        return path if isinstance(path, str) else None

    @property
    def classifier(self) -> str | None:
        """Name of the classifier's class that wrote it; None for other models."""
        name = self.content.get("classifier")
        return name if isinstance(name, str) else None

    @property
    def data(self) -> dict[str, Any]:
        """Hyperparameters of the data module; empty where the file does not tell."""
        found = self.content.get("datamodule_hyper_parameters")
        return found if isinstance(found, dict) else {}

    @property
    def clean_pictures(self) -> dict[str, Any]:
        """How pictures were prepared for evaluation: those of ``CLEAN_FIELDS`` that it tells.

        Where it tells no recipe, the size is that of the views.

        Example:
            >>> data = {"views": {"size": 32, "eval_size": 24, "mean": None}}
            >>> Checkpoint(Path("last.ckpt"), {"datamodule_hyper_parameters": data}).clean_pictures
            {'eval_size': 24, 'mean': None}
        """
        views = self.data.get("views")
        recipe = views[0] if isinstance(views, list) and views else views  # clean pictures are those of the first
        told = {name: recipe[name] for name in CLEAN_FIELDS if name in recipe} if isinstance(recipe, dict) else {}
        side = told.get("eval_size") or self.hyperparameters.get("image_size")
        return told if side is None else {**told, "eval_size": side}


def plain_scale(data: Mapping[str, Any]) -> Any:
    """What the data's hyperparameters of a checkpoint tell of the range of values: numbers, or dtype; None: nothing.

    Example:
        >>> plain_scale({"scale": [0.0, 4095.0]}), plain_scale({"scale": "percentile"})
        ([0.0, 4095.0], None)
    """
    found = data.get("scale")
    return found if isinstance(found, list) or found == "dtype" else None


def read_checkpoint(path: str | Path, *, in_pieces: bool = False) -> Checkpoint:
    """Read a file, if it holds nothing but tensors and plain values.

    As long as somebody holds the result, the same file is not read again, unless it has changed.

    Args:
        path: a checkpoint, or a state dict, also as a ``.safetensors`` file; or the address of one (https://, s3://);
            or a folder of ``simclr export --format hub``.
        in_pieces: whether it may be a folder of pieces, as FSDP2 writes by default: what is beside the weights is read.

    Raises:
        MissingFileError: if there is no such file.
        MissingPackageError: if the package safetensors is needed and missing.
        InputError: if it holds objects of other classes, which are named, or is damaged, or something else, or cannot
            be fetched.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "weights.pth")
        ...     torch.save({"state_dict": {"bias": torch.zeros(2)}}, path)
        ...     checkpoint = read_checkpoint(path)
        ...     read_checkpoint(path) is checkpoint
        True
        >>> checkpoint.state_dict
        {'bias': tensor([0., 0.])}
    """
    if is_address(path):
        return Checkpoint(str(path), _dictionary(load_content(path), path))
    path = Path(path)
    if not in_pieces:
        refuse_pieces(path)
    if (path / BESIDE_PIECES).is_file():
        path = path / BESIDE_PIECES
    if path.is_dir():
        if is_hub_folder(path):
            if in_pieces:
                raise InputError(
                    f"The folder {path} is for the Hub and holds no run: a new one begins from its encoder by "
                    f"--model.init_from {path}.\n`simclr evaluate` judges it beside a run's by --others.NAME {path}."
                )
            return Checkpoint(path, read_hub_folder(path))
        newest = newest_checkpoint(path).path or newest_checkpoint(path / "checkpoints").path
        raise MissingFileError(
            f"There is no checkpoint {path}: give the path of a .ckpt file, and not of a folder",
            "ckpt_path FILE.ckpt" if newest is None else f"ckpt_path {newest}",
        )
    if path.exists() and not path.is_file():
        raise InputError(f"The checkpoint {path} is a pipe or a device: name a file", "ckpt_path FILE.ckpt")
    if not path.is_file():
        raise MissingFileError(f"There is no checkpoint {path}: give the path of a .ckpt file (--ckpt_path).")
    state = path.stat()
    key = path.resolve(), state.st_mtime_ns, state.st_size
    known = _read.get(key)
    if known is None:
        content = load_safetensors(path) if path.suffix == ".safetensors" else load_content(path)
        known = _read[key] = Checkpoint(path, _dictionary(content, path))
    return known


def _dictionary(content: Any, path: Path | str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds neither a state dict of tensors nor a checkpoint with one under state_dict, but a "
            f"{type(content).__name__}."
        )
    return content


def upgraded(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as this release names them: NT-Xent's were once arguments of SimCLR, now the loss is one.

    Example:
        >>> upgraded({"encoder": "resnet18", "projection_layers": 2, "temperature": 0.5})["loss"]["init_args"]
        {'temperature': 0.5}
    """
    found = dict(hyperparameters)
    if "projection_layers" in found and "loss" not in found:
        names = ("temperature", "normalize", "official_scale", "gather")
        arguments = {name: found.pop(name) for name in names if name in found}
        found["loss"] = {"class_path": "simclr_lightning.losses.nt_xent.NTXentLoss", "init_args": arguments}
    return found


def run_of(path: str | Path) -> Path | None:
    """Folder of the run that a checkpoint is from, None unless it lies in a folder named ``checkpoints``.

    Example:
        >>> run_of("runs/simclr/checkpoints/last.ckpt").as_posix()
        'runs/simclr'
    """
    folder = Path(path).parent
    if is_address(path) or folder.resolve().name != "checkpoints":
        return None
    return (folder if folder.name else folder.resolve()).parent


_read: WeakValueDictionary[tuple[Path, int, int], Checkpoint] = WeakValueDictionary()
