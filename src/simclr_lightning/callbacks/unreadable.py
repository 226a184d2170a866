"""The list of pictures that could not be read."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from simclr_lightning.callbacks.run_folder import run_folder

LIST = "unreadable.txt"
"""Name of the list in the run's folder."""


class UnreadablePictures(Callback):
    """Lists the pictures that could not be read in the run's folder, and tells their number at the end.

    All processes write into one file, ``unreadable.txt``, a line for each picture: what is wrong with it. It is there
    only if there are such pictures, which ``data.on_bad_picture skip`` leaves out.

    Example:
        >>> trainer = Trainer(callbacks=[UnreadablePictures()], logger=False, accelerator="cpu", devices=1)
    """

    file: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder, on every process; the data module has read what it caches."""
        self.file = run_folder(trainer) / LIST
        reading = getattr(getattr(trainer, "datamodule", None), "reading", None)
        if reading is not None:
            reading.list_in(self.file)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell their number."""
        if self.file is not None and self.file.exists():
            rank_zero_info(f"{count(self.file)} pictures could not be read, and were left out: see {self.file}.")


def count(file: Path) -> int:
    """Number of different pictures in a list.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, LIST)
        ...     _ = file.write_text("Cannot read 1.png: empty. Cannot read 2.png: empty.".replace(". ", "." + chr(10)))
        ...     count(file)
        2
    """
    with file.open(encoding="utf-8") as lines:
        return len(set(lines))
