"""``make cifar10-gpu``, in one piece: it pre-trains and judges the encoder that it has just written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "--model.init_args.encoder resnet8 --model.init_args.width 0.125 --data.batch_size 8 --trainer.max_epochs 2 "
    "--trainer.accelerator cpu"
)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_it_trains_and_judges(tmp_path: Path, write_pictures: Callable[..., Path]) -> None:
    names = [f"{split}/{name}" for split in ("train", "test") for name in ("cat", "dog")]
    pictures = write_pictures("cifar10", names, smallest=32, largest=32)
    for name in ("experiments", "src", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = ["make", "cifar10-gpu", f"PYTHON={sys.executable}", f"CIFAR10={pictures}", f"FIT_ARGS={SMALL}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (results,) = tmp_path.glob("runs/cifar10-gpu/*/evaluation.json")
    figures = json.loads(results.read_text())["figures"]
    assert (results.parent / "checkpoints" / "last.ckpt").exists()
    judged = {(figure["encoder"], figure["protocol"]) for figure in figures}
    assert judged == {
        (name, protocol) for name in ("random encoder", "pre-trained encoder") for protocol in ("linear", "knn")
    }
