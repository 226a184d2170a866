"""One readable block, at the start of a run, of everything that was worked out and not typed."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from rich.console import Console
from rich.table import Table

from simclr_lightning.callbacks.dry_run import DryRun
from simclr_lightning.callbacks.expected_loss import expected_loss
from simclr_lightning.callbacks.lars_warmup import LARSWarmup
from simclr_lightning.callbacks.progressive_resizing import ProgressiveResizing
from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.callbacks.step_memory import free_memory, step_memory, told_memory, too_much
from simclr_lightning.errors import shown
from simclr_lightning.losses import NTXentLoss

_PROCESS = ("memory", "memory of each")
"""Of one process, and of each of several."""


class RunSummary(Callback):
    """Prints what ``auto`` became: device, precision, batch, rates, steps, sizes, and the losses to expect.

    The figures to expect are those that the loss itself tells (``ContrastiveLoss.expected``). In a healthy run NT-Xent
    falls from its value at chance towards its floor, that of identical views and orthogonal negatives (at temperature
    0.5 and 512 pictures, from 6.9 to 4.9): a plateau there is the end, not a failure.
    List it after ``LARSWarmup``, whose rates and steps it prints.

    Args:
        advise: whether to recommend ``bf16-mixed`` on an accelerator that has bfloat16, where training is in float32;
            the command line does where no precision is typed.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[RunSummary()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, advise: bool = True) -> None:
        super().__init__()
        self.advise = advise
        self._printed = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the block before the first pictures are read, where no checkpoint is still to be restored."""
        self._printed = False
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        after = callbacks[callbacks.index(self) :]
        restores = trainer.ckpt_path is not None or trainer.strategy.restore_checkpoint_after_setup
        if not restores and not any(isinstance(own, LARSWarmup) for own in after):
            self._summarise(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the block, if it is not there yet."""
        if not self._printed:
            self._summarise(trainer, pl_module)

    def _summarise(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._printed = True
        memory, free = step_memory(trainer, pl_module), free_memory(trainer)
        self._print(
            {
                **_hardware(trainer, self.advise),
                **_schedule(trainer),
                **_sizes(trainer),
                **_data(trainer),
                **_values(trainer),
                **_model(pl_module),
                **_groups(trainer),
                **_loss(trainer, pl_module),
                **({} if memory is None else {_PROCESS[trainer.world_size > 1]: told_memory(memory, free)}),
            }
        )
        micro_batches = "micro_batch_size" in pl_module.hparams
        if memory is not None and (advice := too_much(memory, free, micro_batches=micro_batches)) is not None:
            rank_zero_warn(advice)

    @rank_zero_only
    def _print(self, rows: dict[str, str]) -> None:
        table = Table(title="This run", title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value in rows.items():
            table.add_row(name, shown(value))
        Console(markup=False).print(table)  # classes may be called [set 1]


def _hardware(trainer: Trainer, advise: bool) -> dict[str, str]:
    device = trainer.strategy.root_device
    nodes = f" on {trainer.num_nodes} nodes" if trainer.num_nodes > 1 else ""
    precision = str(trainer.precision)
    if advise and precision == "32-true" and _has_bfloat16(device):
        precision += " (this device has bfloat16: try --trainer.precision bf16-mixed)"
    return {
        "device": f"{trainer.world_size} x {device.type}{nodes}",
        "precision": precision,
        "run folder": _folder(trainer),
    }


def _folder(trainer: Trainer) -> str:
    found = run_folder(trainer)  # which all processes ask for
    dry = [own.folder for own in trainer.callbacks if isinstance(own, DryRun)]  # type: ignore[attr-defined]
    return str(dry[0] if dry else found)


def _has_bfloat16(device: torch.device) -> bool:
    """Whether an accelerator computes in it, and does not merely imitate it."""
    if device.type == "cpu":
        return False
    ask = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    if ask is None:
        return False
    imitated = {"including_emulation": False} if "including_emulation" in inspect.signature(ask).parameters else {}
    return bool(ask(**imitated))


def _schedule(trainer: Trainer) -> dict[str, str]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LARSWarmup):
            callback.plan(trainer)
            peaks = " / ".join(f"{rate:.4g}" for rate in sorted(set(callback.peak_learning_rates)))
            bases = " / ".join(f"{rate:.4g}" for rate in sorted(set(callback.base_learning_rates)))
            return {
                "pictures per step": f"{callback.global_batch_size_} (global batch, accumulation included)",
                "learning rate": f"{peaks} at its peak (base {bases}, {callback.scaling} scaling)",
                "steps": f"{callback.total_steps_}, of which {callback.warmup_steps_} are warm-up, then cosine to 0",
            }
    return {"learning rate": "constant and unscaled: no LARSWarmup among trainer.callbacks"}


def _sizes(trainer: Trainer) -> dict[str, str]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    told = [own.summary() for own in callbacks if isinstance(own, ProgressiveResizing)]
    return {"view size": " / ".join(told)} if told else {}


def _data(trainer: Trainer) -> dict[str, str]:
    """What the data module tells of its pictures, where there is one that does."""
    tell = getattr(getattr(trainer, "datamodule", None), "summary", None)
    return {} if tell is None else dict(tell())


def _values(trainer: Trainer) -> dict[str, str]:
    """What is black and what is white, where pictures are no bytes."""
    told = getattr(getattr(getattr(trainer, "datamodule", None), "scaling", None), "told", "")
    return {"black to white": told} if told else {}


def _model(pl_module: LightningModule) -> dict[str, str]:
    parameters = {
        name: sum(parameter.numel() for parameter in module.parameters()) for name, module in pl_module.named_children()
    }
    rows = {"parameters": ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters.items() if count)}
    origin, epochs = getattr(pl_module, "encoder_origin", None), pl_module.hparams.get("freeze_epochs", 0)
    start = [f"from {origin}"] if origin else []
    start += [f"frozen for the first {epochs:g} epoch(s)"] if epochs else []
    return {**rows, "encoder": ", ".join(start)} if start else rows


def _groups(trainer: Trainer) -> dict[str, str]:
    groups: Any = getattr(getattr(trainer, "datamodule", None), "groups", None)
    return {} if groups is None else {"groups": groups.summary()}


def _loss(trainer: Trainer, pl_module: LightningModule) -> dict[str, str]:
    """What the loss itself says of so many pictures, where there is one that says anything."""
    loss: Any = getattr(pl_module, "loss", None)
    expected = expected_loss(trainer, pl_module)
    if expected is None:
        return {}
    rows = {"loss": type(loss).__name__}
    if isinstance(loss, NTXentLoss):
        grouped = getattr(getattr(trainer, "datamodule", None), "groups", None) is not None
        rows["negatives per view"] = f"{expected.negatives}" + " (of this process only)" * (not loss.gather)
        rows["negatives per view"] += " on average, without those of the same group" * grouped
    if expected.bounds is not None:
        chance, floor = expected.bounds
        rows["loss"] += f", {chance:.3f} at chance, {floor:.3f} at its floor"
    return rows
