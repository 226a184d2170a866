"""IEEE float32 inside, and every setting as it was afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
import torch
from torch import Tensor

from simclr_lightning.precision import full_precision

NEW = hasattr(torch._C, "_set_fp32_precision_setter")  # torch 2.9
newer = pytest.mark.skipif(not NEW, reason="torch has one interface before 2.9")


def set_attribute(name: str, value: str) -> None:
    owner: object = torch.backends
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, last, value)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    if NEW:
        for scope in (("generic", "all"), ("cuda", "matmul"), ("mkldnn", "matmul")):
            torch._C._set_fp32_precision_setter(*scope, "none")


def product() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    return left @ right


LOWER = [
    pytest.param(lambda: torch.set_float32_matmul_precision("medium"), id="set_float32_matmul_precision"),
    pytest.param(lambda: set_attribute("mkldnn.matmul.fp32_precision", "bf16"), id="mkldnn.matmul", marks=newer),
    pytest.param(lambda: set_attribute("fp32_precision", "bf16"), id="generic", marks=newer),
]


@pytest.mark.parametrize("allow", LOWER)
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cuda", "meta"])
def test_products_are_those_of_ieee_float32(allow: Callable[[], None], device: torch.device | str) -> None:
    expected = product()
    allow()
    lower = product()
    with full_precision(device):
        assert product().equal(expected)
    assert product().equal(lower), "the setting was lost"
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert not lower.equal(expected), "nothing was tested"


@pytest.mark.parametrize("allow", LOWER)
def test_nested_and_after_an_error(allow: Callable[[], None]) -> None:
    expected = product()
    allow()
    lower = product()
    with full_precision("cpu"):
        with pytest.raises(ZeroDivisionError), full_precision("cpu"):
            _ = 1 // 0
        assert product().equal(expected), "the inner one has restored what the outer one holds"
    assert product().equal(lower)


def test_another_thread_that_leaves_first_restores_nothing() -> None:
    torch.set_float32_matmul_precision("high")

    def enter_and_leave() -> None:
        with full_precision("cpu"):
            pass

    with full_precision("cpu"):
        other = Thread(target=enter_and_leave)
        other.start()
        other.join()
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "high"


def test_autocast_is_off_inside_and_on_again() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision("cpu"):
            assert product().dtype == torch.float32
        assert product().dtype == torch.bfloat16


@newer
def test_before_torch_2_9(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_set_fp32_precision_setter")
    assert torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    with full_precision("cuda"):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.backends.cudnn.allow_tf32


HISTORIES = '''
"""Compare all that can be read, and all that follows from it later, with and without full_precision in between."""
import os, pickle, random, warnings
import torch
from simclr_lightning.precision import full_precision

get = getattr(torch._C, "_get_fp32_precision_getter", None)
put = getattr(torch._C, "_set_fp32_precision_setter", None)
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
tree = [("generic", "all")] + [(b, o) for b in ("cuda", "mkldnn") for o in ("all", "matmul", "conv", "rnn")]
choose = torch.set_float32_matmul_precision
steps = {f"products {p}": (lambda p=p: choose(p)) for p in ("highest", "high", "medium")}
steps |= {f"cuBLAS {p}": (lambda p=p: setattr(matmul, "allow_tf32", p)) for p in (False, True)}
steps |= {f"cuDNN {p}": (lambda p=p: setattr(cudnn, "allow_tf32", p)) for p in (False, True)}
if put:
    for scope in tree:
        for p in ("none", "ieee", "tf32") + ("bf16",) * (scope[0] != "cuda"):
            steps[f"{scope} {p}"] = lambda scope=scope, p=p: put(*scope, p)

def read():
    legacy = [torch.get_float32_matmul_precision, lambda: matmul.allow_tf32, lambda: cudnn.allow_tf32]
    found = {scope: get(*scope) for scope in tree} if put else {}
    for number, getter in enumerate(legacy):
        try:
            found[number] = getter()
        except RuntimeError as error:
            found[number] = str(error)
    return found

def outcome(history, probe, inside):
    """In a process of its own: a default that was overwritten once never comes back."""
    reader, writer = os.pipe()
    if not os.fork():
        for step in history:
            steps[step]()
        if inside:
            with full_precision("cpu"), full_precision("cuda"):
                now = read()
                assert not put or all(now[scope] == "ieee" for scope in tree if scope[1] in ("matmul", "conv")), now
                assert now[0] == "highest" and now[1] is False, now
        found = [read()]
        for step in probe:
            steps[step]()
            found.append(read())
        with os.fdopen(writer, "wb") as file:
            pickle.dump(found, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        found = pickle.load(file)
    os.wait()
    return found

warnings.simplefilter("error")
draw = random.Random(0)
names = list(steps)
histories = [[]] + [[name] for name in names] + [draw.choices(names, k=draw.randint(2, 4)) for _ in range(40)]
for history in histories:
    probe = draw.choices(names, k=draw.randint(0, 2))
    if put:  # whatever follows its parent shows it
        probe += [f"{(backend, 'all')} tf32" for backend in ("generic", "cuda", "mkldnn")] + ["('generic', 'all') bf16"]
    expected, found = (outcome(history, probe, inside) for inside in (False, True))
    assert found == expected, (history, probe, expected, found)
print(len(histories), "histories")
'''


def test_whatever_was_set_by_either_interface_holds_again() -> None:
    done = subprocess.run([sys.executable, "-c", HISTORIES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 40
