"""Where figures go: the folder of an evaluation, the loggers, and what becomes of them when it is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from simclr_lightning.callbacks.log_picture import log_picture
from simclr_lightning.callbacks.run_folder import run_folder, unused_name
from simclr_lightning.checkpoints import run_of
from simclr_lightning.versions import version_of

_PACKAGES = ("simclr-lightning", "lightning", "torch", "torchvision", "scikit-learn")


def output_folder(trainer: Trainer, ckpt_path: str | Path | None, output: str | Path | None) -> Path:
    """The folder that is asked for, otherwise the checkpoint's run, otherwise this run; it is not made.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False)
        >>> output_folder(trainer, "runs/quickstart/one/checkpoints/last.ckpt", None).as_posix()
        'runs/quickstart/one'
    """
    if output is not None:
        return Path(output)
    run = None if ckpt_path is None else run_of(ckpt_path)
    if run is not None:
        return run
    if trainer.loggers and trainer.loggers[0].version is None:
        _ = trainer.loggers[0].experiment  # type: ignore[attr-defined]  # with Weights & Biases, this names the run
    return run_folder(trainer)


def package_versions() -> dict[str, str]:
    """What figures may depend on besides the settings.

    Example:
        >>> list(package_versions())
        ['simclr-lightning', 'lightning', 'torch', 'torchvision', 'scikit-learn']
    """
    return {package: version_of(package) for package in _PACKAGES}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that people read, too, and its folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_json(Path(folder, "new", "figures.json"), {"knn": 98.6})
        ...     json.loads(Path(folder, "new", "figures.json").read_text())
        {'knn': 98.6}
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def log_figures(
    trainer: Trainer,
    folder: Path,
    figures: Mapping[int | None, Mapping[str, float]],
    pictures: Mapping[str, Path],
) -> None:
    """Hand figures and pictures to the trainer's loggers, without opening what their version holds of a training.

    ``CSVLogger`` gets nothing: it begins the metrics.csv of its version anew, and a JSON file has the figures anyway.
    For ``TensorBoardLogger``, whose version may be a training's, another one writes into ``folder``.

    Args:
        trainer: whose loggers get them.
        folder: of TensorBoard's events.
        figures: metrics by step; None: they belong to no step.
        pictures: PNG files by name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     logger = CSVLogger(folder)
        ...     trainer = Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
        ...     log_figures(trainer, Path(folder), {None: {"evaluate/knn": 98.6}}, {})
        ...     list(Path(folder).iterdir())
        []
    """
    loggers = list(_loggers_beside_training(trainer, folder))
    for logger in loggers:
        for step, metrics in figures.items():
            logger.log_metrics(dict(metrics), step)
    for name, path in pictures.items():
        with Image.open(path) as image:
            log_picture(trainer, name, image.convert("RGB"), loggers=loggers, keep=False)
    for logger in loggers:
        logger.save()
        logger.finalize("success")  # as Lightning does after each of its own commands


def _loggers_beside_training(trainer: Trainer, folder: Path) -> Iterator[Logger]:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            yield TensorBoardLogger(folder, name="", version="")
        elif not isinstance(logger, CSVLogger):
            yield logger


@contextmanager
def kept_if_interrupted(
    finished: Sized, content: Callable[[], Mapping[str, Any]], path: Path, asked: Mapping[str, Any]
) -> Iterator[None]:
    """Write what is finished when an error or a signal ends the block, and let the process fail.

    Lightning turns Ctrl-C, and a signal to end, into a silent exit, the latter even into a successful one.

    Args:
        finished: grows while figures are measured; nothing is written while it is empty.
        content: what is written.
        path: of the file; where there is one already, -2 is added to its name, and so on.
        asked: by which :func:`remove_unfinished` knows that another evaluation was the same.

    Raises:
        SystemExit: with status 1, if interrupted.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     path = Path(folder, "unfinished.json")
        ...     try:
        ...         with kept_if_interrupted([98.6], lambda: {"figures": [98.6]}, path, {"seed": 0}):
        ...             raise KeyboardInterrupt
        ...     except SystemExit:
        ...         json.loads(path.read_text())
        Interrupted: the figures that were finished are in ...unfinished.json.
        {'asked': {'seed': 0}, 'figures': [98.6]}
    """
    try:
        yield
    except BaseException as error:
        if finished:
            unfinished = unused_name(path)
            write_json(unfinished, {"asked": dict(asked), **content()})
            print(f"Interrupted: the figures that were finished are in {unfinished}.", flush=True)
        else:
            print("Interrupted before the first figure was finished: nothing is written.", flush=True)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise SystemExit(1) from error
        raise


def remove_unfinished(path: Path, asked: Mapping[str, Any]) -> None:
    """Remove what interrupted evaluations left that asked for the same, and name what others left.

    Args:
        path: as given to :func:`kept_if_interrupted`.
        asked: for which all figures are written now.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "unfinished.json")
        ...     write_json(path, {"asked": {"seed": 0}, "figures": [98.6]})
        ...     remove_unfinished(path, {"seed": 0})
        ...     path.exists()
        False
    """
    same = json.loads(json.dumps(asked))
    for unfinished in sorted(path.parent.glob(f"{path.stem}*{path.suffix}")):
        if json.loads(unfinished.read_text(encoding="utf-8")).get("asked") == same:
            unfinished.unlink()
        else:
            print(f"Figures of another evaluation, which was interrupted: {unfinished}")
