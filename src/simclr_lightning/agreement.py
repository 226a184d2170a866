"""Whether all processes of a training were started alike, asked once, before any of them waits for another."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from simclr_lightning.data import PictureDataModule
from simclr_lightning.data.pictures import FilePictures, InMemoryPictures
from simclr_lightning.data.splits import Split
from simclr_lightning.distributed import gather_objects
from simclr_lightning.errors import InputError
from simclr_lightning.versions import version_of

_OF_A_MACHINE = {"probe", "labels", "pairs", "num_workers", "pin_memory", "prefetch_factor", "persistent_workers"} | {
    *("cache", "on_device", "download", "init_from")
}
"""Arguments that may differ from node to node: where data are, and how they are loaded."""

_PLACE = re.compile(r"(^|_)(root|dir|dirpath|path|folder|file|filename|files)$")
_OF_THE_TRAINER = (
    *("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("precision", "limit_train_batches", "limit_val_batches", "val_check_interval", "check_val_every_n_epoch"),
    *("num_sanity_val_steps", "overfit_batches", "log_every_n_steps", "reload_dataloaders_every_n_epochs"),
)
_LENGTH = 60
"""Characters of a value that are told."""

_SAMPLE = 64
"""Pictures in memory that are looked at."""


class Agreement(Callback):
    """Ends all processes of a training, with one message, where they were not started alike.

    With other temperatures, rates or pictures they would train different models without a word; with other batch sizes
    or numbers of pictures they would wait for each other for ever. The modules of this package ask by themselves; the
    callback, which belongs first, asks before the other callbacks talk to each other, and for models of others.

    Args:
        settings: others that have to be equal, by the option that sets them.

    Example:
        >>> trainer = Trainer(callbacks=[Agreement()], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self.settings = dict(settings or {})

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask.

        Raises:
            InputError: on every process, naming a setting and its values.
        """
        if stage == "fit":
            _compare(trainer, self.settings)


def check_agreement(trainer: Trainer | None) -> Trainer | None:
    """Ask, unless a callback of the Trainer did; for the modules of this package.

    Args:
        trainer: whose processes have found each other. None: there are no others.

    Returns:
        The same.

    Raises:
        InputError: on every process, naming a setting and its values.

    Example:
        >>> check_agreement(None)
    """
    if trainer is not None and not any(isinstance(own, Agreement) for own in _callbacks(trainer)):
        _compare(trainer, {})
    return trainer


def _compare(trainer: Trainer, more: Mapping[str, object]) -> None:
    if trainer.world_size == 1:
        return
    found = gather_objects({**settings_of(trainer), **dict(_leaves(more))}, trainer.strategy.root_device)
    for rank, other in enumerate(found):
        different = [name for name in {**found[0], **other} if found[0].get(name) != other.get(name)]
        if different:
            first, rest = different[0], len(different) - 1
            own, its = (_told(settings.get(first, "not there")) for settings in (found[0], other))
            raise InputError(
                f"The processes were not started alike: {first} is {own} on rank 0, and {its} on rank {rank}"
                f"{f' ({rest} more: ' + ', '.join(different[1:4]) + ')' if rest else ''}.\nThey would train different "
                "models, or wait for each other for ever: start all by the same command, from the same configuration, "
                "data and release."
            )


def _told(value: str) -> str:
    return value if len(value) <= _LENGTH else f"{value[:_LENGTH]}..."


def settings_of(trainer: Trainer) -> dict[str, str]:
    """What has to be equal on all processes, by the option that sets it: model, data, Trainer, callbacks, releases.

    Paths are left out, and what a machine may have of its own, such as workers.

    Args:
        trainer: that has its model and its data.

    Returns:
        Values as text.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=3)
        >>> trainer.strategy.connect(SimCLR("resnet8", learning_rate=0.2))
        >>> found = settings_of(trainer)
        >>> found["model.learning_rate"], found["model.loss.temperature"], found["trainer.max_epochs"]
        ('0.2', '0.1', '3')
    """
    model, data = trainer.lightning_module, getattr(trainer, "datamodule", None)
    settings: dict[str, object] = {"model": _hyperparameters(model)}
    if data is not None:
        settings["data"] = _hyperparameters(data)
    if isinstance(data, PictureDataModule):
        settings["data of"] = _content(data)
    settings["trainer"] = {name: getattr(trainer, name, None) for name in _OF_THE_TRAINER}
    settings["trainer.callbacks"] = {
        type(own).__name__: {name: value for name, value in vars(own).items() if not name.startswith("_")}
        for own in _callbacks(trainer)
        if type(own).__module__.startswith("simclr_lightning.") and not isinstance(own, ProgressBar | Agreement)
    }
    settings["the checkpoint"] = _checkpoint(trainer.ckpt_path)
    releases = {name: version_of(name).partition("+")[0] for name in ("simclr-lightning", "torch", "lightning")}
    settings["the release of"] = releases
    return dict(_leaves(settings))


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]  # set by one of its connectors


def _hyperparameters(part: Any) -> dict[str, object]:
    return {"class": f"{type(part).__module__}.{type(part).__qualname__}", **part.hparams}


def _leaves(settings: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of plain values; other objects, whose text may have an address in it, by their type."""
    for key, value in settings.items():
        name = f"{before}{key}"
        place = key in _OF_A_MACHINE or (_PLACE.search(str(key)) and key != "class_path")
        if place or isinstance(value, Path):
            continue
        if isinstance(value, Mapping):
            inner = name.removesuffix(".init_args")
            yield from _leaves(value, f"{inner}{' ' if ' ' in inner else '.'}")
        elif isinstance(value, list | tuple) and any(isinstance(own, Mapping) for own in value):
            yield from _leaves({str(place): own for place, own in enumerate(value)}, f"{name}.")
        elif isinstance(value, str | int | float | bool | list | tuple | None):
            yield name, str(value)
        else:
            yield name, type(value).__qualname__


def _content(data: PictureDataModule) -> dict[str, object]:
    """Numbers of pictures and classes, and a digest of which these are."""
    if data.stream is not None:
        return {"class names": data.class_names}
    splits = data.splits
    parts = {"training": splits.train, "probe": splits.labelled, "validation": splits.val}
    found: dict[str, object] = {
        f"number of {name} pictures": None if part is None else len(part.positions) for name, part in parts.items()
    }
    found["class names"] = splits.class_names
    return found | {f"list of {name} pictures": _digest(part) for name, part in parts.items() if part is not None}


def _digest(part: Split) -> str:
    """Of positions, labels, and the files' names or, in memory, some of the pictures."""
    digest, pictures = hashlib.sha256(), part.pictures
    for tensor in (part.positions, pictures.targets):
        digest.update(_bytes(tensor))
    if isinstance(pictures, FilePictures):
        digest.update(pictures.files.tobytes())
    elif isinstance(pictures, InMemoryPictures):
        some = torch.linspace(0, len(pictures) - 1, min(_SAMPLE, len(pictures))).long()
        digest.update(_bytes(pictures.rows(some)))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().cpu().view(torch.uint8).numpy().tobytes())


def _checkpoint(path: Any) -> str:
    """From which a training goes on: the end of the file, where its checksum is; folders and addresses by name."""
    if path is None:
        return "none"
    if not os.path.isfile(path):
        return os.path.basename(str(path))
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4096))
        return f"{os.path.basename(path)} ({hashlib.sha256(file.read()).hexdigest()[:12]})"
