"""Outputs of the last steps, which a callback keeps: into a checkpoint, and out of it in any number of processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.distributed import gather_rows, rank, world_size


class KeptOutputs(NamedTuple):
    """Outputs of a step: references, for which nothing is computed.

    Attributes:
        features: (V N, F) or more views than two, of the pictures of this process.
        projections: (V N, D).
        indices: (N,) positions of the pictures.
        targets: (N,).
        loss: ().
    """

    features: Tensor
    projections: Tensor
    indices: Tensor
    targets: Tensor
    loss: Tensor


def packed(kept: Iterable[KeptOutputs]) -> list[dict[str, Tensor]]:
    """What belongs into a checkpoint: the first two views, of the pictures of all processes; all of them must ask.

    Example:
        >>> step = KeptOutputs(torch.zeros(6, 8), torch.zeros(6, 4), torch.arange(3), torch.arange(3), torch.ones(()))
        >>> [{name: tuple(value.shape) for name, value in own.items()} for own in packed([step])]
        [{'features': (3, 16), 'projections': (3, 8), 'numbers': (3, 2), 'losses': (1, 1)}]
    """
    found = []
    for own in kept:
        pictures = len(own.indices)
        rows = {
            name: torch.unflatten(value, 0, (-1, pictures))[:2].transpose(0, 1).flatten(1).float()
            for name, value in (("features", own.features), ("projections", own.projections))
        }
        rows["numbers"] = torch.stack([own.indices, own.targets], 1).to(own.features.device)
        rows["losses"] = own.loss.float().reshape(1, 1)
        found.append({name: gather_rows(value)[0].cpu() for name, value in rows.items()})
    return found


def unpacked(steps: Iterable[dict[str, Any]], device: torch.device) -> list[KeptOutputs]:
    """The part of this process, as a step in two views.

    Example:
        >>> step = KeptOutputs(torch.rand(6, 8), torch.rand(6, 4), torch.arange(3), torch.arange(3), torch.ones(()))
        >>> (again,) = unpacked(packed([step]), torch.device("cpu"))
        >>> all(torch.equal(own, other) for own, other in zip(step, again))
        True
    """
    found = []
    for step in steps:
        own = {name: value.tensor_split(world_size())[rank()].to(device) for name, value in step.items()}
        features, projections = (
            own[name].unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1) for name in ("features", "projections")
        )
        indices, targets = own["numbers"].T.contiguous()
        losses = step["losses"].to(device)
        loss = losses[rank(), 0] if len(losses) == world_size() else losses.mean()
        found.append(KeptOutputs(features, projections, indices, targets, loss))
    return found
