"""How a Trainer reads and writes checkpoints: by ``DurableCheckpointIO``, a plug-in of Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from simclr_lightning.checkpoints.file import is_address, load_content
from simclr_lightning.errors import MissingFileError


class DurableCheckpointIO(TorchCheckpointIO):
    """Reads nothing but tensors and plain values, from files and from addresses: no code in a checkpoint is run.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[DurableCheckpointIO()], accelerator="cpu", logger=False)
        >>> type(trainer.strategy.checkpoint_io).__name__
        'DurableCheckpointIO'
    """

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, on the CPU.

        Args:
            path: of the file, or its address.
            map_location: has no effect: a Trainer moves what it restores.
            weights_only: has no effect: nothing but tensors and plain values is ever read.

        Raises:
            MissingFileError: if there is no such file.
            InputError: if it holds anything else, is damaged, or cannot be fetched.

        Example:
            >>> DurableCheckpointIO().load_checkpoint("nowhere.ckpt")
            Traceback (most recent call last):
            simclr_lightning.errors.MissingFileError: There is no checkpoint nowhere.ckpt: give the path of a .ckpt \
file (--ckpt_path).
        """
        if not is_address(path) and not Path(path).is_file():
            raise MissingFileError(f"There is no checkpoint {path}: give the path of a .ckpt file (--ckpt_path).")
        content: dict[str, Any] = load_content(path)
        return content
