"""Every benchmark runs and reports, in a form so small that its figures mean nothing; the runner's sums are right."""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OURS = "simclr_lightning"
HEAD = {"title", "note", "date", "machine", "versions", "results"}
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The runner, with the folder of the scripts on the path, as when Python runs one of them."""
    before, threads = set(sys.modules), torch.get_num_threads()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield import_module("runner")
    torch.set_num_threads(threads)
    for name in {path.stem for path in BENCHMARKS.glob("*.py")} - before:
        sys.modules.pop(name, None)


@pytest.fixture
def run(runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a script with one round of three steps; gives its reports by name."""

    def run(script: str, *arguments: str, fresh_processes: bool = False) -> dict[str, Any]:
        if not fresh_processes:
            monkeypatch.setattr(runner, "measure_elsewhere", runner.measure_here)
        options = ["--rounds", "1", "--seconds", "0", "--out", str(tmp_path), *arguments]
        monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / f"{script}.py"), *options])
        import_module(script).main()
        assert all(path.with_suffix(".md").exists() for path in tmp_path.glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}

    return run


def test_loss_in_fresh_processes(run: Run, tmp_path: Path) -> None:
    reports = run("loss", "--short", "--views", "16", "--only", OURS, "masked cross-entropy", fresh_processes=True)
    report = reports["loss"]
    assert report.keys() == HEAD
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    ours, theirs = report["results"]
    assert (ours["contestant"], theirs["contestant"]) == (OURS, "masked cross-entropy")
    assert ours["ratios"] == [1.0]
    assert theirs["ratios"] == [theirs["rounds"][0]["cpu"] / ours["rounds"][0]["cpu"]]
    assert "| 16 | masked cross-entropy |" in (tmp_path / "loss.md").read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "reports"),
    [
        ("loss", f"--views 8 16 --large 32 --only {OURS}", {"loss", "loss_large", "losses"}),
        ("gather", f"--contests gather_processes --views 16 --processes 1 --only {OURS}", {"gather_processes"}),
        (
            "views",
            f"--batch 4 --photographs 2 --sizes 32 64 --only {OURS}",
            {"views_cifar", "views_imagenet", "views_jpeg", "views_size"},
        ),
        ("loader", "--pictures 512 --workers 0", {"loader"}),
        ("optimizer", f"--short --encoders resnet8 --only {OURS} SGD", {"optimizer"}),
        ("micro_batch", "--encoder resnet8 --side 8 --short --pictures 4 --micro-batch 2", {"micro_batch"}),
    ],
)
def test_script_reports(script: str, arguments: str, reports: set[str], run: Run, tmp_path: Path) -> None:
    made = run(script, *arguments.split())
    assert made.keys() == reports
    for report in made.values():
        assert report.keys() == HEAD
        assert {result["contestant"] for result in report["results"]} >= {OURS}
        for result in report["results"]:
            (figures,) = result["rounds"]
            assert figures["wall"] > 0
            assert figures["cpu"] >= 0
    assert (tmp_path / "loss.png").exists() == (script == "loss")  # sizes are plotted
    assert (tmp_path / "views_size.png").exists() == (script == "views")


KINDS = ["NT-Xent", "decoupled", "decoupled, weighted", "debiased", "hard negatives", "supervised"]


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")  # lightly's DCLWLoss
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("runner")
def test_losses_of_a_kind_are_the_same(kind: str) -> None:
    """What is timed beside ours computes the same, gradients included; packages that are not there are left out."""
    beyond = import_module("losses").BEYOND
    assert list(beyond) == KINDS
    first, second = torch.randn(2, 130, 16, dtype=torch.float64)
    found = []
    for contestant in beyond[kind].values():
        try:
            loss = contestant(0.5)
        except ImportError:
            continue
        projections = first.clone().requires_grad_()
        value = loss(projections, second)
        found.append((value.detach(), *torch.autograd.grad(value, projections)))
    assert found
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=1e-10, atol=0)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-8, atol=1e-12)


