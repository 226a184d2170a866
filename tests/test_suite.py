"""The tests themselves: a crash or a hang fails the run in time, and what else is installed changes nothing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from lightning.pytorch import Trainer
from tests.simulated import own_process

ROOT = Path(__file__).parents[1]
CRASH = "\n\ndef test_crash():\n    os.abort()\n"
HANG = "\n\ndef test_hang():\n    threading.Event().wait()\n"


def test_a_crash_and_a_hang_fail_the_run_and_all_other_tests_run(tmp_path: Path) -> None:
    passing = "import os\nimport threading\n\n" + "".join(f"\ndef test_{n}():\n    pass\n" for n in range(10))
    for name, more in {"a": CRASH, "b": "", "c": CRASH + HANG, "d": CRASH, "e": ""}.items():
        (tmp_path / f"test_{name}.py").write_text(passing + more)
    command = re.search(r"\$\(BIN\)/pytest (.*) \$\(TEST_ARGS\)", (ROOT / "Makefile").read_text())
    assert command is not None
    wanted = command[1].replace("$(WORKERS)", "2")
    options = f"-c {ROOT}/pyproject.toml --rootdir {tmp_path} -o faulthandler_timeout=2 -p no:cacheprovider"
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *shlex.split(wanted),
            *options.split(),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert "4 failed, 50 passed" in run.stdout
    for test in ("test_a.py::test_crash", "test_c.py::test_crash", "test_c.py::test_hang", "test_d.py::test_crash"):
        assert re.search(rf"worker '\w+' crashed while running '{test}'", run.stdout)


def test_a_cluster_command_that_is_not_used_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)  # Lightning warns; warnings are errors


def test_no_test_of_another_folder_meets_the_simulated_device() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    both = [*command, "tests/simulated", "tests/test_errors.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    told = subprocess.run(both, env=environment, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    assert "tests/test_errors.py::" in told
    assert [line for line in told.splitlines() if "simulated" in line] == [
        "tests/simulated::1 of 3",
        "tests/simulated::2 of 3",
        "tests/simulated::3 of 3",
    ]


@pytest.mark.parametrize(
    ("asked", "alone"),
    [
        (["tests/simulated"], True),
        (["tests/simulated/test_device.py", "tests/simulated/test_views.py::test_name"], True),
        (["tests/simulated", "tests/test_errors.py"], False),
        (["tests", "src"], False),
    ],
)
def test_a_run_of_the_simulated_device_alone_takes_its_tests_one_by_one(asked: list[str], *, alone: bool) -> None:
    config = SimpleNamespace(args=asked, invocation_params=SimpleNamespace(dir=ROOT))
    assert own_process.is_alone(cast("pytest.Config", config)) is alone
    shares = [share for _, share in own_process.shares()]
    assert sorted(path for share in shares for path in share) == sorted(own_process.HERE.glob("test_*.py"))
