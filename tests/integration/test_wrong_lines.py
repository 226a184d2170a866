"""What is typed wrongly ends in one message, before data or a model are built: command lines and files, by rule.

`make test` takes a sample; SIMCLR_FAULTS=1 takes them all (`make faults`).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from tests.integration.wrong_lines import Wrong, as_file, lines
from torchvision.models import resnet

from simclr_lightning import SimCLR
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.config_files import check_config_files
from simclr_lightning.data import PictureDataModule
from simclr_lightning.errors import InputError

Simclr = Callable[..., Any]

ALL = bool(os.environ.get("SIMCLR_FAULTS"))
PARTS = 10 if ALL else 1
"""No test may take ten minutes, on a busy machine either."""
REMEDY = re.compile(
    r"choose|expected|give|name|correct|did you mean|leave|remove|write|put|needs|must be|begin|type|draw|--\w", re.I
)


class Built(BaseException):
    """Something was accepted: no Exception, which a parser would take for its own."""


@pytest.fixture
def world(
    simclr: Simclr,
    photos: Path,
    save: Callable[..., Path],
    pretrained: Callable[..., SimCLR],
    monkeypatch: pytest.MonkeyPatch,
) -> Simclr:
    """The command, up to where it builds a network or looks at pictures that there are."""
    save(pretrained(stem="cifar", image_size=16), "small.ckpt")

    def built(*_: Any, **__: Any) -> NoReturn:
        raise Built

    setup = PictureDataModule.setup

    def found(data: PictureDataModule, stage: str | None = None) -> None:
        setup(data, stage)
        raise Built

    monkeypatch.setattr(resnet.ResNet, "__init__", built)
    monkeypatch.setattr(PictureDataModule, "setup", found)
    monkeypatch.setattr(SimCLRCLI, "_run_subcommand", built)
    return simclr


def complaint(simclr: Simclr, words: Iterable[str], *named: str) -> str | None:
    """What is wrong with how a command is refused; None if nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            simclr(*words)
    except InputError as error:
        told = str(error)
        if len(told.splitlines()) > 3 or len(told) > 600:
            return f"is told in {len(told.splitlines())} lines: {told}"
        missing = [name for name in named if name not in told]
        if missing:
            return f"does not name {missing}: {told}"
        return None if REMEDY.search(told) else f"says no remedy: {told}"
    except Built:
        return "was accepted"
    except BaseException as error:
        return f"ends in {type(error).__name__}: {error}"
    return "was accepted"


