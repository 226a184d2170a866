"""Two processes of ``simclr embed`` write the file that one writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest

from simclr_lightning import SimCLR
from simclr_lightning.embed import embed_pictures

LAUNCHERS = {
    "devices": (["-m"], ["--devices", "2"]),
    "torchrun": (["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"], []),
}


@pytest.mark.parametrize(("launcher", "patches"), [("devices", True), ("torchrun", False)])
def test_two_processes_write_the_file_that_one_writes(launcher: str, patches: bool, tmp_path: Path) -> None:
    model = SimCLR(encoder="resnet10", width=0.125, image_size=16, in_channels=1, zero_init_residual=False)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    before, after = LAUNCHERS[launcher]
    options = {"ckpt_path": tmp_path / "last.ckpt", "output": tmp_path / "two.npz", "dataset": "digits"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, *before, "simclr_lightning", "embed", *words, "--accelerator", "cpu", *after]
    command += ["--patches"] * patches
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert "1797 pictures, 16 x 16 pixels (bicubic, values in [0, 1]), on 2 x cpu" in run.stdout
    assert run.stdout.count("Features: ") == 1

    one = embed_pictures(
        **{**options, "output": tmp_path / "one.npz"},  # type: ignore[arg-type]
        accelerator="cpu",
        patches=patches,
    )
    with np.load(one) as expected, np.load(tmp_path / "two.npz") as found:
        assert found["files"].tolist() == [
            *(f"train/{number}" for number in range(1437)),
            *(f"val/{number}" for number in range(360)),
        ]
        assert np.array_equal(found["targets"], expected["targets"])
        assert found["features"].shape == ((1797, 64, 2, 2) if patches else (1797, 64))
        assert not patches or found["boxes"][0].tolist() == [0, 0, 8, 8]
        assert ("boxes" in found) is patches
        scale = np.abs(expected["features"]).max()
        assert np.abs(found["features"] - expected["features"]).max() < 1e-6 * scale
