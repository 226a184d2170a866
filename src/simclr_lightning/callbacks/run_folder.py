"""Where a run keeps its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger


def run_folder(trainer: Trainer) -> Path:
    """Folder of this run, the one in which ``ModelCheckpoint`` makes its ``checkpoints`` by default.

    That is ``save_dir/name/version`` of the first logger, and ``default_root_dir`` without a logger. Every process must
    call it: the answer is that of rank zero, since the others may have counted another version. The folder is not made.

    Args:
        trainer: whose strategy has set up its processes, which is so in every hook from ``setup`` on.

    Example:
        >>> run_folder(Trainer(default_root_dir="/runs", accelerator="cpu", logger=False)).as_posix()
        '/runs'
    """
    return Path(trainer.strategy.broadcast(str(folder_of_first_process(trainer))))


def folder_of_first_process(trainer: Trainer) -> Path:
    """The same, for rank zero alone: it asks no other process.

    Example:
        >>> trainer = Trainer(default_root_dir="/runs", accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> folder_of_first_process(trainer).as_posix()
        '/runs'
    """
    return folder_by(trainer.loggers, trainer.default_root_dir)


def folder_by(loggers: Sequence[Logger], default_root_dir: str) -> Path:
    """The same, of a Trainer that has these settings.

    Example:
        >>> folder_by([], "/runs").as_posix()
        '/runs'
    """
    if not loggers:
        return Path(default_root_dir)
    logger = loggers[0]
    root = default_root_dir if logger.save_dir is None else logger.save_dir
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(root, str(logger.name), version)


def unused_name(path: Path) -> Path:
    """The path itself, or with -2, -3, ... behind its stem, whichever does not exist yet.

    Example:
        >>> unused_name(Path("no/such/folder/config.yaml")).as_posix()
        'no/such/folder/config.yaml'
    """
    number, candidate = 2, path
    while candidate.exists():
        candidate, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return candidate


def beside_the_training(logger: Logger, command: str) -> Logger:
    """A CSV logger begins its file anew, so that of a training that is judged gets a version of its own.

    Args:
        logger: of the training.
        command: that judges it, such as ``test``.

    Example:
        >>> beside_the_training(CSVLogger("no", "such", version="folder"), "test").version
        'folder'
    """
    if not isinstance(logger, CSVLogger) or not Path(logger.log_dir).exists():
        return logger
    folder = unused_name(Path(f"{logger.log_dir}-{command}"))
    return CSVLogger(logger.save_dir, logger.name, version=folder.name)
