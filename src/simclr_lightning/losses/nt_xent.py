"""NT-Xent, the loss of SimCLR (equation 1 and Algorithm 1 of Chen et al. 2020)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from simclr_lightning.losses.tiles import TiledNTXent

# exp() of float32 overflows at 88: below this the sum over all negatives is safe without a running maximum.
_SAFE_EXPONENT = 80.0
_NO_LENGTH = 1e-12  # as in F.normalize


def nt_xent(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float = 0.1,
    normalize: bool = True,
    official_scale: bool = False,
    gather: bool = False,
    gradient_reduction: Literal["mean", "sum"] = "mean",
    check_finite: bool = True,
) -> Tensor:
    r"""NT-Xent: the normalised, temperature-scaled cross-entropy between two views of every picture.

    For a view i whose other view is p, the loss is
    ``-log(exp(s_ip) / sum over k != i of exp(s_ik))`` with ``s_ij = cosine(z_i, z_j) / temperature``; the result is
    its mean over all 2N views (Algorithm 1). It is computed tile by tile in float32 (float64 for float64 input),
    outside autocast, and tiles are computed again in the backward pass, so memory grows with N, not with N squared.
    The positive pair is kept out of the sum, which keeps the gradient accurate when the loss is nearly zero.

    Args:
        first: (N, D) projections of the first views, any floating dtype.
        second: (N, D) projections of the second views: ``second[i]`` belongs to the same picture as ``first[i]``.
        temperature: positive number; the paper's default is 0.1 (Table 5).
        normalize: whether projections are scaled to unit length, so that similarities are cosines. False uses raw dot
            products ("no l2" in Table 5).
        official_scale: twice the paper's loss, as the official code computes it (``mean(loss_a + loss_b)``).
        gather: whether the views of all processes are negatives. The loss is then that of the global batch, equal
            on every process; processes may hold different numbers of pictures. Every process must call it.
        gradient_reduction: what the training strategy does with the gradients of the processes. "mean"
            (DistributedDataParallel, FSDP, DeepSpeed) or "sum"; only read where ``gather`` is set. Either way the
            result is exactly the gradient of the global batch.
        check_finite: whether to raise an error where a projection is NaN or infinite, at the price of one
            synchronisation with the device.

    Returns:
        The loss, a scalar (), float32 or float64. It can be differentiated once.

    Raises:
        ValueError: if the temperature is not a positive number, the reduction is unknown, shapes are wrong, or a
            projection is not finite.
        TypeError: if the projections are not floating-point tensors of one dtype.
    """
    check_temperature(temperature)
    if gradient_reduction not in ("mean", "sum"):
        raise ValueError(f"gradient_reduction must be 'mean' or 'sum', got {gradient_reduction!r}.")
    _check_projections(first, second)
    if check_finite:
        _check_finite(first, second)
    with torch.autocast(first.device.type, enabled=False):
        rows = torch.cat([first, second])
        rows = rows if rows.dtype == torch.float64 else rows.float()
        if normalize:
            lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            # A zero row has no direction: it stays zero, and so does its gradient.
            views = rows * (temperature**-0.5 / lengths.masked_fill(lengths < _NO_LENGTH, math.inf))
        else:
            views = rows * temperature**-0.5
        bounded = normalize and 1 / temperature + math.log(len(rows)) < _SAFE_EXPONENT
        loss: Tensor = TiledNTXent.apply(views, gather, gradient_reduction == "mean", bounded)
    return 2 * loss if official_scale else loss


class NTXentLoss(nn.Module):
    """NT-Xent as a module: see :func:`nt_xent` for the arguments and what is computed.

    Args:
        temperature: positive number.
        normalize: whether similarities are cosines.
        official_scale: twice the paper's loss, as in the official code.
        gather: whether the views of all processes are negatives; nothing changes on one process.
        gradient_reduction: what the training strategy does with the gradients of the processes.
        check_finite: whether NaN and infinite projections are an error.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        normalize: bool = True,
        official_scale: bool = False,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.normalize = normalize
        self.official_scale = official_scale
        self.gather = gather
        self.gradient_reduction = gradient_reduction
        self.check_finite = check_finite

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Loss () of the projections ``first`` (N, D) and ``second`` (N, D)."""
        return nt_xent(
            first,
            second,
            temperature=self.temperature,
            normalize=self.normalize,
            official_scale=self.official_scale,
            gather=self.gather,
            gradient_reduction=self.gradient_reduction,
            check_finite=self.check_finite,
        )

    def extra_repr(self) -> str:
        """Arguments that decide the loss, for ``print(model)``."""
        return f"temperature={self.temperature}, normalize={self.normalize}, gather={self.gather}"


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless ``temperature`` is a positive, finite number."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"temperature must be a positive number, got {temperature}. The paper uses 0.1 on ImageNet and 0.5 on "
            "CIFAR-10."
        )


def _check_projections(first: Tensor, second: Tensor) -> None:
    if not (first.is_floating_point() and first.dtype == second.dtype):
        raise TypeError(
            f"first and second must be floating-point tensors of one dtype, got {first.dtype} and {second.dtype}."
        )
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            "first and second must both have the shape (N, D), one row a picture, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    if first.numel() == 0:
        raise ValueError(f"NT-Xent needs at least one picture and one dimension, got the shape {tuple(first.shape)}.")


def _check_finite(first: Tensor, second: Tensor) -> None:
    first, second = first.detach(), second.detach()
    if math.isfinite(first.sum() + second.sum()):  # one pass; a NaN or an infinity in a sum never vanishes
        return
    bad_rows = ~(first.isfinite().all(1) & second.isfinite().all(1))
    if bad_rows.any():  # else the sum alone overflowed
        pictures = bad_rows.nonzero().flatten().tolist()
        raise ValueError(
            f"The projections of {len(pictures)} of {len(first)} pictures are NaN or infinite (first at row "
            f"{pictures[0]}): training has diverged. Usual causes: a learning rate that is too high or has no "
            "warm-up, or float16 overflow (try --trainer.precision bf16-mixed or 32-true)."
        )
