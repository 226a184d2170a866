"""How much memory a training step will take, and how much there is: before the first one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from simclr_lightning.data.cache import available_memory
from simclr_lightning.losses import ContrastiveLoss
from simclr_lightning.losses.tiles import loss_bytes
from simclr_lightning.models.saved_activations import activations_of

_ROOM = 0.8  # of what is free, for the micro-batch that is recommended
_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class StepMemory(NamedTuple):
    """Bytes that a step of one process takes beside the parameters, which are there already.

    Attributes:
        activations: what the backward pass needs of the forward pass, and its own at its peak, of one micro-batch.
        views: of the pictures of this process.
        gradients: and what the optimizer keeps, and copies for the communication.
        loss: of the projections of all processes.
        pictures: whose activations these are.

    Example:
        >>> StepMemory(activations=3 * 2**30, views=2**30, gradients=0, loss=0, pictures=256).total / 2**30
        4.0
    """

    activations: int
    views: int
    gradients: int
    loss: int
    pictures: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.views + self.gradients + self.loss

    def micro_batch_for(self, free: int) -> int | None:
        """The largest power of two of pictures whose step fits into so many bytes; None where not even 2 do.

        Example:
            >>> StepMemory(2560, views=100, gradients=100, loss=0, pictures=256).micro_batch_for(1000)
            32
        """
        room = free * _ROOM - (self.total - self.activations)
        fitting = room / self.activations * self.pictures
        return None if fitting < 2 else 2 ** (int(fitting).bit_length() - 1)


def step_memory(trainer: Trainer, pl_module: LightningModule) -> StepMemory | None:
    """Work out what a step will take, of the encoder and the head of a module and the batches of its data.

    Args:
        trainer: that has set up its optimizers; its data module tells ``batch_size``, ``recipes`` and ``in_channels``.
        pl_module: has an ``encoder``, and perhaps a ``head``.

    Returns:
        None where somebody's own module or data do not tell, or parameters are split over processes.

    Example:
        >>> step_memory(Trainer(accelerator="cpu", logger=False), LightningModule())
    """
    data: Any = getattr(trainer, "datamodule", None)
    recipes, batch_size = getattr(data, "recipes", None), getattr(data, "batch_size", None)
    encoder, head = getattr(pl_module, "encoder", None), getattr(pl_module, "head", None)
    if not recipes or not isinstance(batch_size, int) or not isinstance(encoder, nn.Module):
        return None
    own = max(1, batch_size // trainer.world_size)
    at_once = min(own, pl_module.hparams.get("micro_batch_size") or own)
    half, channels = _HALF.get(str(trainer.precision)), getattr(data, "in_channels", 3)
    size = torch.finfo(half or _dtype(pl_module)).bits // 8
    views, activations, beyond, rows = 0, 0, 0, 0
    contrasts = isinstance(getattr(pl_module, "loss", None), ContrastiveLoss)
    for recipe in recipes if contrasts else recipes[:1]:
        count = recipe.count if contrasts else 1
        shape = (count * at_once, channels, recipe.size, recipe.size)
        found = activations_of(encoder, shape, half)
        if found is None:
            return None
        activations += found.kept
        beyond = max(beyond, found.most - found.kept)
        rows += count
        views += count * own * channels * recipe.size**2 * size
    if isinstance(head, nn.Module):  # in float32 under autocast
        found = activations_of(head, (rows * at_once, getattr(encoder, "feature_dim", 0)))
        activations += found.kept if found is not None else 0
    loss = 0
    if contrasts:
        everybodys = rows * (batch_size if pl_module.loss.gather else own)
        loss = loss_bytes(rows * own, everybodys, _dimension(pl_module), trainer.strategy.root_device)
    return StepMemory(activations + beyond, views, _of_parameters(trainer, pl_module, half), loss, at_once)


def free_memory(trainer: Trainer) -> int | None:
    """Bytes that each process of this machine may still take on its device; None where nobody tells.

    Example:
        >>> (free_memory(Trainer(accelerator="cpu", logger=False)) or 1) > 0
        True
    """
    device = trainer.strategy.root_device
    if device.type == "cpu":
        free = available_memory()
        return None if free is None else free // max(1, trainer.num_devices)
    ask = getattr(torch.get_device_module(device), "mem_get_info", None)
    return None if ask is None else int(ask(device)[0])


def told_memory(memory: StepMemory, free: int | None) -> str:
    """One line for the summary of a run.

    Example:
        >>> told_memory(StepMemory(3 * 2**30, 2**30, 0, 0, 256), 8 * 2**30)
        'about 4.0 GiB for a step, of which activations 3.0 GiB; 8.0 GiB are free'
    """
    rest = "" if free is None else f"; {gib(free)} are free"
    return f"about {gib(memory.total)} for a step, of which activations {gib(memory.activations)}{rest}"


def too_much(memory: StepMemory, free: int | None, *, micro_batches: bool) -> str | None:
    """What to type where a step takes more than there is; None where it does not.

    Args:
        memory: of a step.
        free: bytes; None: nobody knows.
        micro_batches: whether the module takes ``micro_batch_size``.

    Example:
        >>> too_much(StepMemory(8 * 2**30, 2**30, 0, 0, 256), 4 * 2**30, micro_batches=True)
        'A step needs about 9.0 GiB, and 4.0 GiB are free: type --model.micro_batch_size 64, or a smaller \
--data.batch_size or --data.views.size.'
    """
    if free is None or memory.total <= free:
        return None
    size = memory.micro_batch_for(free) if micro_batches else None
    first = "" if size is None or size >= memory.pictures else f"--model.micro_batch_size {size}, or "
    return (
        f"A step needs about {gib(memory.total)}, and {gib(free)} are free: type {first}a smaller --data.batch_size or "
        "--data.views.size."
    )


def gib(number: float) -> str:
    """Bytes in words.

    Example:
        >>> gib(3 * 2**29), gib(5 * 2**20)
        ('1.5 GiB', '5 MiB')
    """
    return f"{number / 2**30:,.1f} GiB" if number >= 0.95 * 2**30 else f"{number / 2**20:,.0f} MiB"


def _of_parameters(trainer: Trainer, pl_module: LightningModule, half: torch.dtype | None) -> int:
    """Gradients, what the optimizers keep of them, and copies: for the communication, and of autocast."""
    learned = [own for own in pl_module.parameters() if own.requires_grad]
    total = (1 + isinstance(trainer.strategy, DDPStrategy)) * _bytes(learned)
    for optimizer in trainer.optimizers:
        held = [own for group in optimizer.param_groups for own in group["params"]]
        if not any(optimizer.state.get(own) for own in held):  # else it is there already, from a checkpoint
            total += _bytes(held) * (2 if "betas" in optimizer.defaults else bool(optimizer.defaults.get("momentum")))
    return total + (0 if half is None else 2 * sum(own.numel() for own in learned))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(own.numel() * own.element_size() for own in tensors)


def _dtype(pl_module: LightningModule) -> torch.dtype:
    floats = (own.dtype for own in pl_module.parameters() if own.is_floating_point())
    return next(floats, torch.float32)


def _dimension(pl_module: LightningModule) -> int:
    """Of the projections."""
    told: Any = pl_module.hparams.get("projection_dim") or getattr(pl_module, "feature_dim", 0)
    return int(told)
