"""Whether a run goes on as it began: its settings, its data, and what is left to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from simclr_lightning.checkpoints import Checkpoint, run_of
from simclr_lightning.checkpoints.content import BESIDE_PIECES, refuse_pieces
from simclr_lightning.errors import InputError
from simclr_lightning.models import resolve_stem

_ARCHITECTURE = (
    *("encoder", "width", "stem", "pool_grid"),
    *("projection_layers", "projection_hidden", "projection_dim", "head_layers"),
    "optimizer",  # whose state is in the checkpoint
)
_NO_MATTER = frozenset(
    (
        *("cache", "compile_encoder", "download", "init_from", "num_workers", "on_device", "persistent_workers"),
        *("pin_memory", "prefetch_factor", "checkpoint", "architecture", "image_size", "root", "scale"),
        "zero_init_residual",
    )
)
"""Settings that change nothing of what a run that goes on learns, and those that data and checkpoint decide."""


_OF_THE_TRAINING = (
    *("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "overfit_batches", "precision"),
)
"""Settings of the Trainer that matter."""


def check_goes_on(chosen: Namespace, checkpoint: Checkpoint, *, asked: bool) -> None:
    """Check that a training can go on from a checkpoint, and that there is something left to do.

    Args:
        chosen: settings of ``fit``.
        checkpoint: from which it goes on.
        asked: whether a resumption was asked for, which a finished run cannot give; where it is automatic, as in a job
            that was requeued, the run ends at once, and well.

    Raises:
        InputError: if settings of the architecture changed, the strategy cannot restore it, or the run is finished.

    Example:
        >>> done = {"loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 5}}}}, "global_step": 20}
        >>> chosen = Namespace(trainer=Namespace(max_epochs=5, max_steps=-1), model=Namespace(init_args=Namespace()))
        >>> check_goes_on(chosen, Checkpoint("last.ckpt", done), asked=True)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is nothing to do: the run of last.ckpt is finished, with 5 of 5 \
epochs. To train it further, type more (--trainer.max_epochs 10).
    """
    told, given = checkpoint.hyperparameters, dict((chosen.model.get("init_args") or {}).items())
    given["image_size"] = told.get("image_size")  # known when the data are
    for name in _ARCHITECTURE:
        if name in told and name in given and _plain(name, told) != _plain(name, given):
            raise InputError(
                f"{name} is {given[name]!r}, and the training of {checkpoint.path} began with {told[name]!r}, which "
                f"cannot change: leave --model.{name} out, or begin a training from its encoder (--model.init_from "
                f"{checkpoint.path})."
            )
    _check_strategy(chosen.trainer, checkpoint)
    _check_unfinished(chosen.trainer, checkpoint, asked=asked)


def _check_strategy(trainer: Any, checkpoint: Checkpoint) -> None:
    """FSDP2 finds the momenta of parameters by their names, or by their numbers where there is one group of them."""
    strategy = trainer.get("strategy")
    name = str(strategy if isinstance(strategy, str) else (strategy or {}).get("class_path"))
    path = Path(checkpoint.path)
    if name.rpartition(".")[2] != "ModelParallelStrategy":
        if path.name == BESIDE_PIECES:
            refuse_pieces(path.parent)
        return
    states = checkpoint.content.get("optimizer_states")
    for state in states if isinstance(states, list) else []:
        kept, groups = (dict(state).get(part) or () for part in ("state", "param_groups"))
        if len(groups) > 1 and any(isinstance(key, int) for key in kept):
            raise InputError(
                f"{checkpoint.path} is of a strategy that numbers its parameters, such as DDP, and FSDP2 would give "
                "their momenta to others: go on by that strategy (--trainer.strategy ddp), or begin a training from "
                f"its encoder (--model.init_from {checkpoint.path})."
            )


def _check_unfinished(trainer: Any, checkpoint: Checkpoint, *, asked: bool) -> None:
    loops = checkpoint.content.get("loops")
    loop = loops.get("fit_loop", {}) if isinstance(loops, dict) else {}
    try:
        epochs, steps = int(loop["epoch_progress"]["current"]["processed"]), int(checkpoint.content["global_step"])
    except (KeyError, TypeError, ValueError):
        return  # whoever restores it says what is missing
    for name, unit, done in (("max_epochs", "epochs", epochs), ("max_steps", "steps", steps)):
        most = trainer.get(name)
        if most is not None and 0 < most <= done:
            what = f"There is nothing to do: the run of {checkpoint.path} is finished, with {done:,} of {most:,} {unit}"
            if not asked:
                rank_zero_info(f"{what}.")
                return
            raise InputError(f"{what}. To train it further, type more", f"trainer.{name} {2 * done}")


def tell_changes(checkpoint: Checkpoint, model: LightningModule, data: Any, trainer: Mapping[str, Any]) -> None:
    """Warn of settings with which a run goes on, but did not begin: which of them matter, and which do not.

    Args:
        checkpoint: from which it goes on; beside it may be the configuration of its run.
        model: that is trained.
        data: the data module, or None.
        trainer: settings of the Trainer.

    Example:
        >>> began = {"hyper_parameters": {"learning_rate": 0.3}, "state_dict": {}}
        >>> from simclr_lightning import SimCLR
        >>> tell_changes(Checkpoint("last.ckpt", began), SimCLR("resnet8", learning_rate=0.3), None, {})
    """
    began = _trainer_of_run(checkpoint)
    trained = {name: trainer.get(name) for name in _OF_THE_TRAINING if name in began}
    parts = {"model": getattr(model, "hparams", {}), "data": getattr(data, "hparams", {}), "trainer": trained}
    matter, others = list[str](), list[str]()
    for part, told in (("model", checkpoint.hyperparameters), ("data", checkpoint.data), ("trainer", began)):
        now = dict(parts[part] or {})
        for name in sorted(told.keys() & now.keys()):
            if name.startswith("_") or _plain(name, told) == _plain(name, now):
                continue
            (others if name in _NO_MATTER else matter).extend(_differences(f"{part}.{name}", told[name], now[name]))
    if matter:
        rest = f" Of no matter: {', '.join(others)}." if others else ""
        rank_zero_warn(
            f"The training of {checkpoint.path} goes on otherwise than it began: {'; '.join(matter)}. Leave them out "
            f"to go on as it was.{rest}"
        )


def _trainer_of_run(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings of the Trainer by the configuration that the run began with; empty where there is none."""
    folder = run_of(checkpoint.path)
    try:
        content = None if folder is None else yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    found = content.get("trainer") if isinstance(content, dict) else None
    return {name: value for name, value in found.items() if name in _OF_THE_TRAINING} if isinstance(found, dict) else {}


class SameData(Callback):
    """Refuses to go on with other data than a training began with: other classes, or another number of pictures.

    Example:
        >>> SameData().state_dict()
        {}
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the data are."""
        checkpoint["trained_on"] = _contents(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare.

        Raises:
            InputError: if they are others.
        """
        told, now = checkpoint.get("trained_on") or {}, _contents(trainer)
        for name, words in (("pictures", "training pictures"), ("classes", "classes")):
            if told.get(name) is None or now.get(name) is None or told[name] == now[name]:
                continue
            before, after = (_number(value) for value in (told[name], now[name]))
            example = ""
            if isinstance(told[name], list):
                different = sorted(set(told[name]) ^ set(now[name]))[:3]
                example = f" ({', '.join(different)})" if different else " (in another order)"
            raise InputError(
                f"The training began with {before} {words}, and there are {after} now{example}: the order of the "
                "pictures would be another one. Name the data that it began with (--data.root), or begin a training "
                f"from its encoder (--model.init_from {trainer.ckpt_path})."
            )


def _contents(trainer: Trainer) -> dict[str, Any]:
    data = getattr(trainer, "datamodule", None)
    pictures, names = getattr(data, "num_pictures", None), getattr(data, "class_names", None)
    return {
        "pictures": pictures if isinstance(pictures, int) else None,
        "classes": None if names is None else [str(name) for name in names],
    }


def _number(value: Any) -> str:
    return f"{len(value) if isinstance(value, list) else value:,}"


def _plain(name: str, arguments: Mapping[str, Any]) -> Any:
    """A value as others of it can be compared with: a stem as it is resolved, tuples as lists."""
    value = arguments[name]
    if name == "stem" and arguments.get("image_size") is not None:
        return resolve_stem(value, arguments["image_size"])
    return _listed(value)


def _listed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return value


def _differences(name: str, told: Any, now: Any) -> list[str]:
    """What changed, down to the fields of dictionaries."""
    if isinstance(told, Mapping) and isinstance(now, Mapping) and told.keys() == now.keys():
        return [
            text
            for key in told
            if _listed(told[key]) != _listed(now[key])
            for text in _differences(f"{name}.{key}", told[key], now[key])
        ]
    return [f"{name} {now} (was {told})"]
