"""``simclr ablate`` on tiny folders: the whole matrix, interrupted, resumed and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning.ablation import study, training
from simclr_lightning.ablation.matrix import Cell, Scores
from simclr_lightning.evaluation import linear_accuracy
from simclr_lightning.simclr import SimCLR

Simclr = Callable[..., None]
TINY = ["--operations", "crop,colour", "--batch_size", "16", "--width", "0.125", "--accelerator", "cpu"]
SHORT = ["--steps", "2", "--views.size", "16"]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Class folders of 32-pixel pictures, a third of each class noise, so that no accuracy is 100 %."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("dark", "medium", "bright")):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for index in range(16):
            pixels = rng.integers(0, 100, (32, 32, 3)) + (60 * number if index % 3 else rng.integers(0, 150))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "shapes" / name / f"{index}.png")
    return tmp_path / "shapes"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Every run that is begun."""
    begun: list[Cell] = []
    run_cell = training.run_cell

    def counted(data: Any, settings: training.Training, cell: Cell) -> Scores:
        begun.append(cell)
        return run_cell(data, settings, cell)

    monkeypatch.setattr(study, "run_cell", counted)
    return begun


def content(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "matrix.json").read_text(encoding="utf-8"))
    return found


def figures(folder: str) -> dict[tuple[str, str, int], tuple[float, float]]:
    return {(run["first"], run["second"], run["seed"]): (run["linear"], run["knn"]) for run in content(folder)["runs"]}


@pytest.mark.usefixtures("shapes")
def test_a_matrix_of_two_operations(simclr: Simclr, started: list[Cell], capsys: pytest.CaptureFixture[str]) -> None:
    simclr("ablate", "--root", "shapes", *TINY, *SHORT)
    printed = capsys.readouterr().out
    assert "4 cells x 2 seeds, steps of each: 2." in printed
    assert "crop, then colour, seed 0: linear " in printed
    assert "9 of 10 runs left, about " in printed
    assert "Tables: ablation/matrix.md" in printed
    assert "available" not in printed  # Lightning's introduction of a Trainer

    found = content("ablation")
    assert found["command"] == (
        "simclr ablate --root shapes --operations crop,colour --batch_size 16 --width 0.125 --accelerator cpu "
        "--steps 2 --views.size 16"
    )
    assert found["settings"]["training_pictures"] == 38
    assert found["settings"]["held_out_pictures"] == 10  # a fifth of 48
    assert found["recommendation"] in printed
    assert found["recommendation"] in Path("ablation/matrix.md").read_text(encoding="utf-8")
    assert len(figures("ablation")) == 10
    with Image.open("ablation/matrix.png") as image:
        assert min(image.size) > 300
    assert not list(Path().glob("lightning_logs")) + list(Path().rglob("*.ckpt"))

    started.clear()
    simclr("ablate", "--root", "shapes", *TINY, *SHORT)
    assert started == []
    assert "10 runs are finished already" in capsys.readouterr().out
    simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--seeds", "3", "--output", "ablation")
    assert {cell.seed for cell in started} == {2}
    assert len(started) == 5


