"""Every part of the GPU check runs on the CPU without a fault; one that hangs or fails takes no other with it."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
PARTS = {
    "exactness": "gradient, high: 64 views, alike, 0.1",
    "training": "deterministic, bf16-mixed: resumed after 5 steps equals uninterrupted",
    "steps, CIFAR": "ResNet-18, 32 px, 16 views: fit: share of the encoder alone",
    "steps, ImageNet": "ResNet-50, 32 px, 8 views: fit: share of the encoder alone",
    "views": "4 pairs of 32 px, bfloat16, simclr_lightning",
    "loss": "32 views: ours to masked cross-entropy",
    "LARS": "simclr_lightning",
    "decoding": "ResNet-50 from files: fit: share of the encoder alone",
}
"""A row of each."""
Rows = list[dict[str, Any]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``gpu_check``, with its folder on the path, as when Python runs it."""
    before, threads = set(sys.modules), torch.get_num_threads()
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield import_module("gpu_check")
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(ROOT / "benchmarks") in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def check(script: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """A part's surroundings."""

    def make(rehearse: bool = True) -> Any:
        return import_module("gpu.check").Check("part", tmp_path / "rows", rehearse=rehearse)

    return make


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], Rows]:
    """What was reported so far."""
    return lambda: [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]


def test_every_part_is_rehearsed(script: ModuleType) -> None:
    assert [part.name for part in script.PARTS] == list(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_part_runs(name: str, script: ModuleType, check: Callable[..., Any], rows: Callable[[], Rows]) -> None:
    flags = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    module, _, function = next(part.function for part in script.PARTS if part.name == name).partition(":")
    with warnings.catch_warnings():
        getattr(import_module(module), function)(check())
    assert not [row for row in rows() if row["verdict"] in ("FAULT", "WRONG")]
    (row,) = [row for row in rows() if row["name"] == PARTS[name]][:1]
    assert row["verdict"] == "right" or row["value"] > 0
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == flags


def test_rehearsal_from_the_command_line(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert script.main(["--rehearse", "--parts", "loss", "--commit", "abc"]) == 0
    (path,) = (tmp_path / "runs" / "gpu-check").glob("*-cpu-a-rehearsal.json")
    results = json.loads(path.read_text())
    assert results.keys() >= {"date", "card", "driver", "machine", "versions", "parts", "rows"}
    assert (results["commit"], results["versions"]["torch"]) == ("abc", torch.__version__)
    assert [(part["part"], part["fault"]) for part in results["parts"]] == [("loss", None)]
    table = path.with_suffix(".md").read_text()
    assert "| loss | 16 views, simclr_lightning |" in table
    said = capsys.readouterr().out
    assert table in said
    assert "No GPU figure was measured." in said


def test_a_part_that_hangs_or_fails_takes_no_other_with_it(script: ModuleType, tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = {
        "hangs": f'open(sys.argv[1], \'w\').write(\'{{"name": "kept"}}\\n{{"cut\'); {child}',
        "fails": "print('why'); raise SystemExit(3)",
        "works": "open(sys.argv[1], 'w').write('{\"name\": \"done\"}\\n')",
    }
    kept_after_each: list[int] = []

    def run(part: Any, rows: Path, seconds: float) -> Any:
        target = tmp_path / "results.json"
        kept_after_each.append(len(json.loads(target.read_text())["parts"]) if target.exists() else 0)
        command = [sys.executable, "-c", f"import sys; {code[part.name]}", str(rows)]
        return script.in_a_process(command, min(seconds, 2.0 if part.name == "hangs" else 30.0))

    parts = [script.Part(name, "", 60.0) for name in code]
    begin = time.monotonic()
    results = script.hold(parts, run, tmp_path / "results", {"card": "none"}, end=begin + 600, rehearse=False)
    assert time.monotonic() - begin < 30  # the sleeping grandchild would hold the pipe for a minute
    assert [part["fault"] for part in results["parts"]] == ["stopped after 2 s", "ended with status 3", None]
    assert "why" in results["parts"][1]["tail"]
    assert [row["name"] for row in results["rows"]] == ["kept", "done"]
    assert kept_after_each == [0, 1, 2]
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_what_does_not_fit_into_the_time_is_left_out(script: ModuleType, tmp_path: Path) -> None:
    asked: list[float] = []

    def run(part: Any, rows: Path, seconds: float) -> Any:
        asked.append(seconds)
        return script.Outcome(None)

    parts = [script.Part("first", "", 60.0), script.Part("second", "", 10.0)]
    end = time.monotonic() + script.CLOSING + 30
    results = script.hold(parts, run, tmp_path / "results", {}, end=end, rehearse=False)
    assert asked == [pytest.approx(30, abs=2)]
    assert results["parts"][1]["fault"] == "left out: 10 s were left of the whole time"


def test_verdicts(check: Callable[..., Any], rows: Callable[[], Rows]) -> None:
    found = check(rehearse=False)
    found.figure("a", 2.0, "ms", at_most=2.0)
    found.figure("b", 2.1, "ms", at_most=2.0)
    found.figure("c", 0.9, "", at_least=0.85)
    found.figure("d", 0.8, "", at_least=0.85)
    found.figure("e", 0.8, "")
    found.must("f", True, "")
    found.must("g", False, "")
    check().figure("h", 0.9, "", at_least=0.85)
    with found.guarded("i"):
        raise ValueError("no\nmore")
    with found.guarded("j"):
        raise ModuleNotFoundError("No module named 'other'")
    with found.guarded("k"):
        raise torch.OutOfMemoryError("too large")
    verdicts = ["pass", "short", "pass", "short", "", "right", "WRONG", "rehearsed", "FAULT", "not installed", ""]
    assert [row["verdict"] for row in rows()] == verdicts
    assert (rows()[0]["aim"], rows()[2]["aim"]) == ("<= 2", ">= 0.85")
    assert rows()[8]["note"] == "ValueError: no"
    assert "Traceback" in rows()[8]["details"]["traceback"]
    assert rows()[10]["note"] == "out of memory"


def test_faults_and_wrong_results_are_the_exit_status(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verdict, status in (("right", 0), ("short", 0), ("WRONG", 1), ("FAULT", 1)):
        row = {"part": "loss", "name": "a", "value": None, "unit": "", "aim": "", "verdict": verdict, "note": ""}
        results = {"parts": [{"part": "loss", "seconds": 1.0, "fault": None}], "rows": [row]}
        monkeypatch.setattr(script, "hold", lambda *args, found=results, **options: found)
        assert script.main(["--rehearse", "--parts", "loss", "--out", str(tmp_path)]) == status


def test_waits_are_counted_by_the_line_that_waits(script: ModuleType) -> None:
    """CUDA warns at each; other warnings are shown as ever."""

    def step() -> None:
        waits.open(torch.device("cpu"))
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at x.cpp:1)", stacklevel=1)
        warnings.warn("another", stacklevel=1)
        waits.close()

    waits = import_module("gpu.waits").Waits()
    with pytest.warns(UserWarning, match="another") as others:
        step()
    ((where, number),) = waits.seen.items()
    assert number == 3
    assert "test_gpu_check.py" in where
    assert [str(warning.message) for warning in others] == ["another"]


def test_times_on_the_wall(script: ModuleType) -> None:
    timing = import_module("gpu.timing").timed(lambda: time.sleep(0.01), torch.device("cpu"), repeats=3, warm_up=0)
    assert 10 <= timing.least <= timing.ms <= timing.most
    assert timing.peak is None