def test_a_case_that_is_too_large_for_a_contestant_is_left_out(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(name: str, case: int, _: float) -> dict[str, float | None]:
        if name == "other" and case > 1:
            raise MemoryError
        return {"cpu": 1.0, "wall": 1.0, "memory": None}

    contest = runner.Contest("contest", "title", {OURS: OURS, "other": "other"}, [1, 2], measure=measure)
    monkeypatch.setattr(runner, "measure_elsewhere", runner.measure_here)
    monkeypatch.setattr(sys, "argv", ["script", "--rounds", "2", "--out", str(tmp_path), "--note", "It rained."])
    runner.run(runner.parse(runner.parser(None)), contest)
    report = json.loads((tmp_path / "contest.json").read_text())
    assert [(one["case"], one["contestant"]) for one in report["results"]] == [(1, OURS), (1, "other"), (2, OURS)]
    assert report["note"].endswith("medians. It rained.")


def test_packed_pictures_beside_a_folder(run: Run) -> None:
    pytest.importorskip("litdata")
    report = run("packed", "--pictures", "600", "--batches", "1", "--chunk-mib", "1")["packed"]
    assert report.keys() == HEAD
    assert [result["contestant"] for result in report["results"]] == ["folder", "packed", "packed, by litdata"]
    for result in report["results"]:
        (figures,) = result["rounds"]
        assert min(figures["start"], figures["wall"], result["packing"]) > 0


def test_loss_accuracy(run: Run) -> None:
    """What it measures of ours is rounding; the same reference finds the error that bfloat16 makes elsewhere."""
    results = run("loss_accuracy", "--views", "64")["loss_accuracy"]["results"]
    assert max(result["errors"][OURS] for result in results) < 1e-4
    bf16 = [result for result in results if result["precision"] == "bf16 autocast" and result["temperature"] == 0.1]
    assert min(result["errors"]["masked cross-entropy"] for result in bf16) > 1e-4


def test_shares_of_a_step(run: Run, tmp_path: Path) -> None:
    report = run("step", "--short", "--configs", "cifar_cpu", "--batch", "4")["step"]
    (result,) = report["results"]
    assert result["rounds"][0].keys() == {"data", "views", "encoder", "head", "loss", "optimizer"}
    shares = [float(share) for share in re.findall(r"([\d.]+) %", (tmp_path / "step.md").read_text())]
    assert len(shares) == 6
    assert math.isclose(sum(shares), 100, abs_tol=0.3)


def test_what_seeing_costs(run: Run, tmp_path: Path) -> None:
    report = run("callbacks", "--short", "--batch", "8", "--steps", "4")["callbacks"]
    (result,) = report["results"]
    (figures,) = result["rounds"]
    assert figures["cpu"] == figures["nothing cpu"] > 0
    assert figures["nothing more"] == 0
    assert figures["Throughput more"] == pytest.approx(figures["Throughput cpu"] / figures["nothing cpu"] - 1)
    rows = re.findall(r"^[|] (\w[^|]*) [|] [\d.,]+ [|] [+-][\d.]+ %", (tmp_path / "callbacks.md").read_text(), re.M)
    assert rows == list(import_module("callbacks").VARIANTS)


@pytest.fixture
def cats_and_dogs(tmp_path: Path) -> Path:
    """A tree of 1,000 pictures to train on and 20 to judge by."""
    rng = np.random.default_rng(0)
    for folder, number in (("train", 500), ("test", 10)):
        for label in ("cat", "dog"):
            (tmp_path / folder / label).mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / label / f"{index}.jpg")
    return tmp_path


