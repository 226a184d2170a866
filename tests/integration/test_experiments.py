"""Every command of experiments/README.md runs as it is typed, scaled down by overrides, and every YAML is in one."""

from __future__ import annotations

import pickle
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml

from simclr_lightning import SimCLR
from simclr_lightning.data import SOURCES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SWEEPS = EXPERIMENTS / "sweeps"  # of W&B, which test_trackers.py tries
CONFIGS = sorted(path for path in EXPERIMENTS.rglob("*.yaml") if path.parent != SWEEPS)
INDEX = (EXPERIMENTS / "README.md").read_text()
LINES = [
    line for block in re.findall(r"^```bash\n(.*?)^```", INDEX, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
ABLATE = "simclr ablate --root photos"
COMMANDS = [line for line in dict.fromkeys(LINES) if line != ABLATE]
# They differ from those of Food-101 by the data set alone, for which a test has no files.
OTHER_DATA_SETS = [command for command in COMMANDS if "transfer/" in command and "food101" not in command]
EQUAL = ["train/cat", "train/dog", "test/cat", "test/dog"]
SCALED_DOWN = {
    "fit": {
        "data.batch_size": "8",
        "data.views.size": "24",
        "trainer.max_epochs": "1",
        "trainer.max_steps": "2",
        "trainer.limit_val_batches": "1",
        "trainer.enable_model_summary": "false",
    },
    "evaluate": {"data.views.size": "24"},
}
HERE = {"data.num_workers": "0", "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false"}

Config = dict[str, Any]
Capture = pytest.CaptureFixture[str]


def name_of(path: Path) -> str:
    return str(path.relative_to(EXPERIMENTS))


def configs_of(command: str) -> list[Path]:
    """The files that a command reads, in their order."""
    return [EXPERIMENTS.parent / name for name in re.findall(r"--config (\S+)", command)]


def id_of(command: str) -> str:
    return "+".join(name_of(path).removesuffix(".yaml") for path in configs_of(command))


def lines_of(config: Config, prefix: str = "") -> Config:
    """The settings of a configuration by their dotted names; a list is one setting."""
    lines: Config = {}
    for name, value in config.items():
        inner = isinstance(value, dict)
        lines |= lines_of(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return lines


def merged(paths: list[Path]) -> Config:
    """What comes out when each file is read over the ones before it."""
    lines: Config = {}
    for path in paths:
        above = lines_of(yaml.safe_load(path.read_text()))
        if "model.class_path" in above:  # the arguments of another class go
            lines = {name: value for name, value in lines.items() if not name.startswith("model.")}
        lines |= above
    return lines


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty pictures in CIFAR-10's own files; their checksums cannot be those of the real ones."""
    folder = tmp_path / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [n % 10 for n in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(
        torchvision.datasets.CIFAR10, "_load_meta", lambda self: setattr(self, "classes", list("abcdefghij"))
    )
    return tmp_path / "cifar"


def pretrained(path: Path, in_channels: int) -> None:
    """Checkpoint of a tiny model, for the commands that start from one."""
    model = SimCLR("resnet10", width=0.125, stem="cifar", in_channels=in_channels, projection_layers=3)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    path.parent.mkdir(parents=True)
    torch.save({**content, "pytorch-lightning_version": "2.6.0"}, path)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in OTHER_DATA_SETS], ids=id_of)
def test_command_runs(
    command: str,
    simclr: Callable[..., None],
    write_pictures: Callable[..., Path],
    photos: Path,
    cifar10: Path,
    fashion_mnist: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    typed = merged(configs_of(command))
    dataset = typed["data.init_args.dataset"]
    if typed.get("data.init_args.cache"):  # which takes pictures of equal size
        photos = write_pictures("equal", EQUAL, smallest=32, largest=32)
    _, subcommand, *words = shlex.split(command)
    overrides = SCALED_DOWN[subcommand] | HERE
    if "transfer" in command:
        overrides |= {"data.dataset": "folder", "data.root": str(photos)}
    elif dataset != "digits":
        overrides |= {"data.root": str({"folder": photos, "cifar10": cifar10, "fashion_mnist": fashion_mnist}[dataset])}
    checkpoint = re.search(r"--(?:model.checkpoint|ckpt_path) (\S+)", command)
    if checkpoint:
        pretrained(tmp_path / checkpoint[1], in_channels=1 if dataset in ("digits", "fashion_mnist") else 3)
    else:
        overrides |= {"model.width": "0.125"}
    if "data.init_args.label_fraction" in typed:  # of so few pictures
        overrides |= {"data.label_fraction": "0.5"}

    simclr(subcommand, *words, *(word for name, value in overrides.items() for word in (f"--{name}", value)))

    if subcommand == "fit":
        (saved,) = (tmp_path / "runs" / typed["trainer.logger.init_args.name"]).glob("version_*/config.yaml")
        assert (saved.parent / "checkpoints" / "last.ckpt").exists()
        assert_arrived(command, saved.read_text(), besides=overrides.keys())


@pytest.mark.parametrize("command", OTHER_DATA_SETS, ids=id_of)
def test_command_is_understood(command: str, simclr: Callable[..., None], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    with pytest.raises(SystemExit, match="0"):
        simclr(*command.split()[1:], "--print_config")
    assert_arrived(command, capsys.readouterr().out)


def assert_arrived(command: str, config: str, besides: Iterable[str] = ()) -> None:
    """Every line of the command's files is in the configuration, but for what the command line sets."""
    options = {*re.findall(r"--(\S+)", command), *besides}
    arrived = lines_of(yaml.safe_load(config))
    for name, value in merged(configs_of(command)).items():
        if name.replace("init_args.", "") not in options and not isinstance(value, list):
            assert arrived[name] == value, name


@pytest.mark.usefixtures("photos")
def test_ablation_runs(simclr: Callable[..., None], tmp_path: Path) -> None:
    assert ABLATE in LINES
    small = "--steps 1 --batch_size 8 --width 0.125 --views.size 16 --operations crop,colour --accelerator cpu"
    simclr(*ABLATE.split()[1:], *small.split())
    assert (tmp_path / "ablation" / "matrix.png").exists()


def test_every_experiment_is_in_a_command() -> None:
    in_a_command = {path for command in COMMANDS for path in configs_of(command)}
    assert in_a_command == set(CONFIGS)


def test_every_experiment_is_linked() -> None:
    assert not [name_of(path) for path in CONFIGS if f"]({name_of(path)})" not in INDEX]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.count("--config") > 1], ids=id_of)
def test_a_file_on_top_has_only_lines_that_differ(command: str) -> None:
    paths = configs_of(command)
    for place, path in enumerate(paths[1:], start=1):
        below = merged(paths[:place])
        same = [name for name, value in merged([path]).items() if name in below and below[name] == value]
        assert not same, name_of(path)


def test_transfer_data_sets_are_known() -> None:
    names = [
        merged([path]).get("data.init_args.dataset") for path in (EXPERIMENTS / "imagenet/transfer").glob("*.yaml")
    ]
    assert len(set(filter(None, names)) & SOURCES.keys()) == 12


def test_no_two_experiments_are_the_same() -> None:
    contents = [merged([path]) for path in CONFIGS]
    assert all(first not in contents[:place] for place, first in enumerate(contents))
