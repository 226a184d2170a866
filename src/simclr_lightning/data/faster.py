"""What to type where a training waits for its pictures: what is true for the run, and for this machine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from simclr_lightning.data.cache import RaggedPictures
from simclr_lightning.data.packed import PackedPictures
from simclr_lightning.data.pictures import FilePictures, InMemoryPictures
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.data.stream import StreamDataset
from simclr_lightning.data.worker_processes import cores, workers_of

Kind = Literal["files", "packed", "memory", "stream", "other"]


def faster(
    kind: Kind,
    workers: int | None,
    *,
    processes: int = 1,
    on_accelerator: bool = False,
    scales: bool = False,
    root: str = "photos",
) -> list[str]:
    """Ways to load pictures faster, the most promising first.

    Args:
        kind: where the pictures come from.
        workers: of each training process; None: as many as this machine allows.
        processes: that train on this machine.
        on_accelerator: whether that is where training takes place.
        scales: whether files are decoded no larger than need be, or may not be.
        root: folder of the files.

    Example:
        >>> faster("memory", 0, on_accelerator=True)
        ['--data.on_device true']
    """
    found, most = [], 1 if kind == "memory" else workers_of(processes)
    if kind == "memory" and on_accelerator:
        found.append("--data.on_device true")
    elif workers is not None and workers < most:
        found.append(f"--data.num_workers {most}")
    if kind in ("files", "packed"):
        if find_spec("simplejpeg") is None:
            found.append("pip install 'simclr-lightning[fast]' (JPEGs in two thirds of the time)")
        if not scales:
            found.append("--data.scaled_decoding true (photos of megapixels)")
    if kind == "files":
        found.append(f"simclr pack {root} packed, then --data.dataset packed --data.root packed (a slow disk)")
    if kind in ("files", "packed", "other"):
        found.append("--data.cache true (pictures of one size that fit into memory)")
    return found


def faster_loading(trainer: Trainer) -> list[str]:
    """As :func:`faster`, of what a Trainer trains on.

    Example:
        >>> faster_loading(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
        []
    """
    loader, processes = trainer.train_dataloader, trainer.num_devices
    if not isinstance(loader, DataLoader):
        return []
    data: Any = loader.dataset
    kind = _kind(data)
    if kind is None:  # somebody else's
        return [f"num_workers={workers_of(processes)} of the DataLoader"] if loader.num_workers < cores() - 1 else []
    refused = any(recipe.official for recipe in getattr(data, "recipes", ()))
    return faster(
        kind,
        loader.num_workers,
        processes=processes,
        on_accelerator=trainer.strategy.root_device.type != "cpu" and getattr(data, "pixels", False),
        scales=refused or getattr(data, "scaled", False),
        root=str(getattr(getattr(data, "pictures", None), "root", "photos")),
    )


def faster_by_config(arguments: dict[str, Any]) -> list[str]:
    """As :func:`faster`, by the arguments of one of our data modules.

    Example:
        >>> faster_by_config({"dataset": "folder", "root": "cats", "num_workers": 0})[-1]
        '--data.cache true (pictures of one size that fit into memory)'
    """
    name, root = arguments.get("dataset"), arguments.get("root")
    kind: Kind = "other"
    if arguments.get("cache"):
        kind = "memory"
    elif name == "packed":
        kind = "packed"
    elif name == "folder" or (name is None and root):
        kind = "files"
    return faster(
        kind,
        arguments.get("num_workers"),
        scales=bool(arguments.get("scaled_decoding")),
        root=root if isinstance(root, str) and root else "photos",
    )


def _kind(data: object) -> Kind | None:
    if isinstance(data, StreamDataset) or isinstance(getattr(data, "pictures", None), RaggedPictures):
        return "stream"  # workers are all there is to choose: no file is read, but crops are made
    if not isinstance(data, BatchDataset):
        return None
    pictures = data.pictures
    if isinstance(pictures, InMemoryPictures):
        return "memory"
    if isinstance(pictures, PackedPictures):
        return "packed"
    return "files" if isinstance(pictures, FilePictures) else "other"
