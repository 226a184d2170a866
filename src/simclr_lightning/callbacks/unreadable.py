"""The list of pictures that could not be read."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.splits import Split, Splits

LIST = "unreadable.txt"
"""Name of the list in the run's folder."""


class UnreadablePictures(Callback):
    """Lists the pictures that could not be read in the run's folder, and tells their number at the end.

    It also tells how many files were read in part, by this process.

    All processes write into one file, ``unreadable.txt``, a line for each picture: what is wrong with it. It is there
    only if there are such pictures, which ``data.on_bad_picture skip`` leaves out.

    Example:
        >>> trainer = Trainer(callbacks=[UnreadablePictures()], logger=False, accelerator="cpu", devices=1)
    """

    folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder, on every process; the data module has read what it caches."""
        self.folder = run_folder(trainer)
        list_unreadable(getattr(trainer, "datamodule", None), self.folder)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell their number."""
        if self.folder is not None:
            tell_unreadable(self.folder)
        splits = getattr(getattr(trainer, "datamodule", None), "splits", None)
        if isinstance(splits, Splits):
            sets = {part.pictures.partly.data_ptr(): part.pictures for part in splits if isinstance(part, Split)}
            number = sum(int(pictures.partly.sum()) for pictures in sets.values())
            if number:
                rank_zero_info(f"{number} files hold more pages or bands than were read of them.")


def list_unreadable(datamodule: object, folder: Path) -> None:
    """Let a data module list the pictures that it cannot read in a folder, from now on.

    Args:
        datamodule: of any kind; those that are not ours list nothing.
        folder: need not be there yet.

    Example:
        >>> list_unreadable(None, Path("runs"))
    """
    reading = getattr(datamodule, "reading", None)
    if isinstance(reading, Reading):
        reading.list_in(folder / LIST)


def tell_unreadable(folder: Path) -> None:
    """Tell how many pictures the list in a folder has, and where it is; nothing if there is no list.

    Example:
        >>> tell_unreadable(Path("no/such/folder"))
    """
    if (folder / LIST).exists():
        rank_zero_info(f"{count(folder / LIST)} pictures could not be read, and were left out: see {folder / LIST}.")


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
