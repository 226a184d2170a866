"""Views of the type that the Trainer's precision computes in, and a word where they are made slowly."""

from __future__ import annotations

from functools import cache

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from simclr_lightning.views import ViewEngine, fused


def suit(engine: object, trainer: Trainer | None) -> None:
    """Let an engine make bfloat16 views where the first layer would round them anyway, otherwise float32 ones.

    That is bf16-true, and on an accelerator bf16-mixed, where Lightning's autocast is that of the device: on devices
    which Lightning does not know it is not, and a layer of float32 would refuse bfloat16.

    Args:
        engine: draws the views; the ``dtype`` of a ``ViewEngine`` is set, one of another project is left as it is.
        trainer: for whom; None: for nobody yet.
    """
    if trainer is None or not isinstance(engine, ViewEngine):
        return
    device, plugin = trainer.strategy.root_device, trainer.precision_plugin
    casts = plugin.precision == "bf16-mixed" and getattr(plugin, "device", None) == device.type != "cpu"
    engine.dtype = torch.bfloat16 if casts or plugin.precision == "bf16-true" else torch.float32
    _tell_of_slow_views(device)


@cache  # told once
def _tell_of_slow_views(device: torch.device) -> None:
    reason = fused.obstacle(device)
    if device.type != "cpu" and reason:
        rank_zero_info(f"Views are made operation by operation, slower than by Triton's kernels: {reason}.")
