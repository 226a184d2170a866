"""What `simclr doctor` tells is so."""

from __future__ import annotations

import csv
import json
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from simclr_lightning.console import main
from simclr_lightning.data.worker_processes import cores
from simclr_lightning.doctor import diagnosis, extras, this_machine
from simclr_lightning.doctor.last_run import findings
from simclr_lightning.errors import InputError
from simclr_lightning.metrics import HealthMetrics

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
HEALTHY = {"std": 0.088, "rank": 60.0}


def write_run(
    folder: Path,
    projections: dict[str, float],
    loss_above_floor: float = 1.0,
    loss: float = 5.0,
    start: float = 1.0,
    waited: float = 0.05,
) -> Path:
    """Files of a run as a training writes them: resnet8, 128 projections, 128 pictures at a temperature of 0.1."""
    (folder / "checkpoints").mkdir()
    assert set(projections) <= set(HealthMetrics._fields)
    row: dict[str, Any] = {"epoch": 7, "step": 80, "train/loss": loss, "health/loss_above_floor": loss_above_floor}
    row |= {"time/data": waited}
    row |= {f"health/features_{name}": value for name, value in {"std": 0.05, "rank": 112.0}.items()}
    row |= {f"health/projections_{name}": value for name, value in projections.items()}
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*row, "rate"])
        writer.writeheader()
        writer.writerow({"epoch": 0, "step": 0, "rate": 0.1})
        writer.writerow(row)
    model = {"encoder": "resnet8", "width": 1.0, "projection_layers": 2, "projection_dim": 128}
    model |= {"loss": {"class_path": "simclr_lightning.losses.NTXentLoss", "init_args": {"temperature": 0.1}}}
    config = {"model": {"class_path": "simclr_lightning.SimCLR", "init_args": model}}
    config |= {"data": {"class_path": "simclr_lightning.SimCLRDataModule", "init_args": {"batch_size": 128}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    health = {"start": {"features": start, "projections": start}, "probes": {"probe": [0.105, 5]}}
    probe = {"head": {"weight": torch.zeros(10, 4)}}
    callbacks = {"RepresentationHealth": health, "OnlineLinearProbe{'name': 'probe'}": probe}
    torch.save({"state_dict": {}, "callbacks": callbacks}, folder / "checkpoints" / "last.ckpt")
    return folder


def names(folder: Path) -> list[str]:
    return [word.name for word in findings(folder)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"projections": HEALTHY}, []),
        ({"projections": {"std": 0.0, "rank": 1.0}}, ["complete collapse"]),
        ({"projections": {"std": 0.005, "rank": 60.0}}, ["complete collapse"]),
        ({"projections": {"std": 0.005, "rank": 60.0}, "start": 0.06}, []),  # untrained ones were as alike
        ({"projections": {"std": 0.088, "rank": 3.0}}, ["dimensional collapse"]),
        ({"projections": HEALTHY, "loss_above_floor": 0.01}, ["loss at its floor"]),
        ({"projections": HEALTHY, "loss": float("nan")}, ["NaN or infinite"]),
        ({"projections": HEALTHY, "waited": 0.19}, []),
    ],
)
def test_words_of_a_run(tmp_path: Path, changes: dict[str, Any], said: list[str]) -> None:
    assert names(write_run(tmp_path, **changes)) == [*said, "probe at chance"]


def test_features_of_four_fields_are_four_times_as_many(tmp_path: Path) -> None:
    config = yaml.safe_load((write_run(tmp_path, {"std": 0.01, "rank": 60.0}) / "config.yaml").read_text())
    found = {}
    for grid in (1, 2):  # of 32 features a standard deviation of 0.01 is a spread of 0.06, and of 128 one of 0.11
        config["model"]["init_args"] |= {"width": 0.125, "projection_layers": 0, "pool_grid": grid}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        found[grid] = names(tmp_path)
    assert found == {1: ["complete collapse", "probe at chance"], 2: ["probe at chance"]}


