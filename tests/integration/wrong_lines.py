"""Wrong command lines, made by rule from the options that the commands have: for every number one that is out of range,
for every choice one that there is not, for every file one that is missing.

What a value may be is told here once more, on purpose: in words of its own, and not in those of the code.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from lightning.pytorch import Trainer

from simclr_lightning import (
    FineTune,
    LabelledDataModule,
    LinearEvaluation,
    SimCLR,
    SimCLRDataModule,
    Supervised,
    ViewRecipe,
    callbacks,
    losses,
)
from simclr_lightning.ablation import ablate
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.describe import describe
from simclr_lightning.embed import embed_pictures
from simclr_lightning.encoder_list import list_encoders
from simclr_lightning.evaluation import evaluate, label_curve
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.export import export_encoder

HUGE = 10**20


class Wrong(NamedTuple):
    """A command line that must be refused.

    Attributes:
        words: after ``simclr``.
        option: that the message must name, by its last part.
        value: that it must name, as it was typed.
    """

    words: tuple[str, ...]
    option: str
    value: str

    def __str__(self) -> str:
        return " ".join(self.words)


class Options(NamedTuple):
    """Options that are arguments of one function or class.

    Attributes:
        of: the function or class.
        prefix: of its options.
        before: words that choose it.
        commands: which have these options.
    """

    of: Callable[..., Any]
    prefix: str
    before: tuple[str, ...] = ()
    commands: tuple[str, ...] = ("fit",)


TRAINED = ("fit", "fit", "validate", "evaluate", "label_curve")
CLASSIFIED = ("--data", "LabelledDataModule", "--model")
LOSSES = [getattr(losses, name) for name in losses.__all__ if name.endswith("NTXent") or name == "NTXentLoss"]
OURS = [getattr(callbacks, name) for name in callbacks.__all__]
CALLBACKS = [kind for kind in OURS if isinstance(kind, type) and len(inspect.signature(kind).parameters) > 0]

ALL = [
    Options(SimCLR, "--model.", (), TRAINED),
    Options(SimCLRDataModule, "--data.", (), TRAINED),
    Options(ViewRecipe, "--data.views.", (), TRAINED),
    Options(Trainer, "--trainer.", (), TRAINED),
    *(Options(kind, "--model.loss.", ("--model.loss", kind.__name__)) for kind in LOSSES),
    *(Options(kind, "--trainer.callbacks.", ("--trainer.callbacks", kind.__name__)) for kind in CALLBACKS),
    *(Options(kind, "--model.", (*CLASSIFIED, kind.__name__)) for kind in (LinearEvaluation, FineTune, Supervised)),
    Options(LabelledDataModule, "--data.", (*CLASSIFIED, "Supervised")),
    Options(evaluate, "--", (), ("evaluate",)),
    Options(label_curve, "--", (), ("label_curve",)),
    Options(FineTuneRecipe, "--finetune.", (), ("evaluate", "label_curve")),
    Options(embed_pictures, "--", ("--ckpt_path", "small.ckpt", "--output", "f.npz", "--root", "photos"), ("embed",)),
    Options(export_encoder, "--", ("--ckpt_path", "small.ckpt", "--format", "torchscript"), ("export",)),
    Options(ablate, "--", ("--root", "photos"), ("ablate",)),
    Options(describe, "--", ("photos",), ("describe",)),
    Options(pack_pictures, "--", ("photos", "packed"), ("pack",)),
    Options(list_encoders, "--", (), ("models",)),
]

# Numbers that look wrong by rule, and are not.
RIGHT = {
    "max_epochs": {"-1", str(HUGE)},
    "max_steps": {"-1", str(HUGE)},
    "num_sanity_val_steps": {"-1", str(HUGE)},
    "devices": {"-1"},
    "limit": {"0"},
    "EmbeddingPictures.queries": {"0"},
    "EpochLines.minutes": {"0"},
}
# Sizes that nothing but a machine's memory bounds, or where more is the same as all.
UNBOUNDED = {
    *("min_epochs", "min_steps", "limit_train_batches", "limit_val_batches", "limit_test_batches"),
    *("limit_predict_batches", "overfit_batches", "val_check_interval", "check_val_every_n_epoch", "fast_dev_run"),
    *("log_every_n_steps", "accumulate_grad_batches", "reload_dataloaders_every_n_epochs", "gradient_clip_val"),
    *(
        "every_n_epochs",
        "every_n_steps",
        "micro_batch_size",
        "warmup_steps",
        "num_pictures",
        "pictures",
        "bank",
        "sample",
    ),
    *("queries", "k", "epochs", "limit", "chunk_window", "steps", "batch_size"),
}
# Numbers of which 0 is too few.
POSITIVE = {
    *("width", "image_size", "in_channels", "projection_dim", "projection_hidden", "learning_rate", "micro_batch_size"),
    *("trust_coefficient", "temperature", "batch_size", "label_fraction", "max_megapixels", "prefetch_factor", "size"),
    *("eval_size", "eval_crop", "count", "chunk_window", "num_nodes", "devices", "limit_train_batches", "max_steps"),
    *("max_epochs", "check_val_every_n_epoch", "val_check_interval", "accumulate_grad_batches"),
    *("every_n_epochs", "every_n_steps", "bank", "queries", "k", "num_pictures", "pictures", "minutes", "draws"),
    *("num_classes", "epochs", "steps", "seeds", "chunk_mib", "start", "end", "pool_grid"),
}
# Numbers that are shares, or otherwise bounded above.
BOUNDED = {
    "momentum": "1.5",
    "val_fraction": "1",
    "label_fraction": "1.5",
    "max_bad_share": "2",
    "limit_train_batches": "1.5",
    "limit_val_batches": "1.5",
    "limit_test_batches": "1.5",
    "limit_predict_batches": "1.5",
    "overfit_batches": "1.5",
    "val_check_interval": "1.5",
    "tau_plus": "1",
    "projection_layers": "9",
    "head_layers": "9",
    "pool_grid": "8",
    "until": "1.5",
    "rotation": "200",
    "eval_crop": "1.5",
    "num_workers": "10000",
    "devices": "10000",
    **dict.fromkeys(("crop", "flip", "vertical_flip", "rotate90", "jitter", "grey", "blur"), "1.5"),
}
FILES = {"root", "pairs", "probe", "labels", "label_list", "init_from", "ckpt_path", "checkpoint"}
SKIPPED = {"trainer", "model", "datamodule", "self", "accelerator", "strategy", "profiler", "others", "max_time"}


def lines() -> list[Wrong]:
    """All of them, each option at one of the commands that have it."""
    return [wrong for number, options in enumerate(ALL) for wrong in _of(options, number)]


def as_file(wrong: Wrong) -> tuple[str, ...] | None:
    """The same in a configuration: option and YAML text; None where the option is of a class that is typed with it."""
    *first, option, value = wrong.words
    part, _, name = option.removeprefix("--").partition(".")
    if wrong.words[0] != "fit" or len(first) > 1 or part not in ("model", "data", "trainer"):
        return None
    inner = f"{name}: {value or repr('')}"
    if part == "data" and name.startswith("views."):
        inner = f"views: {{{name.removeprefix('views.')}: {value or repr('')}}}"
    return ("fit", f"{part}: {{{inner}}}" if part == "trainer" else f"{part}: {{init_args: {{{inner}}}}}")


def _of(options: Options, start: int) -> Iterator[Wrong]:
    made: Any = inspect.getattr_static(options.of, "__init__") if isinstance(options.of, type) else options.of
    hints = get_type_hints(made)
    for number, (name, parameter) in enumerate(inspect.signature(options.of).parameters.items(), start):
        if name in SKIPPED or parameter.kind is parameter.VAR_KEYWORD or f"--{name}" in options.before:
            continue
        command = options.commands[number % len(options.commands)] if name != "init_from" else "fit"  # of no checkpoint
        right = RIGHT.get(f"{options.of.__name__}.{name}", ())
        for value in (value for value in wrong_values(name, hints.get(name, str)) if value not in right):
            first = (command, *options.before)
            needed = ("--ckpt_path", "small.ckpt") if command in ("validate", "test", "evaluate", "label_curve") else ()
            yield Wrong((*first, *needed, f"{options.prefix}{name}", value), name, value)


def wrong_values(name: str, hint: Any) -> list[str]:
    kinds = set(_kinds(hint))
    values: list[str] = []
    if float in kinds:
        values += ["nan", "inf", "-1"]
    elif int in kinds:
        values += ["-1"]
    if int in kinds and float not in kinds and name not in UNBOUNDED:
        values += [str(HUGE)]
    if {int, float} & kinds and not {tuple, list} & kinds:
        values += ["0"] * (name in POSITIVE) + [BOUNDED[name] for own in (name,) if own in BOUNDED]
        values += [] if str in kinds else ["", "[1, 2]"]
    elif kinds <= {bool, types.NoneType}:
        values += ["maybe"]
    elif {tuple, list} & kinds and str not in kinds:
        values += ["word"] if name != "devices" else []
    if any(isinstance(kind, tuple) for kind in kinds) and str not in kinds:
        values += ["no_such"]
    if name in FILES:
        values += ["nowhere/at_all"]
    return [value for value in dict.fromkeys(values) if value not in RIGHT.get(name, ())]


def _kinds(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif origin is Literal:
        yield get_args(hint)
    elif isinstance(hint, typing.TypeAliasType) if hasattr(typing, "TypeAliasType") else False:
        yield from _kinds(hint.__value__)
    else:
        yield origin or hint
