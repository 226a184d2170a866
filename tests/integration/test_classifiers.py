"""Classifiers on the command line: trained from a checkpoint of pre-training, tested from their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from simclr_lightning import FineTune, LabelledDataModule, LinearEvaluation, SimCLR
from simclr_lightning.checkpoints import load_encoder
from simclr_lightning.errors import InputError

Simclr = Callable[..., None]
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.label_fraction", "0.1"]
DIGITS = ["--data", "LabelledDataModule"]
TINY = "pretrained.ckpt"


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """Checkpoint of a tiny model, as the command line writes it."""
    model = SimCLR("resnet8", width=0.25, in_channels=1)
    origin = {"_class_path": "simclr_lightning.SimCLR", "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    content = {"state_dict": model.state_dict(), "hyper_parameters": {**origin, **model.hparams}}
    torch.save({**content, "pytorch-lightning_version": "2.6.0"}, tmp_path / TINY)
    return Path(TINY)


def test_linear_evaluation_is_run_resumed_and_tested(
    simclr: Simclr, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EXPERIMENTS / "quickstart_linear.yaml"
    watched = ["--trainer.check_val_every_n_epoch", "1"]
    simclr("fit", "--config", config, "--model.checkpoint", pretrained, *SHORT, *watched)
    run = Path("runs/quickstart-linear/version_0")
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert {path.name for path in run.glob("val_*")} == {"val_classes.csv", "val_confusion.png"}
    assert not (run / "pictures").exists()
    assert "val/top1" in (run / "metrics.csv").read_text()

    pretrained.unlink()  # the checkpoint stands alone
    LinearEvaluation.load_from_checkpoint(checkpoint, weights_only=True)
    assert load_encoder(checkpoint, SimCLR)(torch.rand(2, 1, 16, 16)).shape == (2, 64)
    simclr("test", "--config", run / "config.yaml", "--ckpt_path", checkpoint)
    assert "test/top1" in capsys.readouterr().out
    assert Path("runs/quickstart-linear/version_1/test_confusion.png").exists()
    simclr("fit", "--config", config, *SHORT, "--trainer.max_epochs", "2", "--ckpt_path", checkpoint)
    resumed = torch.load("runs/quickstart-linear/version_0/checkpoints/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 2  # one in each epoch


@pytest.mark.parametrize("name", ["finetune", "supervised"])
def test_the_others_are_run_tested_and_evaluated_too(
    simclr: Simclr, pretrained: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    start = ["--model.width", "0.25"] if name == "supervised" else ["--model.checkpoint", pretrained]
    simclr("fit", "--config", EXPERIMENTS / f"quickstart_{name}.yaml", *SHORT, *start)
    run = Path(f"runs/quickstart-{name}/version_0")
    assert not list(run.glob("val_*"))  # after one epoch nothing is validated yet
    pretrained.unlink()
    again = ["--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "last.ckpt"]
    simclr("test", *again)
    assert "test/top1" in capsys.readouterr().out
    simclr("evaluate", *again, "--protocols", "knn", "--data.label_fraction", "1")
    assert (run / "evaluation.json").exists()


def test_defaults_are_enough(
    simclr: Simclr, pretrained: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    short = [*SHORT, "--data.batch_size", "64", "--trainer.log_every_n_steps", "1"]
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        simclr("fit", "--model", "LinearEvaluation", "--model.checkpoint", pretrained, *DIGITS, *short)
    run = Path("runs/simclr/version_0")
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]["num_classes"] == 10
    assert "lr-SGD" in (run / "metrics.csv").read_text()
    summary = capsys.readouterr().out
    assert "of which 0 are warm-up" in summary
    assert "negatives" not in summary
    assert "LinearEvaluation trains 650 of" in caplog.text
    assert "on 143 labelled pictures of 10 classes. The encoder comes from pretrained.ckpt." in caplog.text


def test_a_checkpoint_from_python_is_tested_on_the_command_line(
    simclr: Simclr, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FineTune.of(SimCLR("resnet8", width=0.25, in_channels=1), head_layers=1)
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0)
    trainer.fit(model, LabelledDataModule())
    trainer.save_checkpoint("python.ckpt")
    simclr("test", *DIGITS, "--ckpt_path", "python.ckpt", "--trainer.accelerator", "cpu")
    assert "test/top1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "LinearEvaluation", *DIGITS], "--model.checkpoint runs/"),
        (["--model", "FineTune", *DIGITS, "--model.checkpoint", "typo.ckpt"], "--model.checkpoint runs/"),
        (
            ["--model", "FineTune", *DIGITS, "--model.checkpoint", TINY, "--model.head_layers", "3"],
            "2 layer(s)",
        ),
        (["--model", "LinearEvaluation", "--model.checkpoint", TINY], "--data LabelledDataModule"),
        (["--model", "Supervised", "--model.encoder", "resnet19", *DIGITS], "resnet18"),
        (["--model", "Supervised", *DIGITS, "--data.augmentation", "crop"], "crop_flip"),
    ],
)
@pytest.mark.usefixtures("pretrained")
def test_mistakes_say_what_to_type(simclr: Simclr, arguments: list[str], message: str) -> None:
    with pytest.raises((InputError, MisconfigurationException)) as error:
        simclr("fit", *arguments)
    assert message in str(error.value)


def test_class_help_explains_every_argument(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in {
        "FineTune": "layers of the projection head that are kept",
        "LinearEvaluation": "features that do not change",
        "Supervised": "multiplies the channels of every stage",
    }.items():
        with pytest.raises(SystemExit):
            simclr("fit", "--model.help", name)
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        simclr("fit", "--data.help", "LabelledDataModule")
    assert "text file that names the pictures" in capsys.readouterr().out
