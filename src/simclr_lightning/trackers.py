"""The settings of loggers: names of the runs in trackers, and how these go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import loggers
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from simclr_lightning.callbacks.tracked_runs import KEY, plain_record, read_record
from simclr_lightning.checkpoints import is_address, read_checkpoint
from simclr_lightning.errors import MissingPackageError

_NEEDS = (
    (WandbLogger, ("wandb",), "'simclr-lightning[wandb]'"),
    (TensorBoardLogger, ("tensorboard", "tensorboardX"), "'simclr-lightning[tensorboard]'"),
    (MLFlowLogger, ("mlflow",), "mlflow"),
)


def loggers_of(chosen: Namespace) -> list[Namespace]:
    """The settings of the loggers that are chosen, each with its class.

    Example:
        >>> logger = Namespace(class_path="CSVLogger", init_args=Namespace(save_dir="runs"))
        >>> loggers_of(Namespace(trainer=Namespace(logger=logger))) == [logger]
        True
        >>> loggers_of(Namespace(trainer=Namespace(logger=False)))
        []
    """
    found = chosen.trainer.get("logger")
    return [own for own in (found if isinstance(found, list) else [found]) if isinstance(own, Namespace)]


def kind_of(logger: Namespace) -> type[Logger] | None:
    """Class of a logger; None where there is no such class.

    Example:
        >>> kind_of(Namespace(class_path="CSVLogger")).__name__
        'CSVLogger'
    """
    path: str = logger.class_path
    kind: Any = resolve_name(path) if "." in path else getattr(loggers, path, None)
    return kind if isinstance(kind, type) else None


def has_folders(logger: Namespace) -> bool:
    """Whether a logger's runs are folders save_dir/name/version, or of W&B save_dir/project/id.

    Example:
        >>> has_folders(Namespace(class_path="WandbLogger")), has_folders(Namespace(class_path="MLFlowLogger"))
        (True, False)
    """
    return _is_a(logger, CSVLogger, TensorBoardLogger, WandbLogger)


def project_of(logger: Namespace) -> str | None:
    """Project of a logger of W&B; None of any other.

    Example:
        >>> project_of(Namespace(class_path="WandbLogger", init_args=Namespace(project="views")))
        'views'
    """
    if not _is_a(logger, WandbLogger):
        return None
    return str(logger.init_args.get("project") or os.environ.get("WANDB_PROJECT") or "lightning_logs")


def id_of_wandb(logger: Namespace) -> str | None:
    """Id of a run of W&B that was typed, or that an agent of a sweep has given.

    Example:
        >>> id_of_wandb(Namespace(class_path="WandbLogger", init_args=Namespace(version="1abc")))
        '1abc'
    """
    given = [logger.init_args.get("version"), logger.init_args.get("id"), os.environ.get("WANDB_RUN_ID")]
    return next(map(str, filter(None, given)), None)


def require_trackers(chosen: Sequence[Namespace]) -> None:
    """Complain of a logger whose package is missing, before anything is computed.

    Raises:
        MissingPackageError: with what is to be installed.

    Example:
        >>> require_trackers([Namespace(class_path="CSVLogger")])
    """
    for logger in chosen:
        for kind, packages, install in _NEEDS:
            if _is_a(logger, kind) and not any(map(_is_installed, packages)):
                raise MissingPackageError(
                    f"{kind.__name__} needs the package {packages[0]}: pip install {install}\n"
                    "Every run has its metrics.csv without it: leave --trainer.logger out."
                )


def _is_installed(package: str) -> bool:
    """A folder of that name, as W&B leaves one where it ran, is no package."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def call_and_group(chosen: Namespace) -> None:
    """Give runs of W&B the experiment as their group, and MLflow a file that it still supports, in its own folder.

    The experiment is the name that other loggers have, and the recipe. Where W&B takes the place of a recipe's logger,
    this name is left over as that of the run, which would be the same for all runs.

    Args:
        chosen: settings of the sub-command, which are changed.

    Example:
        >>> wandb = Namespace(class_path="WandbLogger", init_args=Namespace(name="simclr", group=None))
        >>> call_and_group(Namespace(trainer=Namespace(logger=wandb)))
        >>> wandb.init_args
        Namespace(name=None, group='simclr', resume='allow')
    """
    found = loggers_of(chosen)
    experiments = [own.init_args.get("name") for own in found if _is_a(own, CSVLogger, TensorBoardLogger)]
    for logger in found:
        arguments = logger.init_args
        if _is_a(logger, WandbLogger):
            left_over = arguments.get("name") in {"simclr", *_names_in_recipes(chosen)}
            experiment = arguments.get("name") if left_over else next(filter(None, experiments), None)
            if left_over:
                arguments["name"] = None
            arguments["group"] = arguments.get("group") or experiment
            arguments["resume"] = arguments.get("resume") or "allow"  # Lightning's own, which null would replace
        elif _is_a(logger, MLFlowLogger):  # MLflow refuses the folder of files that Lightning would choose
            server = arguments.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
            arguments["tracking_uri"] = server or f"sqlite:///{Path(arguments.get('save_dir') or '.', 'mlflow.db')}"
            if logger is found[0]:  # Lightning would forget save_dir, and make the run's folder here
                chosen.trainer.default_root_dir = chosen.trainer.get("default_root_dir") or arguments.get("save_dir")


