"""``load_from_checkpoint`` that runs nothing, wherever the file is from: Lightning's unpickles what it fetches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import yaml
from lightning.pytorch import LightningModule

from simclr_lightning.checkpoints.model import load_module


class SafelyLoaded(LightningModule):
    """Base of our modules: their checkpoints are read as data, and nothing is imported because a file names it.

    Example:
        >>> from simclr_lightning import FineTune, SimCLR
        >>> issubclass(SimCLR, SafelyLoaded), issubclass(FineTune, SafelyLoaded)
        (True, True)
    """

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is no classmethod to a type checker
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Build the module that a checkpoint describes, and load it.

        Args:
            checkpoint_path: of the file, or its address.
            map_location: device of the module; None: the CPU.
            hparams_file: YAML file of arguments, instead of those in the checkpoint.
            strict: whether all tensors must be there, and no others; None: as the module says.
            weights_only: has no effect: nothing but tensors and plain values is ever read.
            kwargs: arguments, instead of those in the checkpoint.

        Raises:
            MissingFileError: if there is no such file.
            InputError: if it cannot be read, holds or names code, or does not fit.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> from simclr_lightning import SimCLR
            >>> model = SimCLR("resnet8", width=0.125)
            >>> content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
            >>> with TemporaryDirectory() as folder:
            ...     torch.save(content, f"{folder}/last.ckpt")
            ...     SimCLR.load_from_checkpoint(f"{folder}/last.ckpt").feature_dim
            32
        """
        told = {} if hparams_file is None else yaml.safe_load(Path(hparams_file).read_text())
        model = load_module(cls, checkpoint_path, strict=strict, **{**told, **kwargs})
        return model if map_location is None else model.to(map_location)
