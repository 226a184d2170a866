"""What is typed for the data has its effect, whatever folders are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from simclr_lightning import LabelledDataModule, SimCLRDataModule
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.errors import InputError, MissingFileError

Simclr = Callable[..., None]
Built = Callable[..., Any]
SMALL = [
    "--model.encoder",
    "resnet8",
    "--model.width",
    "0.125",
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    "1",
]
SHORT = [*SMALL, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--data.num_workers", "0"]
SHORT += ["--data.batch_size", "4", "--data.views.size", "16", "--trainer.limit_val_batches", "1"]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Built:
    """The data module of a command that is not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SimCLRCLI, "_run_subcommand", lambda self, subcommand: None)

    def build(*words: str, command: str = "fit") -> Any:
        monkeypatch.setattr(sys, "argv", ["simclr", command, *SMALL, *words])
        return SimCLRCLI().datamodule

    return build


def test_a_root_alone_trains_on_its_pictures(simclr: Simclr, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simclr("fit", "--data.root", "photos", *SHORT, "--seed_everything", "5")
    run = Path("runs/simclr/version_0")
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    assert (held["dataset"], held["root"], held["seed"]) == ("folder", "photos", 5)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["seed"] == config["seed_everything"] == 5
    told = " ".join(capsys.readouterr().out.split())
    assert "train 16 (2 classes: cat 8, dog 8), val 16 (2 classes: cat 8, dog 8), test 16" in told


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--data.root", "no_such_folder"], MissingFileError, r"no folder 'no_such_folder'.*--data\.root"),
        (["--data.root", "[photos, nowhere]"], MissingFileError, r"no folder 'nowhere'"),
        (
            ["--data.root", "photos", "--data.labels", "no.csv"],
            MissingFileError,
            r"labels is 'no\.csv', and there is no such file",
        ),
        (["--data.root", "photos", "--data.dataset", "digits"], InputError, r"digits is in no folder"),
        (["--data.labels", "labels.csv", "--data.dataset", "digits"], InputError, r"digits has its own"),
        (
            ["--data.root", "photos", "--data.metric", "mean_per_class", "--data.dataset", "voc2007"],
            InputError,
            "metric",
        ),
    ],
)
def test_what_would_be_without_effect_is_an_error(
    simclr: Simclr, photos: Path, words: list[str], error: type[Exception], message: str
) -> None:
    Path("labels.csv").write_text("file,label\n")
    with pytest.raises(error, match=message):
        simclr("fit", *words, *SHORT)
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize("name", ["null", "[set 1]", "a: b", "~x", "~", "007", "#x", "- a", "{x}", "1.10", "true"])
def test_folders_may_have_any_name(built: Built, write_pictures: Callable[..., Path], name: str) -> None:
    for folder in {name, "x", "a: b"}:  # the channels of the encoder are those of the pictures
        write_pictures(folder, ["cat", "dog"])
    for words in (["--data.root", name], [f"--data.root={name}"], ["--data.init_args.root", name]):
        assert built(*words).hparams["root"] == name
    assert built("--data.root", "x", "--data.probe", "a: b").hparams["probe"] == "a: b"
    assert built("--data.root", "x", "--data.probe", "null").hparams["probe"] is None


@pytest.mark.parametrize("name", ["null", "[set 1]", "a: b", "~x", "007"])
def test_a_saved_configuration_knows_the_name(simclr: Simclr, write_pictures: Callable[..., Path], name: str) -> None:
    write_pictures(name, ["x", "y"])
    quick = [*SHORT, "--trainer.enable_checkpointing", "false", "--trainer.logger.version", "one"]
    simclr("fit", "--data.root", name, *quick)
    config = Path("runs/simclr/one/config.yaml")
    assert yaml.safe_load(config.read_text())["data"]["init_args"]["root"] == name
    simclr("fit", "--config", config, "--trainer.logger.version", "two", "--trainer.fast_dev_run", "true")


def test_several_roots_are_typed_or_written(built: Built, write_pictures: Callable[..., Path]) -> None:
    write_pictures("a", ["cat", "dog"])
    write_pictures("b", ["cat", "dog"])
    assert built("--data.root", "[a, b]").hparams["root"] == "[a, b]"
    Path("two.yaml").write_text("data: {class_path: SimCLRDataModule, init_args: {root: [a, b]}}\n")
    assert built("--config", "two.yaml").hparams["root"] == "[a, b]"


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_the_seed_of_the_data_follows_unless_typed(built: Built, command: str) -> None:
    assert built(command=command).seed == 0
    assert built("--seed_everything", "2", command=command).seed == 2
    assert built("--seed_everything", "2", "--data.seed", "0", command=command).seed == 0
    assert built("--seed_everything", "2", "--data", "LabelledDataModule", command=command).seed == 2


def test_other_seeds_are_other_views(built: Built) -> None:
    def views(*words: str) -> torch.Tensor:
        data = built(*words, "--data.batch_size", "8")
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        return data.on_after_batch_transfer(batch, 0).views[0]  # type: ignore[no-any-return]

    first, second = views("--seed_everything", "1"), views("--seed_everything", "2")
    assert not torch.equal(first, second)
    assert torch.equal(first, views("--seed_everything", "1"))
    assert torch.equal(first, views("--seed_everything", "2", "--data.seed", "1"))


def test_a_seed_of_chance_is_that_of_the_data_too(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    data = built("--seed_everything", "true")
    assert isinstance(data, SimCLRDataModule)
    assert data.seed == int(torch.initial_seed())
    assert LabelledDataModule().seed == 0