def has_name(chosen: Namespace) -> bool:
    """Whether somebody named the run of W&B.

    Example:
        >>> logger = Namespace(class_path="WandbLogger", init_args=Namespace(name="first try"))
        >>> has_name(Namespace(trainer=Namespace(logger=logger)))
        True
    """
    found = [own.init_args.get("name") for own in loggers_of(chosen) if _is_a(own, WandbLogger)]
    return any(found) or "WANDB_NAME" in os.environ


def _names_in_recipes(chosen: Namespace) -> Iterator[str]:
    """Names that the configurations give to loggers which are not of W&B."""
    for file in chosen.get("config") or []:
        content = yaml.safe_load(file.get_content()) if hasattr(file, "get_content") else None
        trainer = content.get("trainer") if isinstance(content, dict) else None
        logger = trainer.get("logger") if isinstance(trainer, dict) else None
        if isinstance(logger, dict) and "WandbLogger" not in str(logger.get("class_path")):
            name = (logger.get("init_args") or {}).get("name")
            if isinstance(name, str):
                yield name


def go_on(chosen: Sequence[Namespace], path: str, folder: Path | None) -> None:
    """Let loggers write into the runs that a checkpoint's run has there, where no other one was typed.

    Args:
        chosen: settings of the loggers, which are changed.
        path: of the checkpoint, which tells them, too.
        folder: of its run, whose ``trackers.json`` tells them.

    Example:
        >>> go_on([Namespace(class_path="CSVLogger", init_args=Namespace(version=None))], "no/such.ckpt", None)
    """
    unknown = [own for own in chosen if _argument(own) is not None and not _is_chosen(own)]
    if not unknown:
        return
    known = read_record(folder) if folder is not None else []
    if not known and any(_is_a(own, WandbLogger, MLFlowLogger) for own in unknown) and _is_there(path):
        known = plain_record(read_checkpoint(path, in_pieces=True).content.get(KEY))
    for logger in unknown:
        kind, argument = kind_of(logger), _argument(logger)
        assert kind is not None
        assert argument is not None
        found = (own for own in known if own["logger"] == kind.__name__ and _fits(logger, own))
        logger.init_args[argument] = next((own["version"] for own in found), None)


def _is_there(path: str) -> bool:
    return is_address(path) or Path(path).exists()


def _argument(logger: Namespace) -> str | None:
    """That tells which run a logger writes into."""
    if _is_a(logger, MLFlowLogger):
        return "run_id"
    return "version" if has_folders(logger) else None


def _is_chosen(logger: Namespace) -> bool:
    """Whether somebody typed which run that is."""
    if _is_a(logger, WandbLogger):
        return id_of_wandb(logger) is not None
    return logger.init_args.get(_argument(logger)) is not None


def _fits(logger: Namespace, known: dict[str, Any]) -> bool:
    """Whether a run is of the project, or the experiment, that is chosen; MLflow tells a number in place of a name."""
    name = project_of(logger) or logger.init_args.get("name")
    return _is_a(logger, MLFlowLogger) or str(known.get("name")) == (name or "")


def _is_a(logger: Namespace, *kinds: type[Logger]) -> bool:
    kind = kind_of(logger)
    return kind is not None and issubclass(kind, kinds)
