"""Which parameters are decayed and adapted."""

from __future__ import annotations

from typing import Any

from torch import nn

from simclr_lightning.errors import InputError
from simclr_lightning.optim.shards import refuse_flattened

# _NormBase is what every BatchNorm, SyncBatchNorm and InstanceNorm derives from
NORMALISATIONS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Splits the trainable parameters of a module into weights, and biases with normalisation.

    Biases and normalisation are neither decayed nor adapted by LARS: they run plain momentum SGD at the full rate. In
    the second group are

    * all parameters of normalisation modules, recognised by their type, whatever their names and shapes;
    * every parameter named ``bias``;
    * every other parameter with fewer than two dimensions: gains, layer scales, a learnt temperature and the gains of
      normalisation modules that derive from none of torch's. One number a channel is no weight matrix.

    Everything else is a weight, class tokens and position embeddings included.

    Args:
        module: the network, or the whole LightningModule. Shared parameters are taken once, frozen ones
            (``requires_grad=False``) not at all.
        weight_decay: L2 penalty of the weights.

    Returns:
        Two groups for any ``torch.optim`` optimizer, in this order: weights (``weight_decay``, ``adapt=True``); biases
        and normalisation (0, ``adapt=False``). :class:`~simclr_lightning.optim.LARS` reads ``adapt``, others ignore it.
        Either may be empty.

    Raises:
        InputError: if the module has no trainable parameter, or if FSDP has flattened them.

    Example:
        >>> network = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
        >>> weights, others = parameter_groups(network, weight_decay=1e-6)
        >>> len(weights["params"]), len(others["params"])  # the bias, and both parameters of the BatchNorm
        (1, 3)

    Source: Chen et al. (2020), arXiv:2002.05709, appendix B.1, and the official code, which goes by names.
    """
    refuse_flattened(module.parameters())
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            is_weight = parameter.ndim >= 2 and name != "bias" and not isinstance(owner, NORMALISATIONS)
            (weights if is_weight else others).append(parameter)
    if not seen:
        raise InputError(
            f"{type(module).__name__} has no trainable parameter. Set requires_grad=True on what should be trained."
        )
    return [
        {"params": weights, "weight_decay": weight_decay, "adapt": True},
        {"params": others, "weight_decay": 0.0, "adapt": False},
    ]
