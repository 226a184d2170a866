"""Models whose parameters are split over processes (FSDP2), and strategies that would train something else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DeepSpeedStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from simclr_lightning.errors import InputError
from simclr_lightning.optim.shards import FSDP2


def configure_for_strategy(model: LightningModule) -> None:
    """Split a model over the processes if its Trainer's strategy is ``ModelParallelStrategy``; refuse what goes wrong.

    FSDP2 gives each process a piece of every parameter, gradient and momentum. A part of the model, such as an encoder
    or a head, is put together while it computes, block by block where it is made of them. The gradients are averaged
    over the processes, as by DDP, and the processes begin with the weights of the first. Whatever is to be learned must
    belong to a part that is called.

    It is the hook ``configure_model``. Without a Trainer, and under other strategies, the model stays as it is.

    Args:
        model: its children are the parts. Their weights are stored contiguously, since FSDP2 takes no others; what they
            compute may still be in channels_last. Its hyperparameter ``optimizer`` is the optimizer's name.

    Raises:
        InputError: under DeepSpeed with LARS, under tensor parallelism, or if a parameter belongs to no part.

    Example:
        >>> configure_for_strategy(LightningModule())
    """
    strategy = _strategy_of(model)
    if isinstance(strategy, DeepSpeedStrategy) and model.hparams.get("optimizer") == "lars":
        raise InputError(
            "DeepSpeed flattens the parameters into one vector, but LARS needs a norm of every layer: use DDP "
            f"(--trainer.strategy ddp), FSDP2 ({FSDP2}) or another optimizer (--model.optimizer sgd)."
        )
    mesh = model.device_mesh
    if strategy is None or mesh is None or any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return
    if mesh["tensor_parallel"].size() > 1:
        raise InputError(
            "ModelParallelStrategy would split single layers over the processes (tensor parallelism), which is not "
            "offered: split the batch and the parameters (FSDP2)",
            f"trainer.strategy.data_parallel_size {mesh.size()} --trainer.strategy.tensor_parallel_size 1",
        )
    alone = [name for name, _ in model.named_parameters(recurse=False)]
    if alone:
        raise InputError(
            f"ModelParallelStrategy splits the parts of {type(model).__name__}, but its parameter {alone[0]} belongs "
            "to none: put it into a module that is called, or use DDP",
            "trainer.strategy ddp",
        )
    model.to(strategy.root_device, memory_format=torch.contiguous_format)
    for tensor in chain(model.parameters(), model.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    for part in model.children():
        for module in (*_blocks(part), part):
            if any(True for _ in module.parameters()):
                module.register_forward_hook(_no_view)
                fully_shard(module, mesh=mesh["data_parallel"])


def _no_view(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Outputs of their own memory: FSDP2 puts its hook on the output, and warns that a view may lose it."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def _strategy_of(model: LightningModule) -> Strategy | None:
    try:
        return model.trainer.strategy
    except RuntimeError:  # somebody else's training loop, or none
        return None


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Elements of the outermost sequences: the residual blocks of a ResNet, the layers of a transformer."""
    for child in module.children():
        yield from child if isinstance(child, nn.Sequential) else _blocks(child)
