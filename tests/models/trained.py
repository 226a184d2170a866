"""Networks as a training leaves them, for whoever compares what is saved with what is loaded."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def trained(network: Network) -> Network:
    """With other weights and statistics than any new network has, so that each of them matters; in evaluation mode."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim < 2:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return network.eval()
