"""``simclr fit --data.pairs``."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Simclr = Callable[..., None]
QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
SHORT = ["--config", str(QUICKSTART), "--model.width", "0.125", "--trainer.accelerator", "cpu"]
SHORT += ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "3", "--trainer.log_every_n_steps", "1"]
SHORT += ["--trainer.check_val_every_n_epoch", "1"]
LOSSES = ["NTXentLoss", "DecoupledNTXent", "HardNegativeNTXent", "SupConNTXent"]


def table(name: str, lines: list[str]) -> str:
    Path(name).write_text("\n".join(["index,group", *lines]))
    return name


def rows(metrics: Path) -> list[dict[str, str]]:
    """What was logged, without what it took."""
    with metrics.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("time/")} for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("loss", LOSSES)
def test_groups_of_one_equal_a_run_without(simclr: Simclr, loss: str) -> None:
    path = table("alone.csv", [f"{i},{i}" for i in range(1000)])
    runs = []
    for number, pairs in enumerate(([], ["--data.pairs", path])):
        simclr("fit", *SHORT, "--model.loss", loss, *pairs)
        run = Path(f"runs/quickstart/version_{number}")
        runs.append((run / "metrics.csv", torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)))
    (metrics, first), (other_metrics, second) = runs
    assert rows(metrics) == rows(other_metrics)
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    assert second["datamodule_hyper_parameters"]["pairs"] == path


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("more", [[], ["--data.views.count", "4", "--model.micro_batch_size", "32"]])
def test_every_loss_trains_on_groups_and_the_summary_says_so(
    simclr: Simclr, capsys: pytest.CaptureFixture[str], loss: str, more: list[str]
) -> None:
    path = table("pairs.csv", [f"{i},patient {i % 60}" for i in range(600)])
    simclr("fit", *SHORT, "--model.loss", loss, "--data.pairs", path, *more)
    told = " ".join(capsys.readouterr().out.split())
    assert "897 groups of 1 / 1 / 10 pictures (least / median / most), 837 of them alone, 837 of which" in told
    views = 4 if more else 2
    if loss == "NTXentLoss":
        assert f"negatives per view {views * 127} on average, without those of the same group" in told
    run = Path("runs/quickstart/version_0")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    loaded = ["--ckpt_path", run / "checkpoints" / "last.ckpt", "--data.pairs", path, "--trainer.max_epochs", "3"]
    simclr("fit", *SHORT, *loaded, *more)  # goes on


def test_mistakes_are_told_before_training(simclr: Simclr) -> None:
    for lines, message in ((["1797,x"], "has the index 1797"), (["1,x", "1,y"], "in the lines 2 and 3")):
        with pytest.raises(ValueError, match=message):
            simclr("fit", *SHORT, "--data.pairs", table("pairs.csv", lines))
    assert not Path("runs/quickstart/version_0/checkpoints").exists()
