"""LightningCLI with SimCLR and its data as defaults: the commands of ``simclr`` that need a model and pictures."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import TorchCheckpointIO

import simclr_lightning
from simclr_lightning.agreement import Agreement
from simclr_lightning.before_start import check_settings, check_typed_for_the_data, typed_for_the_data
from simclr_lightning.callbacks.continue_metrics import ContinueMetrics
from simclr_lightning.callbacks.dry_run import dry_settings
from simclr_lightning.callbacks.other_numbers import OtherNumbers
from simclr_lightning.callbacks.run_folder import beside_the_training
from simclr_lightning.callbacks.tracked_runs import TrackedRuns
from simclr_lightning.checkpoints import Checkpoint, DurableCheckpointIO, explain_misfits, read_checkpoint
from simclr_lightning.command_line import put_back, with_stand_ins
from simclr_lightning.compat import CommandLine, read_bar_at_logged_steps
from simclr_lightning.completion.next_words import candidates
from simclr_lightning.config_files import check_config_files
from simclr_lightning.data import PictureDataModule
from simclr_lightning.default_callbacks import chosen_callbacks
from simclr_lightning.errors import InputError
from simclr_lightning.evaluation import SimCLRTrainer
from simclr_lightning.losses import build_loss
from simclr_lightning.losses.base import UnknownLoss
from simclr_lightning.option_errors import option_error
from simclr_lightning.resuming import NAMED, check_folder_is_free, resolve
from simclr_lightning.run_config import SaveRunConfig
from simclr_lightning.short_help import short_help
from simclr_lightning.trackers import has_name
from simclr_lightning.unchanged import SameData, check_goes_on, tell_changes

DEFAULTS: dict[str, Any] = {
    "model": {
        "class_path": "simclr_lightning.SimCLR",
        "init_args": {"loss": {"class_path": "simclr_lightning.losses.NTXentLoss"}},
    },
    "data": {"class_path": "simclr_lightning.SimCLRDataModule"},
}
"""What is trained, on what, where nothing is typed."""

_HELP = ("--help", "-h")
_PRINT = "--print_config"
_NAMES_OF_FILES = {
    f"--data.{prefix}{name}": name != "root"
    for prefix in ("", "init_args.")
    for name in ("root", "probe", "labels", "label_list")
}


class SimCLRCLI(CommandLine):
    """LightningCLI whose defaults are ours and whose checkpoints never overrule what was typed."""

    _checkpoint: Checkpoint | None = None

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=SimCLRTrainer,
            trainer_defaults={
                "logger": {
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": "runs", "name": "simclr"},
                },
                "enable_autolog_hparams": False,  # SaveRunConfig logs the whole configuration instead
                "enable_model_summary": False,  # RunSummary has what is known before a batch
            },
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # it would replace parameter groups and the schedule
            seed_everything_default=0,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={
                "version": simclr_lightning.__version__,
                "exit_on_error": False,  # option_error says it in three lines
                "allow_abbrev": False,  # --trainer.max_epoch is a typing error
            },
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's sub-commands, and those of ``SimCLRTrainer``."""
        given = {"model", "datamodule"}
        return {**LightningCLI.subcommands(), "evaluate": given, "label_curve": given}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make SimCLR and SimCLRDataModule the defaults and tell the model what only the data know."""
        parser.set_defaults(DEFAULTS)
        parser.add_argument(
            "--sync_batchnorm",
            type=bool,
            default=True,
            help="Share BatchNorm statistics where several CUDA devices train together, as in the paper.",
        )
        parser.add_argument(
            "--auto_resume",
            type=bool | None,
            default=None,
            help="Go on from the newest checkpoint of this run (--trainer.logger.version) that can be read, or begin "
            "where there is none: one command starts a run and goes on with it. By default so in a requeued job.",
        )
        parser.add_argument(
            "--save_every_minutes",
            type=float | None,
            default=None,
            help="Write a checkpoint so often, too, within epochs; one is written at the end of every epoch.",
        )
        parser.add_argument(
            "--dry_run",
            type=bool,
            default=False,
            help="Run a few steps of fit, and tell their time and memory and what a run would write; write nothing.",
        )
        for name, tell in (("image_size", _view_size), ("in_channels", _in_channels)):
            told = partial(self._told_by_data, name, tell)
            parser.link_arguments("data", f"model.init_args.{name}", compute_fn=told, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse twice: the first time finds the classes and the checkpoint that the defaults depend on.

        The defaults of our classes would otherwise become those of the classes that are chosen instead, whose arguments
        have the same names. The hyperparameters of a named checkpoint replace defaults, and nothing else.
        """
        typed = sys.argv[1:] if args is None else args
        if isinstance(typed, list) and len(typed) in (2, 3) and typed[1] in _HELP and typed[0] in self.subcommands():
            if len(typed) == 2:
                print(short_help(typed[0], self.parser_of(typed[0])))
                raise SystemExit(0)
            args = typed[:2] if typed[2] == "all" else args
        try:
            self._parse_twice(parser, args)
        except ArgumentError as error:
            words = sys.argv[1:] if args is None else [str(word) for word in args] if isinstance(args, list) else []
            command = next((word for word in words if word in self.subcommands()), "fit")
            usage = re.findall(r"--([\w.]+)", self.parser_of(command).format_usage())
            options = [*usage, *(word.removeprefix("--") for word in candidates([command, "--"]))]
            raise option_error(str(error), command, options, words=words) from error

    def _parse_twice(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        words = sys.argv[1:] if args is None else args
        typed = words if isinstance(words, list) else []
        printed = any(word.startswith(_PRINT) for word in typed)
        names: dict[str, str] = {}
        if typed and not printed:
            changed, names = with_stand_ins(typed, _NAMES_OF_FILES)
            args = changed if names else args
        first = [word for word in typed if not word.startswith(_PRINT)] if printed else args  # else it exits too early
        files = check_config_files([str(word) for word in typed]).values()
        self._typed = typed_for_the_data([str(word) for word in typed], files)
        super().parse_arguments(parser, first)
        chosen = self._resolved()
        if isinstance(chosen.data.init_args.get("views"), list) and any("--data.views." in word for word in typed):
            raise InputError("data.views is a list of recipes: change the list, no field of one can be typed.")
        model = self._model_defaults(chosen, printed)
        defaults = {"model": model, "data": {"class_path": chosen.data.class_path}}
        if defaults != DEFAULTS or printed:
            self.parser_of(self.config.subcommand).set_defaults(defaults)
            super().parse_arguments(parser, args)
            chosen = self._resolved()
        put_back(chosen.data.init_args, names)
        if not printed:
            check_settings(chosen, self.config.subcommand)
            if self.config.subcommand == "fit":
                if self._checkpoint is not None:
                    check_goes_on(chosen, self._checkpoint, asked=self._asked)
                check_folder_is_free(chosen)

    def _told_by_data(self, name: str, tell: Callable[[LightningDataModule], int | None], data: Any) -> int | None:
        return check_typed_for_the_data(name, self._typed, tell(data))

    def _resolved(self) -> Namespace:
        """Settings of the sub-command, with the checkpoint and the folder from which, and in which, a run goes on."""
        chosen = self.config[self.config.subcommand]
        self._asked = chosen.get("ckpt_path") is not None
        resolve(chosen, self.config.subcommand)
        return cast("Namespace", chosen)

    def before_instantiate_classes(self) -> None:
        """Let the seed of the data follow that of everything else, where it was not typed."""
        config = self.config[self.config.subcommand]
        if config.data.init_args.get("seed", 0) is None and issubclass(
            pkgutil.resolve_name(config.data.class_path), PictureDataModule
        ):
            config.data.init_args["seed"] = int(self.chosen(self.config, "seed_everything") or 0)

    def _model_defaults(self, chosen: Namespace, printed: bool) -> dict[str, Any]:
        """Class path and arguments that apply where nothing is typed."""
        arguments: dict[str, Any] = {}
        if "loss" in chosen.model.init_args:
            arguments["loss"] = chosen.model.init_args.loss and {"class_path": chosen.model.init_args.loss.class_path}
        path = chosen.get("ckpt_path")
        there = path is not None and (not printed or Path(path).exists())
        if not there or path in NAMED:
            return {"class_path": chosen.model.class_path, "init_args": arguments}
        self._checkpoint = checkpoint = read_checkpoint(path, in_pieces=True)  # kept: read once
        wrote = checkpoint.class_path or "simclr_lightning.SimCLR"
        package, _, name = wrote.rpartition(".")
        if chosen.model.class_path.rpartition(".")[2] == name:
            wrote = chosen.model.class_path
        elif package.partition(".")[0] != "simclr_lightning" or not hasattr(simclr_lightning, name):
            raise InputError(
                f"The checkpoint {path} is of the class {wrote}, and nothing is imported because a file names it: "
                f"type --model {wrote}, or a --config that does."
            )
        if wrote != chosen.model.class_path:
            arguments = {}  # those of another class
        linked = ("image_size", "in_channels")
        told = checkpoint.hyperparameters.items()
        arguments |= {name: value for name, value in told if name not in linked and not name.startswith("_")}
        if arguments.get("loss") is not None:
            arguments["loss"] = self._loss_default(arguments["loss"], chosen.model.init_args.get("loss"))
        return {"class_path": wrote, "init_args": arguments}

    def _loss_default(self, told: dict[str, Any], chosen: Any) -> dict[str, Any]:
        """What a checkpoint tells of its loss, unless another one was chosen."""
        if not isinstance(told, dict) or not isinstance(told.get("class_path"), str):
            path = self._checkpoint and self._checkpoint.path
            raise InputError(f"The checkpoint {path} tells of a loss {told!r}: type another one, --model.loss")
        known = build_loss(told)
        default = DEFAULTS["model"]["init_args"]["loss"]["class_path"]
        if chosen is not None and chosen.class_path != default:
            if pkgutil.resolve_name(chosen.class_path) is not type(known):
                return {"class_path": chosen.class_path}
        elif isinstance(known, UnknownLoss):
            if self.config.subcommand == "fit":
                raise InputError(
                    f"The loss of the checkpoint is {told['class_path']}, and nothing is imported because a file names "
                    f"it: type --model.loss {told['class_path']}, or a --config that does."
                )
            unknown = {"name": told["class_path"], "arguments": told.get("init_args", {})}
            return {"class_path": "simclr_lightning.losses.base.UnknownLoss", "init_args": unknown}
        return told

    def instantiate_classes(self) -> None:
        """Instantiate; what a constructor complains of is not buried in the parser's list of types that did not fit."""
        self.leave_out_where_resumed("init_from")
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__ or cause.__context__
            raise (cause or error) from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Trainer with the callbacks that nobody should have to ask for, where none of their type was given."""
        config, dry = self.chosen(self.config_init, "trainer"), self.chosen(self.config, "dry_run")
        if dry:
            config, self.save_config_callback = dry_settings(config), None
            kwargs |= {name: value for name, value in config.items() if name != "callbacks"}
        options = {name: self.chosen(self.config, name) for name in ("sync_batchnorm", "save_every_minutes")}
        told = {**config, "fast_dev_run": True} if dry else config  # nothing is drawn
        callbacks = chosen_callbacks(str(self.subcommand), self.model, told, **options)
        if self.subcommand == "fit" and config["benchmark"] is None and not config["deterministic"]:
            kwargs["benchmark"] = True  # of cuDNN's algorithms: the shapes of a training are constant
        trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        read_bar_at_logged_steps(trainer)  # whosever module it trains
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nobody asked for another one
            trainer.strategy.checkpoint_io = DurableCheckpointIO()
        explain_misfits(trainer)
        if self.subcommand == "fit" and not config["fast_dev_run"]:
            tracked = TrackedRuns(has_name(self.config[self.config.subcommand]))
            first = [tracked, OtherNumbers(), ContinueMetrics(trainer.loggers), SameData()]  # what refuses, first
            cast("Any", trainer).callbacks[:0] = first
        if self.subcommand == "fit":
            seed = self.chosen(self.config, "seed_everything")
            cast("Any", trainer).callbacks.insert(0, Agreement({"seed_everything": seed}))
            if self._checkpoint is not None:
                tell_changes(self._checkpoint, self.model, self.datamodule, config)
        if self.subcommand in ("validate", "test", "predict"):
            trainer.loggers = [beside_the_training(logger, self.subcommand) for logger in trainer.loggers]
        return trainer


def _view_size(data: LightningDataModule) -> int | None:
    """Side of the views; None where another project's data module does not tell."""
    recipe = getattr(data, "recipe", None)
    return None if recipe is None else cast("int", recipe.size)


def _in_channels(data: LightningDataModule) -> int:
    """Channels of the pictures; 3 where another project's data module does not tell."""
    return cast("int", getattr(data, "in_channels", 3))
