"""How a Trainer reads and writes checkpoints: by ``DurableCheckpointIO``, a plug-in of Lightning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from simclr_lightning.checkpoints.content import is_address, load_content, newest_checkpoint, refuse_pieces
from simclr_lightning.checkpoints.misfit import check_numbers, lightning_content
from simclr_lightning.checkpoints.seal import seal
from simclr_lightning.errors import InputError, MissingFileError

_PART = ".part"


class DurableCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are complete or not there, tell when a bit of them has changed, and run no code.

    A file is written beside its place, with a checksum in it, and takes its place when it is on the disk: killed at any
    moment, a run leaves the checkpoint before or the new one. Nothing but tensors and plain values is read.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[DurableCheckpointIO()], accelerator="cpu", logger=False)
        >>> type(trainer.strategy.checkpoint_io).__name__
        'DurableCheckpointIO'
    """

    def __init__(self) -> None:
        super().__init__()
        self._tidied: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; what is at its place stays until it is complete.

        Args:
            checkpoint: of Lightning.
            path: of the file. At an address, and with ``storage_options``, Lightning writes it as it would.
            storage_options: see above.

        Raises:
            InputError: if it cannot be written, on a full disk for example.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> io = DurableCheckpointIO()
            >>> with TemporaryDirectory() as folder:
            ...     content = {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "global_step": 3}
            ...     io.save_checkpoint(content, f"{folder}/last.ckpt")
            ...     io.load_checkpoint(f"{folder}/last.ckpt")["global_step"]
            3
        """
        if is_address(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        part = path.with_name(f".{path.name}{_PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._tidy(path.parent)
            with part.open("w+b") as file:
                torch.save(checkpoint, file)
                seal(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync(path.parent)
        except (OSError, RuntimeError) as error:  # torch's writer tells of a full disk by the latter
            part.unlink(missing_ok=True)
            reason = next((own for own in (error, error.__context__) if isinstance(own, OSError)), error)
            found = newest_checkpoint(path.parent).path
            before = "" if found is None else f", and go on from the one before (--ckpt_path {found})"
            raise InputError(
                f"The checkpoint {path} cannot be written ({str(reason).splitlines()[0]}): make room, or mend the "
                f"folder's permissions{before}."
            ) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise

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
            InputError: if it holds anything else, is damaged, no checkpoint of Lightning, cannot be fetched, or has
                weights that are not numbers.

        Example:
            >>> DurableCheckpointIO().load_checkpoint("nowhere.ckpt")
            Traceback (most recent call last):
            simclr_lightning.errors.MissingFileError: There is no checkpoint nowhere.ckpt: give the path of a .ckpt \
file (--ckpt_path).
        """
        refuse_pieces(path)
        if not is_address(path) and not Path(path).is_file():
            raise MissingFileError(f"There is no checkpoint {path}: give the path of a .ckpt file (--ckpt_path).")
        content = lightning_content(load_content(path), path)
        check_numbers(content["state_dict"], path)
        return content

    def _tidy(self, folder: Path) -> None:
        """Remove, once, what killed runs have begun to write in a folder."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            for part in folder.glob(f".*{_PART}"):
                part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Let the new name of a file reach the disk; not every system lets a folder be opened."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass
    finally:
        os.close(number)
