"""The fused views: what can be shown without a GPU."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning.views import fused
from simclr_lightning.views.draw import draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

ROOT = Path(__file__).parents[2]
EVERYTHING = ViewRecipe(size=24, rotation=9.0, noise=0.1, blur=1.0, jitter=1.0, mean=(0.5,) * 3, std=(0.4,) * 3)


def run_cases(**variables: str) -> None:
    """In a process of its own, because Triton decides at its import how kernels are run."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/views/fused_cases.py"]
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\d+ passed", done.stdout)
    assert "skipped" not in done.stdout


def test_the_kernels_are_right_in_tritons_interpreter() -> None:
    pytest.importorskip("triton")
    run_cases(TRITON_INTERPRET="1")


def test_the_kernels_are_right_on_the_gpu_of_this_machine() -> None:
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or not torch.accelerator.is_available() or not fused.available(accelerator):
        pytest.skip("needs a GPU that Triton knows")
    run_cases(TRITON_INTERPRET="0")


class AbsentCard:
    """A driver that knows for which card to compile, and has none."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Kernels are compiled for an H100 as a launch would have them, and end up here by name instead of running."""
    triton = pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", AbsentCard(), raising=False)
    kernels: dict[str, Any] = {}
    run = triton.runtime.JITFunction.run

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernels[self.fn.__name__ + str(len(kernels))] = run(self, *args, grid=grid, warmup=True, **options)

    monkeypatch.setattr(triton.runtime.JITFunction, "run", compiled)
    return kernels


@pytest.mark.parametrize(
    ("recipe", "shape", "dtype", "launches"),
    [
        (ViewRecipe(blur=1.0), (2, 2, 3, 224, 224), torch.bfloat16, ["level", "colour", "blur", "blur"]),
        (ViewRecipe(blur=1.0), (2, 3, 256, 256), torch.bfloat16, ["crop", "level", "colour", "blur", "blur"]),
        (ViewRecipe("cifar10"), (4, 3, 32, 32), torch.bfloat16, ["crop", "level", "colour"]),
        (EVERYTHING, (2, 2, 3, 24, 24), torch.float32, ["level", "colour", "blur", "blur"]),
        (ViewRecipe("grayscale"), (4, 1, 28, 28), torch.float32, ["crop", "level", "colour"]),
        (ViewRecipe("official"), (4, 3, 256, 256), torch.bfloat16, ["crop", "level", "colour", "blur", "blur"]),
        (ViewRecipe("digits", interpolation="bilinear"), (4, 1, 16, 16), torch.float16, ["crop", "colour"]),
    ],
)
def test_the_kernels_compile_for_an_h100(
    recipe: ViewRecipe, shape: tuple[int, ...], dtype: torch.dtype, launches: list[str], built: dict[str, Any]
) -> None:
    size = torch.tensor(shape[-2:])
    parameters = draw_parameters(recipe, torch.arange(shape[-4]), size, seed=0, epoch=0)
    fused.make_views(recipe, parameters, torch.zeros(shape, dtype=torch.uint8), dtype)
    assert [re.sub(r"_kernel\d", "", name) for name in built] == launches
    for kernel in built.values():
        assert kernel.asm["cubin"]
    if dtype == torch.bfloat16:  # to the nearest, which the interpreter does not
        assert "cvt.rn.bf16" in built[next(name for name in built if name.startswith("colour"))].asm["ptx"]


def test_without_triton_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    fused.obstacle.cache_clear()
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    assert fused.obstacle(torch.device("meta", 3)) == "Triton is not installed"
    assert not fused.available(torch.device("meta", 3))
    fused.obstacle.cache_clear()


def test_triton_is_not_asked_to_work_on_devices_that_it_does_not_know() -> None:
    pytest.importorskip("triton")
    reason = fused.obstacle(torch.device("meta"))
    assert reason
    assert "\n" not in reason
    assert not fused.available(torch.device("meta"))


def test_a_cpu_has_ways_of_its_own() -> None:
    assert not fused.available(torch.device("cpu"))


def test_what_is_sent_travels_in_one_piece() -> None:
    recipe = dataclasses.replace(EVERYTHING, blur=0.5)
    recipe = dataclasses.replace(recipe, count=3)
    parameters = draw_parameters(recipe, torch.arange(9), torch.tensor([40, 40]), seed=0, epoch=0)
    sent = fused._give(recipe, parameters.flatten(), 3, torch.device("cpu"))
    pieces = [sent.normal, sent.table, sent.numbers, sent.blurs, sent.weights, sent.angle]
    assert len({piece.untyped_storage().data_ptr() for piece in pieces}) == 1
    assert {piece.storage_offset() % 4 for piece in pieces} == {
        0
    }  # 16 bytes: one version of a kernel, whatever is drawn
    assert sent.blurred == int(parameters.blur.sum())
