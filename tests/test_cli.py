"""Parts of the command line that no CPU machine gets to by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from torch import nn

from simclr_lightning import SimCLR
from simclr_lightning.cli import SyncBatchNormOnDevices


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
