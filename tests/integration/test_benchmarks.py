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
        ("loss", f"--views 8 16 --large 32 --only {OURS}", {"loss", "loss_large"}),
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


@pytest.mark.parametrize(("short", "milestones"), [(True, 1), (False, 4)])
def test_time_to_accuracy_of_ours(
    short: bool, milestones: int, runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for folder, number in (("train", 500), ("test", 10)):
        for label in ("cat", "dog"):
            (tmp_path / folder / label).mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / label / f"{index}.jpg")
    script = import_module("time_to_accuracy")
    monkeypatch.setattr(script, "RESULTS", tmp_path / "results")
    arguments = argparse.Namespace(root=str(tmp_path), out=tmp_path / "out", minutes=1e-4, seed=0, short=short)
    arguments.out.mkdir()
    for name in (script.RANDOM, OURS):
        script.contest(name, arguments)
    script.summarise(arguments)
    reports = arguments.out if short else tmp_path / "results"
    ours, random = json.loads((reports / "time_to_accuracy.json").read_text())["results"]
    assert [len(ours["milestones"]), len(random["milestones"])] == [milestones, 1]
    assert ours["milestones"][-1].keys() >= {"knn", "linear", "pictures", "loss"}
    assert (reports / "time_to_accuracy.png").exists()


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
