"""What was asked for, against the checkpoint that a run goes on from and the data: before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from simclr_lightning.checkpoints import Checkpoint, is_address
from simclr_lightning.classifiers import Classifier
from simclr_lightning.errors import InputError, check_exists, check_number
from simclr_lightning.evaluation.asked import check_judgement
from simclr_lightning.models import resolve_stem
from simclr_lightning.simclr import SimCLR
from simclr_lightning.trainer_checks import check_trainer

FROM_THE_DATA = ("image_size", "in_channels")
"""Arguments of the model that the data tell, whatever is typed."""

_ARCHITECTURE = (
    *("encoder", "width", "stem", "projection_layers", "projection_hidden", "projection_dim", "head_layers"),
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


def check_settings(chosen: Namespace, subcommand: str) -> None:
    """Check what can be checked without data and without a model.

    Args:
        chosen: settings of the sub-command.
        subcommand: of ``simclr``.

    Raises:
        InputError: if a setting of the Trainer or an argument of one of our callbacks is out of range; or if a model
            of ours would be judged as it begins, at random.

    Example:
        >>> check_settings(Namespace(trainer=Namespace(max_epochs=0)), "fit")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: max_epochs is 0: choose -1 (no limit), or 1 or more \
(--trainer.max_epochs 100).
    """
    check_trainer(chosen.trainer)
    callbacks = chosen.trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if callback.class_path.startswith("simclr_lightning."):
            arguments = callback.get("init_args") or {}
            resolve_name(callback.class_path)(**dict(arguments.items()))  # complains of its arguments
    check_number("save_every_minutes", chosen.get("save_every_minutes"), "save_every_minutes 10", above=0)
    _check_files(chosen)
    if subcommand in ("evaluate", "label_curve"):
        check_judgement(chosen)
    if subcommand in ("validate", "test", "predict") and chosen.get("ckpt_path") is None:
        kind = resolve_name(chosen.model.class_path)
        if issubclass(kind, SimCLR | Classifier) and not chosen.model.init_args.get("init_from"):
            raise InputError(
                f"`simclr {subcommand}` without a checkpoint would judge random weights: name the one of a run, or the "
                "newest",
                "ckpt_path runs/NAME/VERSION/checkpoints/last.ckpt",
                "ckpt_path last",
            )


def _check_files(chosen: Namespace) -> None:
    """Files and folders that are read only when a model is there."""
    model, data = (chosen[part].get("init_args") or {} if part in chosen else {} for part in ("model", "data"))
    named = {f"data.{name}": data.get(name) for name in ("pairs", "probe", "labels", "label_list")}
    named |= {"model.init_from": model.get("init_from"), "model.checkpoint": model.get("checkpoint")}
    named |= {f"others.{name}": path for name, path in (chosen.get("others") or {}).items()}
    for option, path in named.items():
        if isinstance(path, str) and path not in ("torchvision", "timm") and not is_address(path):
            check_exists(option, path)


def typed_for_the_data(words: Iterable[str], files: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Arguments of the model that are taken from the data, but were typed.

    Args:
        words: of the command line.
        files: contents of the configurations.

    Example:
        >>> typed_for_the_data(["fit", "--model.in_channels", "3"], [])
        {'in_channels': '3'}
    """
    found: dict[str, str] = {}
    for file in files:
        model = file.get("model")
        arguments = {**model, **(model.get("init_args") or {})} if isinstance(model, dict) else {}
        found |= {name: str(arguments[name]) for name in FROM_THE_DATA if arguments.get(name) is not None}
    for word, after in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        for name in FROM_THE_DATA:
            if option in (f"--model.{name}", f"--model.init_args.{name}"):
                found[name] = value if equals else after
    return found


def check_typed_for_the_data(name: str, typed: Mapping[str, str], told: int | None) -> int | None:
    """What the data tell, if nothing else was typed.

    Raises:
        InputError: if it was.

    Example:
        >>> check_typed_for_the_data("in_channels", {"in_channels": "3"}, 1)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: model.in_channels is 3, and the data have 1: leave it out, since they \
tell it.
    """
    if typed.get(name, "null") not in ("null", "None", str(told)):
        other = " (--data.views.size is what decides it)" if name == "image_size" else ""
        raise InputError(
            f"model.{name} is {typed[name]}, and the data have {told}: leave it out, since they tell it{other}."
        )
    return told


def check_goes_on(chosen: Namespace, checkpoint: Checkpoint, *, asked: bool) -> None:
    """Check that a training can go on from a checkpoint, and that there is something left to do.

    Args:
        chosen: settings of ``fit``.
        checkpoint: from which it goes on.
        asked: whether a resumption was asked for, which a finished run cannot give; where it is automatic, as in a job
            that was requeued, the run ends at once, and well.

    Raises:
        InputError: if settings of the architecture changed, or the run is finished.

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
    _check_unfinished(chosen.trainer, checkpoint, asked=asked)


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


def tell_changes(checkpoint: Checkpoint, model: LightningModule, data: Any) -> None:
    """Warn of settings with which a run goes on, but did not begin: which of them matter, and which do not.

    Args:
        checkpoint: from which it goes on.
        model: that is trained.
        data: the data module, or None.

    Example:
        >>> began = {"hyper_parameters": {"learning_rate": 0.3}, "state_dict": {}}
        >>> tell_changes(Checkpoint("last.ckpt", began), SimCLR("resnet8", learning_rate=0.3), None)
    """
    pairs = (("model", checkpoint.hyperparameters, model), ("data", checkpoint.data, data))
    matter, others = list[str](), list[str]()
    for part, told, module in pairs:
        now = dict(getattr(module, "hparams", {}) or {})
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