def test_a_learned_temperature_is_that_of_the_end(tmp_path: Path) -> None:
    write_run(tmp_path, HEALTHY, loss_above_floor=0.1)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    learned = {"class_path": "simclr_lightning.losses.LearnedTemperatureNTXent", "init_args": {"temperature": 0.2}}
    config["model"]["init_args"]["loss"] = learned
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert names(tmp_path) == ["probe at chance"]
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()

    def learned_at_last(temperature: float) -> list[str]:
        lines = [f"{header},train/contrast_temperature", f"{rows[0]},0.2", f"{rows[1]},{temperature}"]
        (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
        return [word.text.partition(":")[0] for word in findings(tmp_path)]

    # Of 128 pictures: 5.541 at chance, the floor is 0.997 at 0.2 and 0.000 at 0.05.
    assert learned_at_last(0.05)[0] == "the loss is 0.1000, its floor 0.0000"
    assert learned_at_last(0.0099999)[0] == "the loss is 0.1000, its floor 0.0000", "rounded below the least one"
    assert learned_at_last(float("nan"))[0].startswith("train/contrast_temperature is not finite")


def test_a_run_that_waited_for_its_data(tmp_path: Path) -> None:
    config = yaml.safe_load((write_run(tmp_path, HEALTHY, waited=0.43) / "config.yaml").read_text())
    config["data"]["init_args"] |= {"dataset": "folder", "root": "cats", "num_workers": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    _, word = findings(tmp_path)
    assert word.name == "waiting for data"
    for part in (
        "in 43 % of the time",
        "--data.num_workers ",
        "--data.scaled_decoding true",
        "simclr pack cats packed",
    ):
        assert part in word.text


def test_files_of_a_run(tmp_path: Path) -> None:
    last = write_run(tmp_path, HEALTHY) / "checkpoints" / "last.ckpt"
    (tmp_path / "unreadable.txt").write_text("Cannot read 1.png: empty.\nCannot read 2.png: empty.\n")
    assert names(tmp_path) == ["unreadable pictures", "probe at chance"]
    last.write_bytes(last.read_bytes()[:200])
    assert names(tmp_path) == ["damaged checkpoint", "unreadable pictures"]
    last.unlink()
    (tmp_path / "metrics.csv").unlink()
    assert names(tmp_path) == ["no last.ckpt", "unreadable pictures", "no metrics.csv"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of a run, with a metrics"):
        main(["doctor", str(tmp_path)])


def test_of_another_model_what_is_known(tmp_path: Path) -> None:
    """Nothing is imported because a file names it."""
    write_run(tmp_path, {"std": 0.0, "rank": 1.0})
    (tmp_path / "config.yaml").write_text("model: {class_path: quux.Mine, init_args: {encoder: resnet8}}")
    assert names(tmp_path) == ["probe at chance"]
    (tmp_path / "config.yaml").write_text("[")
    assert names(tmp_path) == ["probe at chance"]


def test_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, HEALTHY)
    main(["doctor", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"] == version("torch")
    assert found["machine"]["cpu"]["cores"] == cores()
    assert found["machine"]["disk"]["free"] > 0
    assert bool(found["machine"]["accelerators"]) == torch.accelerator.is_available()
    assert [word["name"] for word in found["run"]["findings"]] == ["probe at chance"]


def test_a_machine_that_lacks_something(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(this_machine, "_room", lambda folder: {"total": 0.0625, "free": 0.0625})
    monkeypatch.setattr(this_machine, "_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(extras, "requires", lambda package: ["torch>=999", 'quux>=1; extra == "tiff"'])
    monkeypatch.setattr(diagnosis, "extras", lambda: {"tiff": {"adds": "TIFF", "missing": ["quux"]}})
    main(["doctor"])
    told = " ".join(capsys.readouterr().out.split())  # a table wraps
    for part in (
        "Warning: The package needs torch>=999 (found ",
        "Warning: /dev/shm has 0.06 GiB free",
        "--shm-size=8g",
        "without AMX, --trainer.precision 32-true",
        "missing quux: TIFF",
    ):
        assert part in told
    monkeypatch.setattr(this_machine, "_flags", lambda: {"avx512_bf16", "amx_bf16"})
    main(["doctor"])
    assert "AVX-512 bfloat16, AMX; --trainer.precision bf16-mixed" in " ".join(capsys.readouterr().out.split())


def test_every_extra_is_explained() -> None:
    assert set(extras.ADDS) == set(PYPROJECT["optional-dependencies"])


def test_what_an_extra_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a wheel's metadata has it; extras may be made of others."""
    lines = ["torch>=2.6", 'quux>=1; extra == "fits"', 'torch>=999; extra == "tiff"']
    lines += ['torch>=2; extra == "zarr"', 'simclr-lightning[fits,tiff,zarr]; extra == "science"']
    monkeypatch.setattr(extras, "requires", lambda package: lines)
    monkeypatch.setattr(extras, "metadata", lambda package: Metadata())
    found = {name: own["missing"] for name, own in extras.extras().items()}
    old = f"torch>=999 (found {extras.versions()['torch']})"
    assert found == {"fits": ["quux"], "tiff": [old], "zarr": [], "science": ["quux", old]}
    assert extras.misfits() == []


class Metadata:
    def get_all(self, name: str) -> list[str]:
        assert name == "Provides-Extra"
        return ["fits", "tiff", "zarr", "science"]


@pytest.mark.parametrize("told", [True, False])
def test_devices_of_any_kind(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind whose module tells of its devices, and of one whose module does not."""
    properties = SimpleNamespace(name="Device X", total_memory=3 * 2**30)
    tells = SimpleNamespace(get_device_properties=lambda number: properties, is_bf16_supported=lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    monkeypatch.setattr(torch, "get_device_module", lambda kind: tells if told else SimpleNamespace())
    name, memory, bf16 = ("Device X", 3.0, True) if told else ("meta", None, None)
    expected = {"name": name, "memory": memory, "bf16": bf16}
    assert this_machine.machine()[0]["accelerators"] == [expected, expected]
