"""``torch.compile`` of an encoder, and what stands in its way."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn


def compile_in_place(encoder: nn.Module) -> None:
    """Let ``torch.compile`` have the encoder; its names in checkpoints stay, and nothing is compiled before it is used.

    SyncBatchNorm breaks the graph at every layer (pytorch issue 161302), of which there is a warning.

    Args:
        encoder: any module.

    Example:
        >>> encoder = nn.Linear(2, 2)
        >>> compile_in_place(encoder)
        >>> list(encoder.state_dict())
        ['weight', 'bias']
    """
    breaks = sum(isinstance(module, nn.SyncBatchNorm) for module in encoder.modules())
    if breaks:
        rank_zero_warn(
            f"compile_encoder gains little here: torch.compile breaks the graph at each of the {breaks} SyncBatchNorm "
            "layers. Leave it out, or give every device its own statistics (--sync_batchnorm false)."
        )
    encoder.compile()
