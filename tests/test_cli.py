"""Parts of the command line that no CPU machine gets to by itself."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from torch import nn

from simclr_lightning import SimCLR
from simclr_lightning.callbacks.sync_batchnorm import SyncBatchNormOnDevices
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.console import main
from simclr_lightning.models import build_encoder


@pytest.mark.parametrize(
    ("accelerator", "processes", "stage", "is_global"),
    [
        (CUDAAccelerator(), 2, "fit", True),
        (CUDAAccelerator(), 1, "fit", False),
        (CUDAAccelerator(), 2, "predict", False),
        (CPUAccelerator(), 2, "fit", False),  # torch has no SyncBatchNorm there
    ],
)
def test_batchnorm_is_global_where_several_cuda_devices_train(
    accelerator: Accelerator, processes: int, stage: str, is_global: bool
) -> None:
    model = SimCLR(encoder="resnet8", width=0.125)
    names = set(model.state_dict())
    trainer = cast("Any", SimpleNamespace(accelerator=accelerator, world_size=processes))
    SyncBatchNormOnDevices().setup(trainer, model, stage)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert {isinstance(norm, nn.SyncBatchNorm) for norm in norms} == {is_global}
    assert set(model.state_dict()) == names


def test_a_compiled_encoder_with_global_batchnorm_is_warned_of() -> None:
    model = SimCLR(encoder="resnet8", width=0.125, compile_encoder=True)
    trainer = cast("Any", Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    model.trainer = trainer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of itself as its compiler is imported
        warnings.filterwarnings("error", "compile_encoder")
        model.setup("fit")
    SyncBatchNormOnDevices().setup(
        cast("Any", SimpleNamespace(accelerator=CUDAAccelerator(), world_size=2)), model, "fit"
    )
    layers = sum(isinstance(module, nn.SyncBatchNorm) for module in model.encoder.modules())
    with pytest.warns(UserWarning, match=rf"each of the {layers} SyncBatchNorm layers.*--sync_batchnorm false"):
        model.setup("fit")


@pytest.mark.filterwarnings("ignore")  # much code that is not ours
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], True),
        (["--trainer.benchmark", "false"], False),
        (["--trainer.deterministic", "true"], False),
        (["--trainer.deterministic", "warn"], False),
        (["--trainer.deterministic", "false"], True),
    ],
)
def test_cudnn_chooses_its_algorithms_by_trial_in_training(
    typed: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(build_encoder("resnet8", stem="cifar").state_dict(), "weights.pth")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(SimCLRCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    small = ["--model.encoder", "resnet8", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    try:
        for command, benchmark in (("validate", False), ("fit", expected)):
            weights = ["--model.init_from", "weights.pth"] if command == "validate" else []
            monkeypatch.setattr(sys, "argv", ["simclr", command, *small, *weights, *typed])
            SimCLRCLI()
            assert torch.backends.cudnn.benchmark == benchmark
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_printed_configuration_comes_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simclr", "fit", "--print_config"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "SimCLRDataModule" in capsys.readouterr().out
