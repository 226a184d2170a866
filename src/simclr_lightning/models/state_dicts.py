"""What keeps weights from fitting a model, in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor


def mismatches(model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> list[str]:
    """What keeps a checkpoint's weights from fitting a model: one clause for each kind of trouble, with names.

    Args:
        model: state dict of the model.
        checkpoint: state dict to load.

    Returns:
        An empty list where names and shapes are the same.

    Example:
        >>> import torch
        >>> mismatches({"weight": torch.ones(2, 1), "bias": torch.ones(2)}, {"weight": torch.ones(1, 1)})
        ['missing from the checkpoint: bias', 'of another shape: weight ((1, 1) instead of (2, 1))']
    """
    shapes = [
        f"{name} ({tuple(checkpoint[name].shape)} instead of {tuple(model[name].shape)})"
        for name in model.keys() & checkpoint.keys()
        if model[name].shape != checkpoint[name].shape
    ]
    kinds: dict[str, Collection[str]] = {
        "missing from the checkpoint": model.keys() - checkpoint.keys(),
        "unknown to the model": checkpoint.keys() - model.keys(),
        "of another shape": shapes,
    }
    return [f"{kind}: {listed(names)}" for kind, names in kinds.items() if names]


def listed(names: Collection[str], most: int = 10) -> str:
    """The first names in alphabetical order, and how many there are besides.

    Example:
        >>> listed(["c", "a", "b"], most=2)
        'a, b and 1 more'
    """
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest


def without_numbers(weights: Mapping[str, object]) -> list[str]:
    """Names of the tensors that hold NaN, as those of a training that diverged; infinity may be meant, in a mask.

    Example:
        >>> import torch
        >>> without_numbers({"weight": torch.tensor([1.0, torch.nan]), "mask": torch.tensor([-torch.inf])})
        ['weight']
    """
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and bool(tensor.isnan().any())]
