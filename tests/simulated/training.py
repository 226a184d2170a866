"""Lightning on the simulated device, and what happened between the logged steps of a training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry
from tests.simulated.device import NAME, Record, Wait, register


class SimulatedAccelerator(Accelerator):
    """One simulated device. It is taken together with the strategy ``single_simgpu``."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == NAME

    def teardown(self) -> None:
        pass

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> int:
        return int(devices)

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [torch.device(NAME, index) for index in range(devices)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


class SingleSimulatedDevice(SingleDeviceStrategy):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(device=f"{NAME}:0", **kwargs)


def register_training() -> None:
    """Names for the command line: ``--trainer.accelerator simgpu --trainer.strategy single_simgpu``."""
    register()
    if NAME not in AcceleratorRegistry:
        AcceleratorRegistry.register(NAME, SimulatedAccelerator, description="simulated")
        StrategyRegistry.register(f"single_{NAME}", SingleSimulatedDevice, description="simulated")


def on_simulated_device(trainer_class: type[Trainer] = Trainer, precision: str = "32-true", **settings: Any) -> Trainer:
    """A Trainer on the simulated device. Lightning would send the mixed precisions to CUDA's autocast."""
    register_training()
    chosen: dict[str, Any] = {"precision": precision}
    if precision.endswith("-mixed"):
        chosen = {"plugins": [MixedPrecision(precision, device=NAME)]}  # type: ignore[arg-type]
    return trainer_class(accelerator=NAME, strategy=f"single_{NAME}", devices=1, **chosen, **settings)


class Step(NamedTuple):
    """One batch, from the end of the batch before it: its loading and views, training, callbacks, then logging."""

    batch: int  # of the fit, counted from 0
    logged: bool  # this one, or the one before it, whose values are read after its callbacks (so are the first one's)
    waits: list[Wait]
    kernels: int


class Steps(Callback):
    """Cuts what is recorded of a fit into batches. It goes last among the callbacks."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record
        self.steps: list[Step] = []
        self._start = (0, 0)
        self._logged = True  # the first one comes after all that a start does

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        logged = trainer._logger_connector.should_update_logs
        waits, kernels = self._start
        new = self.record.waits[waits:]
        self.steps.append(Step(len(self.steps), logged or self._logged, new, self.record.count - kernels))
        self._start, self._logged = (len(self.record.waits), self.record.count), logged or len(self.steps) == 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged = True

    @property
    def between(self) -> list[Step]:
        """Steps that lie between logged ones."""
        return [step for step in self.steps if not step.logged]
