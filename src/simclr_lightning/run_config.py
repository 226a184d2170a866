"""The configuration of a run, in its folder, and how it was started."""

from __future__ import annotations

import platform
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger, MLFlowLogger

from simclr_lightning.callbacks import run_folder
from simclr_lightning.callbacks.run_folder import unused_name
from simclr_lightning.classifiers import Classifier
from simclr_lightning.command_line import typed_command
from simclr_lightning.evaluation.records import package_versions, write_json


class SaveRunConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's own folder, whatever the logger, and hands it to the loggers.

    It does so when nothing can be refused any more: all is restored, and training begins.

    A later run in the same folder (one that is resumed under its W&B id) writes config-2.yaml, and so on. Beside it,
    started.json (started-2.json) tells when and by which command, with which packages, and which options are not their
    defaults: no later command can find that out.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder, on every process."""
        self._folder = run_folder(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, on rank zero."""
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write and log the configuration before training."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for argument in ("ckpt_path", "weights_only"):  # of fit alone: the file serves every sub-command
            if config[argument] is None:
                del config[argument]
        if isinstance(pl_module, Classifier):  # it has learned these, and a checkpoint of it will tell them
            for argument in ("num_classes", "architecture"):
                if config["model"]["init_args"].get(argument) is None:
                    config["model"]["init_args"].pop(argument, None)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = unused_name(self._folder / self.config_filename)
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        self._tell_start(file)
        for logger in trainer.loggers:
            if not _is_told(logger):
                logger.log_hyperparams(config)

    def _tell_start(self, file: Path) -> None:
        started = {
            "date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
            "command": typed_command("fit"),
            "versions": {"python": platform.python_version(), **package_versions()},
            "changed": yaml.safe_load(self.parser.dump(self.config, skip_default=True)),
        }
        write_json(file.with_name(file.name.replace("config", "started", 1)).with_suffix(".json"), started)


def _is_told(logger: Logger) -> bool:
    """Whether a run of MLflow that goes on has its parameters already, of which none may be changed."""
    if not isinstance(logger, MLFlowLogger):
        return False
    return bool(cast("Any", logger.experiment).get_run(logger.run_id).data.params)
