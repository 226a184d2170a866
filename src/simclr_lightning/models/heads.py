"""The projection head g of SimCLR, from features to the space of the contrastive loss."""

from __future__ import annotations

from torch import Tensor, nn

from simclr_lightning.errors import InputError, check_number

MOST = 2**20
"""Layers have no more features than that: what is larger was not meant, and no memory holds it."""


def check_head(layers: int, hidden: int | None, dimension: int) -> None:
    """Raise InputError unless a projection head can have so many layers and features.

    Example:
        >>> check_head(layers=2, hidden=None, dimension=0)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: projection_dim is 0: choose a number of at least 1 and at most 1,048,576 \
(--model.projection_dim 128).
    """
    check_number("projection_layers", layers, "model.projection_layers 2", least=0, most=8)
    check_number("projection_hidden", hidden, "model.projection_hidden 512", least=1, most=MOST)
    check_number("projection_dim", dimension, "model.projection_dim 128", least=1, most=MOST)


class ProjectionHead(nn.Module):
    """Projection head g: features h (N, in_features) to projections z (N, out_features).

    Every layer is a Linear without bias and a BatchNorm1d; a ReLU follows all but the last one. The last BatchNorm has
    a gain but no shift. The paper writes z = W2 ReLU(W1 h); the BatchNorms are in its official code alone. Linear
    weights start from a normal distribution of mean 0 and standard deviation 0.01, as there.

    The layers are in ``blocks``, so that ``head.blocks[:1]`` is the part that SimCLRv2 keeps for fine-tuning.

    Source: SimCLR (arXiv 2002.05709), section 2.1 and appendix B, and its official code; number of layers: 2 in that
    paper, 3 in SimCLRv2 (arXiv 2006.10029); 0 and 1 are the ablations of figure 8.

    Args:
        in_features: number of features F of the encoder.
        hidden_features: width of the layers before the last one; None: ``in_features``. Unused below two layers.
        out_features: dimension D of the projections. Unused without layers.
        layers: number of layers: 0 is the identity, 1 linear, 2 the head of the paper, 3 that of SimCLRv2.

    Raises:
        InputError: if ``layers`` is negative or a width is not positive.

    Attributes:
        in_features: as given.
        out_features: as given; without layers it equals ``in_features``.

    Example:
        >>> import torch
        >>> head = ProjectionHead(512, out_features=128, layers=2)
        >>> head(torch.rand(4, 512)).shape
        torch.Size([4, 128])
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int = 128,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if layers < 0:
            raise InputError(f"layers is {layers}, expected 0 (no head), 1 (linear), 2 (SimCLR), 3 (SimCLRv2) or more")
        hidden_features = in_features if hidden_features is None else hidden_features
        for name, width in (
            ("in_features", in_features),
            ("hidden_features", hidden_features),
            ("out_features", out_features),
        ):
            if width < 1:
                raise InputError(f"{name} is {width}, expected at least 1")

        self.in_features = in_features
        self.out_features = out_features if layers else in_features
        widths = [in_features, *[hidden_features] * (layers - 1), out_features]
        self.blocks = nn.Sequential()
        for layer in range(layers):
            linear = nn.Linear(widths[layer], widths[layer + 1], bias=False)
            nn.init.normal_(linear.weight, std=0.01)
            norm = nn.BatchNorm1d(widths[layer + 1])
            if layer == layers - 1:
                norm.register_parameter("bias", None)  # kept by SyncBatchNorm.convert_sync_batchnorm
                self.blocks.append(nn.Sequential(linear, norm))
            else:
                self.blocks.append(nn.Sequential(linear, norm, nn.ReLU(inplace=True)))

    def forward(self, features: Tensor) -> Tensor:
        """Project features (N, in_features) to (N, out_features), not yet normalised to unit length."""
        projections: Tensor = self.blocks(features)
        return projections