@pytest.mark.usefixtures("shapes")
def test_an_interrupted_study_goes_on_and_ends_as_if_it_had_not_been(
    simclr: Simclr, started: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--output", "whole")
    whole = list(started)
    started.clear()

    def interrupted(*features: Any) -> float:
        if len(started) == 3:
            raise KeyboardInterrupt
        return linear_accuracy(*features)

    monkeypatch.setattr(training, "linear_accuracy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--output", "parts")
    assert list(figures("parts")) == [tuple(cell) for cell in whole[:2]]
    assert content("parts")["recommendation"] is None
    assert "Interrupted at colour, then crop, seed 0. Finished runs are kept in parts/" in capsys.readouterr().out
    assert not Path("parts/matrix.png").exists()
    monkeypatch.setattr(training, "linear_accuracy", linear_accuracy)
    started.clear()
    simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--output", "parts")
    assert started == whole[2:]
    assert figures("parts") == figures("whole")
    assert content("parts")["recommendation"] == content("whole")["recommendation"]


@pytest.mark.usefixtures("shapes")
def test_other_settings_are_refused_before_anything_is_trained(simclr: Simclr, started: list[Cell]) -> None:
    simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--seeds", "1", "--symmetric", "true")
    assert len(started) == 4
    started.clear()
    before = Path("ablation/matrix.json").read_bytes()
    with pytest.raises(ValueError, match=r"other settings: .*steps was 2 and is 3.*--output"):
        simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--steps", "3")
    with pytest.raises(ValueError, match=r"temperature was 0\.2 and is 0\.5"):
        simclr("ablate", "--root", "shapes", *TINY, *SHORT, "--temperature", "0.5")
    assert started == []
    assert Path("ablation/matrix.json").read_bytes() == before


def test_the_encoder_learns_from_one_sided_views_and_is_judged_frozen(
    shapes: Path, simclr: Simclr, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step, predict = SimCLR.training_step, SimCLR.predict_step

    def watched(self: SimCLR, batch: Any, batch_idx: int) -> Any:
        seen.append(batch.views[0])
        return step(self, batch, batch_idx)

    def judged(self: SimCLR, batch: Any, batch_idx: int) -> Any:
        assert not self.encoder.training
        assert not torch.is_grad_enabled()
        return predict(self, batch, batch_idx)

    monkeypatch.setattr(SimCLR, "training_step", watched)
    monkeypatch.setattr(SimCLR, "predict_step", judged)
    simclr("ablate", "--root", shapes, *TINY, *SHORT, "--operations", "sobel,noise", "--seeds", "1")
    assert len(seen) == 4 * 2
    firsts = [views[0] for views in seen]
    for cell in range(1, 4):  # all cells of a seed start from the same crops, in the same order
        assert torch.equal(firsts[2 * cell], firsts[0])
        assert torch.equal(firsts[2 * cell + 1], firsts[1])
        assert not torch.allclose(seen[2 * cell][1], seen[0][1], atol=0.05)
    assert not torch.equal(firsts[0], firsts[1])


def test_pictures_of_different_sizes_and_a_validation_folder(photos: Path, simclr: Simclr, started: list[Cell]) -> None:
    simclr(
        "ablate", "--root", photos, *TINY, "--views.size", "16", "--batch_size", "8", "--epochs", "1", "--seeds", "1"
    )
    settings = content("ablation")["settings"]
    assert settings["val_fraction"] == 0
    assert settings["training_pictures"] == settings["held_out_pictures"] == 16
    assert settings["steps"] == 2
    assert len(started) == 5


def test_a_named_data_set_of_grey_pictures(simclr: Simclr) -> None:
    arguments = ["--dataset", "digits", "--width", "0.125", "--accelerator", "cpu", "--steps", "1", "--seeds", "1"]
    simclr("ablate", *arguments, "--operations", "rotate,cutout")
    assert content("ablation")["settings"]["views"]["preset"] == "digits"
    assert content("ablation")["settings"]["training_pictures"] == 1149  # a fifth of 1,437 is held out
    with pytest.raises(ValueError, match="leave blur out"):
        simclr("ablate", *arguments, "--operations", "rotate,blur", "--output", "other")


def test_labels_of_a_probe_folder_judge_unlabelled_pictures(
    write_pictures: Callable[..., Path], simclr: Simclr, started: list[Cell]
) -> None:
    write_pictures("unlabelled", ["a"])
    write_pictures("labelled", ["cat", "dog"])
    arguments = [*TINY, *SHORT, "--batch_size", "8", "--seeds", "1"]
    with pytest.raises(ValueError, match=r"No picture in 'unlabelled' has a label.*--probe LABELLED"):
        simclr("ablate", "--root", "unlabelled", *arguments)
    assert started == []
    simclr("ablate", "--root", "unlabelled", *arguments, "--probe", "labelled", "--val_fraction", "0.25")
    settings = content("ablation")["settings"]
    assert (settings["training_pictures"], settings["labelled_pictures"], settings["held_out_pictures"]) == (8, 12, 4)


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--root nowhere", r"no folder 'nowhere'.*\(--root or --probe\)"),
        ("--batch_size 64", r"batch_size is 64, but there are 38 training pictures.*\(--batch_size 38\)"),
        ("--operations crop,colr", r"'colr'\. Did you mean colour\?"),
        ("--operations crop", r"two operations at least"),
        ("--epochs 2", r"give one of them"),
        ("--seeds 0", r"seeds is 0: choose a number of at least 1"),
        ("--views.size 16 --operations crop,blur", r"leave blur out"),
        ("--val_fraction 0.01", r"cannot be split off class by class.* \(--val_fraction\)"),
        ("--encoder resnet9", r"resnet9"),
        ("--temperature 0", r"temperature"),
        ("--dataset folders", r"Did you mean folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    arguments: str, message: str, simclr: Simclr, started: list[Cell]
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        simclr("ablate", "--root", "shapes", *TINY, *SHORT, *arguments.split())
    assert started == []
    assert not Path("ablation").exists()


def test_a_training_that_diverges_is_named(shapes: Path, simclr: Simclr, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"diverged|finite"):
        simclr("ablate", "--root", shapes, *TINY, *SHORT, "--learning_rate", "1e30", "--steps", "5")


def test_help_explains_the_options(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        simclr("ablate", "--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    for option in ("--root", "--operations", "--symmetric", "--views", "--output"):
        assert option in text
