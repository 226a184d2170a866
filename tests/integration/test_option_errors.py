"""Typing errors: one message that names the option, what was expected, and the name that was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_lightning.errors import InputError

Simclr = Callable[..., None]

TYPED = [
    ("--model.temprature 0.1", "SimCLR has no option --model.temprature: did you mean --model.loss.temperature?"),
    ("--model.loss.temprature 1", "NTXentLoss has no option --model.loss.temprature: did you mean --model.loss.temp"),
    ("--model.encodr resnet18", "did you mean --model.encoder?"),
    ("--data.views.sise 32", "ViewRecipe has no option --data.views.sise: did you mean --data.views.size?"),
    ("--data.bathc_size 32", "did you mean --data.batch_size?"),
    ("--data.crop_area [0.2,1]", "did you mean --data.views.crop_area?"),
    ("--data.normalise picture", "did you mean --data.views.normalize?"),
    ("--trainer.max_epoch 3", "There is no option --trainer.max_epoch: did you mean --trainer.max_epochs"),
    ("--trainer.device 2", "did you mean --trainer.devices"),
    ("--max_epochs 3", "There is no option --max_epochs: did you mean --trainer.max_epochs"),
    ("--batch_size 3", "There is no option --batch_size: did you mean --data.batch_size?"),
    ("--modle SimCLR", "did you mean --model?"),
    ("--trainer.max_epochs", "--trainer.max_epochs needs a value"),
    ("stray", "'stray' belongs to no option: options begin with --, and a value with spaces stands in quotes"),
    (
        "--model.projection_dim zero",
        "--model.projection_dim is 'zero': expected an integer. `simclr fit --model.help Sim",
    ),
    ("--model.learning_rate fast", "--model.learning_rate is 'fast': expected a number"),
    ("--model.zero_init_residual maybe", "expected true or false"),
    ("--model.optimizer adam", "--model.optimizer is 'adam': expected lars, sgd or adamw"),
    (
        "--model.loss.temperature cold",
        "--model.loss.temperature is 'cold': expected a number. `simclr fit --model.loss",
    ),
    ("--data.batch_size 12.5", "--data.batch_size is '12.5': expected an integer"),
    ("--data.views.crop_area 0.2", "--data.views.crop_area is '0.2': expected tuple[float, float] or null"),
    ("--data.on_bad_picture ignore", "expected raise or skip"),
    ("--trainer.precision bf17", "--trainer.precision is 'bf17': expected 64, 32, 16, "),
    ("--trainer.max_epochs many", "--trainer.max_epochs is 'many': expected an integer or null"),
    ("--seed_everything x", "--seed_everything is 'x': expected true or false or an integer"),
    (
        "--model NoSuch",
        "--model is 'NoSuch', and no LightningModule of this name is known. One of your own is named by",
    ),
    ("--model SimClr", "did you mean SimCLR"),
    ("--model.loss NTXent", "no ContrastiveLoss of this name is known: did you mean NTXentLoss?"),
    ("--data NoSuch", "no LightningDataModule of this name is known"),
    ("--trainer.callbacks LarsWarmup", "no Callback of this name is known: did you mean LARSWarmup?"),
    ("--trainer.logger WandBLogger", "no Logger of this name is known: did you mean WandbLogger"),
    ("--trainer.callbacks LARSWarmup --trainer.callbacks.warmup_epoch 3", "LARSWarmup has no option --trainer.callb"),
]
FILES = [
    ("model: {init_args: {temprature: 1}}", "did you mean --model.loss.temperature?"),
    ("model: {temprature: 1}", "did you mean --model.loss.temperature?"),
    ("model: {class_path: simclr_lightning.SimCLRR}", "has no attribute 'SimCLRR': did you mean SimCLR?"),
    ("trainer: {max_epoch: 3}", "did you mean --trainer.max_epochs"),
    ("trianer: {max_epochs: 3}", "There is no option --trianer.max_epochs: did you mean --trainer.max_epochs"),
    ("data: {class_path: SimCLRDataModule, init_args: {views: {crop_area: 0.2}}}", "--data.views.crop_area is '0.2'"),
    ("trainer: {callbacks: [{class_path: LARSWarmup, init_args: {warmup_epoch: 3}}]}", "did you mean --trainer.callba"),
    ("trainer: {max_epochs: [3}", "own.yaml is no YAML: while parsing a flow sequence"),
    ("just words", "own.yaml has no keys such as model:, data: and trainer:"),
]
COMMANDS = [
    ("embed --outptu x.npz", "There is no option --outptu: did you mean --output? `simclr embed --help` lists all"),
    ("embed", "`simclr embed` needs --ckpt_path and --output: `simclr embed --help` explains"),
    ("describe", "`simclr describe` needs ROOT"),
    ("describe photos --sampel 3", "did you mean --sample?"),
    ("pack photos", "`simclr pack` needs OUTPUT"),
    ("pack photos packed --root x", "There is no option --root x: root is typed without a name, `simclr pack ROOT`"),
    ("describe photos --json maybe", "'maybe' behind --json belongs to no option"),
    ("export --ckpt_path x --format onyx", "--format is 'onyx': expected torchvision, timm, torchscript, torch_export"),
    ("ablate --root photos --epochs few", "--epochs is 'few': expected an integer"),
    ("recipes --foldr x", "did you mean --folder?"),
    ("evaluate --protocol knn", "did you mean --protocols?"),
]


@pytest.fixture
def refused(simclr: Simclr) -> Callable[[list[str], str], None]:
    """Runs a command that must be refused, with a message of at most three lines."""

    def run(words: list[str], message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)) as error:
            simclr(*words)
        assert len(str(error.value).splitlines()) <= 3
        assert len(str(error.value)) < 400
        assert not Path("runs").exists()

    return run


@pytest.mark.parametrize(("typed", "message"), TYPED)
def test_options_of_fit(typed: str, message: str, refused: Callable[[list[str], str], None]) -> None:
    refused(["fit", *typed.split()], message)


@pytest.mark.parametrize(("text", "message"), FILES)
def test_files(text: str, message: str, refused: Callable[[list[str], str], None]) -> None:
    Path("own.yaml").write_text(text)
    refused(["fit", "--config", "own.yaml"], message)


@pytest.mark.parametrize(("typed", "message"), COMMANDS)
def test_other_commands(typed: str, message: str, refused: Callable[[list[str], str], None]) -> None:
    refused(typed.split(), message)