@pytest.mark.parametrize(("short", "milestones"), [(True, 1), (False, 4)])
def test_time_to_accuracy_of_ours(
    short: bool, milestones: int, runner: ModuleType, cats_and_dogs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = import_module("time_to_accuracy")
    monkeypatch.setattr(script, "RESULTS", cats_and_dogs / "results")
    out = cats_and_dogs / "out"
    arguments = argparse.Namespace(root=str(cats_and_dogs), out=out, minutes=1e-4, seeds=[0, 3], short=short)
    out.mkdir()
    for seed in arguments.seeds:
        for name in (script.RANDOM, OURS):
            script.contest(name, seed, arguments)
    script.summarise(arguments)
    reports = out if short else cats_and_dogs / "results"
    results = json.loads((reports / "time_to_accuracy.json").read_text())["results"]
    assert [(one["name"], one["seed"]) for one in results] == [(OURS, 0), (OURS, 3), ("random", 0), ("random", 3)]
    assert [len(one["milestones"]) for one in results] == [milestones, milestones, 1, 1]
    assert results[0]["milestones"][-1].keys() >= {"knn", "linear", "pictures", "loss"}
    assert (reports / "time_to_accuracy.png").exists()


@pytest.mark.parametrize("peer", ["lightly", "lightning-bolts", "solo-learn"])
def test_our_recipe_through_a_peers_parts(peer: str, runner: ModuleType, cats_and_dogs: Path) -> None:
    recipes = import_module("recipes")
    data = recipes.pictures(str(cats_and_dogs))
    try:
        theirs, ours = (
            recipes.contestant(name, recipes.untrained_encoder(0), data) for name in (peer, f"{peer}, our recipe")
        )
    except ImportError:
        pytest.skip(f"{peer} is not installed")
    own = recipes.contestant(OURS, recipes.untrained_encoder(0), data)
    assert (ours.recipe, ours.warmup) == (own.recipe, own.warmup)
    assert ours.recipe != theirs.recipe
    for contestant, side in ((theirs, 32), (ours, 20)):
        first, second = (views[:8] for views in next(iter(contestant.data)))
        assert first.shape == second.shape == (8, 3, side, side)
        assert torch.isfinite(contestant.module.training_step((first, second), 0))
    own_groups, groups = (one.module.configure_optimizers().param_groups for one in (own, ours))
    for name in ("lr", "momentum", "nesterov"):
        assert {group[name] for group in own_groups} == {group[name] for group in groups}
    assert sorted(group["weight_decay"] for group in own_groups) == sorted(group["weight_decay"] for group in groups)
    linear = [layer for layer in ours.module.head.modules() if isinstance(layer, torch.nn.Linear)]
    wanted = [layer for layer in own.module.head.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.weight.shape for layer in linear] == [layer.weight.shape for layer in wanted]


@pytest.mark.usefixtures("runner")
def test_shares_of_the_lead() -> None:
    """By hand: from 48 and 50 over 59 and 61 to 64 and 66, 11 of 16 points are the recipe's."""
    figures = {"lightly": (0.48, 0.50), "lightly, our recipe": (0.59, 0.61), OURS: (0.64, 0.66), "solo-learn": (0.1,)}
    records = {
        name: [{"milestones": [{"knn": 0.0}, {"knn": figure}]} for figure in seeds] for name, seeds in figures.items()
    }
    (line,) = import_module("time_to_accuracy").shares_of_the_lead(records, "knn")
    assert line == (
        "kNN, lightly: its recipe 49.0, our recipe through its parts 60.0, ours 65.0. Of a lead of 16.0 points the "
        "recipe makes 11.0, speed 5.0 (69% and 31%)."
    )


def test_ratios_are_those_of_each_round_and_the_missing_are_named(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seconds = {OURS: iter([1.0, 2.0, 4.0]), "other": iter([3.0, 4.0, 40.0])}

    def measure(name: str, case: int, _: float) -> dict[str, float | None]:
        if name == "missing":
            raise ModuleNotFoundError("No module named 'missing'")
        return {"cpu": next(seconds[name]) * case, "wall": 1.0, "memory": None}

    names: dict[str, Any] = {name: name for name in (OURS, "other", "missing")}
    contest = runner.Contest("contest", "title", names, [1], measure=measure)
    monkeypatch.setattr(runner, "measure_elsewhere", runner.measure_here)
    monkeypatch.setattr(sys, "argv", ["script", "--rounds", "3", "--out", str(tmp_path)])
    runner.run(runner.parse(runner.parser(None)), contest)
    report = json.loads((tmp_path / "contest.json").read_text())
    assert [result["ratios"] for result in report["results"]] == [[1.0, 1.0, 1.0], [3.0, 2.0, 10.0]]
    assert "Without missing." in report["note"]
    assert "| 1 | other | 4,000 | 3,000 to 40,000 | 3 | 2 to 10 |" in (tmp_path / "contest.md").read_text()


def test_a_process_that_fails_stops_the_run(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-c", "raise SystemExit('out of memory')"])
    contest = runner.Contest("contest", "title", {OURS: OURS}, [512])
    with pytest.raises(RuntimeError, match="simclr_lightning failed at 512:\nout of memory"):
        runner.hold(contest, runner.parser(None).parse_args(["--rounds", "1"]))


PEAK = """
import torch, runner
kept = torch.ones(2**22)  # 16 MiB, there before
def step():
    return (torch.ones(2**24) + kept.sum())[:1].clone()  # 64 MiB twice
print(runner.timed(runner.Work(step), 0)["memory"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_the_peak_of_a_step() -> None:
    """In a process of its own, as every measurement: what other tests did to this one's heap would count."""
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert 120 < float(done.stdout) < 145


def test_startup(run: Run) -> None:
    (found,) = run("startup", "--short", "--only", "simclr --version")["startup"]["results"]
    assert found["rounds"][0]["cpu"] > 0
    assert 0 < found["imports"]["simclr_lightning"] < 5
    assert "torch" not in found["imports"]


def test_waiting_threads(run: Run) -> None:
    (found,) = run("waiting_threads", "--short", "--only", "asleep at once")["waiting_threads"]["results"]
    assert found["others"] == 1
    (figures,) = found["rounds"]
    assert figures["pictures_per_second"] > 0
    assert figures["cpu"] > 1  # torch is imported, and two steps are trained