def sample(cases: list[Any], number: int) -> list[Any]:
    """Evenly over the list, or all of it."""
    return cases if ALL else cases[:: max(1, len(cases) // number)]


def failures(simclr: Simclr, cases: Iterable[Wrong]) -> list[str]:
    told = ((wrong, complaint(simclr, wrong.words, wrong.option, wrong.value)) for wrong in cases)
    return [f"simclr {wrong} {what}" for wrong, what in told if what is not None]


def test_there_are_many() -> None:
    every = lines()
    assert len(every) >= 500
    assert {wrong.words[0] for wrong in every} == {
        *("fit", "validate", "evaluate", "label_curve", "embed", "export", "ablate", "describe", "pack", "models"),
    }


@pytest.mark.parametrize("part", range(PARTS))
def test_command_lines(world: Simclr, part: int) -> None:
    assert failures(world, sample(lines(), 12)[part::PARTS]) == []


def test_the_same_in_files(world: Simclr) -> None:
    told = []
    for wrong, (command, text) in sample([(wrong, found) for wrong in lines() if (found := as_file(wrong))], 4):
        Path("own.yaml").write_text(text)
        what = complaint(world, [command, "--config", "own.yaml"], wrong.option, wrong.value)
        told += [] if what is None else [f"{text} {what}"]
    assert told == []


LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
FILES: list[tuple[str | bytes, str]] = [
    ("trainer:\n\tmax_epochs: 3", "is no YAML"),
    ("trainer: {max_epochs: [3}", "is no YAML"),
    ("trainer: 'a", "is no YAML"),
    ("trainer: &a {max_epochs: 3}\nmodel: *b", "is no YAML"),
    ("trainer: {max_epochs: 3\x00}", "is no YAML"),
    ("trainer: !!python/object/apply:os.system [true]", "is no YAML"),
    ("trainer: !own {max_epochs: 3}", "is no YAML"),
    ("trainer: {max_epochs: 2020-13-45}", "cannot read"),
    ("- trainer", "no keys"),
    ("just words", "no keys"),
    ("", "no keys"),
    ("1: 2", "no keys"),
    (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "no text in UTF-8"),
    ("trainer: {max_epochs: 3}\ntrainer: {max_steps: 3}", "has the key 'trainer' twice, again in line 2"),
    ("trainer:\n  max_epochs: 3\n  devices: 1\n  max_epochs: 4", "'max_epochs' twice, again in line 4"),
    ("trainer: &a {callbacks: *a}", "refers to itself"),
    (LAUGHS, "more than 1,048,576 values"),
    ("[" * 400 + "]" * 400, "levels deep"),
    ("a: " + "x" * 2**20, "bytes"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_files_that_are_no_configuration(
    text: str | bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    command = ["fit", "--config=own.yaml"]
    assert complaint(lambda *words: [check_config_files(list(words))], command, "own.yaml", message) is None
    with pytest.raises(InputError) as caught:
        check_config_files(command)
    assert ("in quotes" in str(caught.value)) == (message == "cannot read")


CONFIGURATIONS = [
    ("trainer: {callbacks: [LARSWarmup, LARSWarmup]}", "LARSWarmup 2 times"),
    ("trainer: {callbacks: 3}", "callbacks"),
    ("trainer: {max_epochs: [1, 2]}", "max_epochs"),
    ("trainer: []", "trainer"),
    ("model: 3", "model"),
    ("model: {init_args: []}", "model"),
    ("data: {class_path: SimCLRDataModule, init_args: {batch_size: {}}}", "batch_size"),
    ("model: {init_args: {in_channels: 7}}", "in_channels is 7, and the data have 1"),
    ("model: {init_args: {loss: {class_path: NTXentLoss, init_args: {temperature: .nan}}}}", "temperature"),
    ("unknown: {a: 1}", "unknown"),
]


@pytest.mark.parametrize("command", ["fit", "evaluate"] if ALL else ["fit"])
def test_configurations(world: Simclr, command: str) -> None:
    told = []
    for text, message in [(LAUGHS, "more than"), *sample(CONFIGURATIONS, 4)]:
        Path("own.yaml").write_text(text)
        what = complaint(world, [command, "--config", "own.yaml"], message)
        told += [] if what is None else [f"{text[:200]!r} {what}"]
    assert told == []


LINES = [
    ("fit --trainer.callbacks LARSWarmup --trainer.callbacks+ LARSWarmup", "LARSWarmup 2 times"),
    ("fit --model.in_channels 3", "in_channels is 3, and the data have 1"),
    ("fit --model.image_size=999", "image_size is 999, and the data have 16"),
    ("test", "without a checkpoint would judge random weights"),
    ("validate --data.dataset digits", "ckpt_path last"),
    ("predict", "without a checkpoint"),
    ("fit --ckpt_path photos", "photos: give the path of a .ckpt file, and not of"),
    (
        "embed --ckpt_path photos --output a.npz --root photos",
        "photos: give the path of a .ckpt file, and not of",
    ),
    ("fit --ckpt_path nowhere.ckpt", "nowhere.ckpt"),
    ("fit --ckpt_path last", "ckpt_path last"),
    ("fit --config photos", "photos"),
    ("fit --config nowhere.yaml", "nowhere.yaml"),
    ("embed --config nowhere.yaml", "nowhere.yaml"),
    ("ablate --root photos --output small.ckpt", "output is 'small.ckpt'"),
    ("evaluate --ckpt_path small.ckpt --output small.ckpt", "output is 'small.ckpt'"),
    ("evaluate --ckpt_path small.ckpt --protocols nothing", "Unknown protocol 'nothing'"),
    ("evaluate --ckpt_path small.ckpt --others.a nowhere.ckpt", "nowhere.ckpt"),
    ("label_curve --ckpt_path small.ckpt --counts [0]", "counts is 0"),
    ("fit --trainer.default_root_dir small.ckpt", "default_root_dir is 'small.ckpt'"),
    ("fit --trainer.logger CSVLogger --trainer.logger.save_dir small.ckpt/a", "'small.ckpt' is a file"),
    ("fit --trainer.accelerator cup", "accelerator is 'cup'"),
    ("fit --trainer.accelerator cpu --trainer.precision 16-mixed", "precision is 16-mixed"),
    ("fit --trainer.strategy dpd", "strategy is 'dpd'"),
    ("fit --trainer.gradient_clip_algorithm both", "gradient_clip_algorithm is 'both'"),
    ("fit --trainer.profiler fast", "profiler is 'fast'"),
    ("fit --trainer.max_time 3", "max_time is '3'"),
    ("fit --trainer.devices many", "devices is 'many'"),
    ("fit --trainer.devices [0,0]", "devices is [0, 0]"),
    ("fit --save_every_minutes 0", "save_every_minutes is 0"),
    ("fit --seed_everything -1", "seed_everything is -1"),
    ("fit --model.stem wide", "stem"),
    ("fit --model.freeze_epochs 1 --model.projection_layers 0", "projection_layers is 0"),
    ("fit --model.encoder resnet19", "resnet19"),
    ("fit --data.views.preset retinal", "retina"),
    ("export --ckpt_path small.ckpt --format torchscript --output small.ckpt", "small.ckpt"),
    ("fit --ckpt_path small.ckpt --model.stem pooled", "stem is 'pooled'"),
    ("fit --ckpt_path small.ckpt --model.projection_dim 64", "projection_dim is 64"),
    ("fit --ckpt_path small.ckpt --model.optimizer sgd", "optimizer is 'sgd'"),
]


def test_single_lines(world: Simclr) -> None:
    told = []
    for line, message in sample(LINES, 7):
        what = complaint(world, line.split(), message)
        told += [] if what is None else [f"simclr {line} {what}"]
    assert told == []


RIGHT = [
    "fit --trainer.max_epochs -1 --trainer.max_steps 3 --model.momentum 0 --trainer.limit_val_batches 0",
    "fit --trainer.num_sanity_val_steps -1 --trainer.overfit_batches 0.5 --trainer.devices 1 --data.val_fraction 0",
    "fit --model.in_channels 1 --trainer.val_check_interval 1.0 --data.prefetch_factor 1 --model.weight_decay 0",
    "fit --trainer.callbacks OnlineLinearProbe --trainer.callbacks+ OnlineLinearProbe --trainer.callbacks.name other",
    "validate --ckpt_path small.ckpt --trainer.gradient_clip_val 0",
]


def test_what_is_right_is_accepted(world: Simclr) -> None:
    for line in RIGHT:
        assert complaint(world, line.split()) == "was accepted", line
    Path("own.yaml").write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump({"trainer": {"max_epochs": 3}}).encode())
    assert complaint(world, ["fit", "--config", "own.yaml"]) == "was accepted"
