from __future__ import annotations

from typing import Any

import pytest
import torch

compiler = pytest.importorskip("simclr_lightning.views.compiler", reason="needs the extra fast", exc_type=ImportError)


def double(x: float) -> float:
    return 2 * x


def test_without_a_folder_for_the_result_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = compiler.numba.njit

    def nowhere(function: Any, *, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return njit(function, **options)

    monkeypatch.setattr(compiler.numba, "njit", nowhere)
    assert compiler.compiled(double)(4.0) == 8.0


@pytest.mark.parametrize("number", [0, 1, 5, 8])
@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads_do_everything_once(number: int, threads: int) -> None:
    before, done = torch.get_num_threads(), torch.zeros(number)
    torch.set_num_threads(threads)
    try:
        compiler.in_threads(lambda part: done[part].add_(1), number)
    finally:
        torch.set_num_threads(before)
    assert (done == 1).all()
