"""NT-Xent, the loss of SimCLR (equation 1 and Algorithm 1 of Chen et al. 2020)."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from simclr_lightning.distributed import mean_over_processes, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.losses.base import ContrastiveLoss
from simclr_lightning.losses.negatives import log_negatives_and_positives
from simclr_lightning.losses.watch import chance_loss, check_finite, check_temperature, floor_loss

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
) -> Tensor:
    r"""NT-Xent: the normalised, temperature-scaled cross-entropy between two views of every picture.

    For a view i whose other view is p, the loss is
    ``-log(exp(s_ip) / sum over k != i of exp(s_ik))`` with ``s_ij = cosine(z_i, z_j) / temperature``; the result is
    its mean over all 2N views (Algorithm 1). It is computed tile by tile in float32 (float64 for float64 input),
    outside autocast, and tiles are computed again in the backward pass, so memory grows with N, not with N squared.
    The positive pair is kept out of the sum, which keeps the gradient accurate when the loss is nearly zero.

    Example:
        >>> first, second = torch.eye(4), torch.eye(4)
        >>> round(nt_xent(first, second, temperature=0.5).item(), 3)  # log(1 + 6 exp(-2))
        0.594

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

    Returns:
        The loss, a scalar (), float32 or float64. It can be differentiated once.

    Raises:
        InputError: if the temperature is not a positive number, the reduction is unknown, shapes are wrong, or, in
            one process on a CPU, a projection is not finite. (On other devices the check would wait, and one process
            of several would leave the others waiting; ``SimCLR`` makes it at logged steps.)
        TypeError: if the projections are not floating-point tensors of one dtype.
    """
    if not first.is_floating_point() or first.dtype != second.dtype:
        raise TypeError(
            f"first and second must be floating-point tensors of one dtype, got {first.dtype} and {second.dtype}."
        )
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            "first and second must both have the shape (N, D), one row a picture, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    check_arguments(temperature, gradient_reduction)
    projections = torch.stack([first, second])
    return _nt_xent(projections, temperature, normalize, official_scale, gather, gradient_reduction)


class NTXentLoss(ContrastiveLoss):
    """NT-Xent as a module: see :func:`nt_xent` for what is computed.

    With more than two views of a picture it is the mean over all ordered pairs of them; the other views of a picture
    are never negatives.

    Example:
        >>> loss = NTXentLoss(temperature=0.2)
        >>> loss(torch.randn(2, 8, 16)).shape
        torch.Size([])
        >>> chance, floor = loss.expected(pictures=8)

    Args:
        temperature: positive number. The paper uses 0.1 on ImageNet (Table 5) and 0.5 on CIFAR-10 (B.9).
        normalize: whether similarities are cosines; False uses raw dot products (Table 5).
        official_scale: twice the paper's loss, as the official code computes it.
        gather: whether the pictures of all processes are negatives, as in the paper; nothing changes on one process.
        gradient_reduction: what the training strategy does with the gradients of the processes, mean or sum.

    Raises:
        InputError: if the temperature is not a positive number, or the reduction is unknown.
    """

    takes: ClassVar[tuple[str, ...]] = ("groups", "large")

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        normalize: bool = True,
        official_scale: bool = False,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        check_arguments(temperature, gradient_reduction)
        self.temperature = temperature
        self.normalize = normalize
        self.official_scale = official_scale
        self.gather = gather
        self.gradient_reduction = gradient_reduction

    def forward(self, projections: Tensor, groups: Tensor | None = None, large: int | None = None) -> Tensor:
        """Loss () of projections (V, N, D), float32 or float64.

        Args:
            projections: (V, N, D), any floating dtype.
            groups: (N,) int64 groups of pictures that are no negatives of each other; None: there are none.
            large: how many views, the first ones, are negatives and positives; None: all.

        Raises:
            InputError: if shapes are wrong or, in one process on a CPU, a projection is not finite.
            TypeError: if the projections are not floating-point numbers.
        """
        return _nt_xent(
            projections,
            self.temperature,
            self.normalize,
            self.official_scale,
            self.gather,
            self.gradient_reduction,
            groups,
            large,
        )

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float]:
        """At chance, and where pairs are identical and everything else is orthogonal."""
        scale = 2 if self.official_scale else 1
        return scale * chance_loss(pictures, views), scale * floor_loss(pictures, self.temperature, views)

    def extra_repr(self) -> str:
        """Arguments that decide the loss, for ``print(model)``."""
        return f"temperature={self.temperature}, normalize={self.normalize}, gather={self.gather}"


def _nt_xent(
    projections: Tensor,
    temperature: float,
    normalize: bool,
    official_scale: bool,
    gather: bool,
    gradient_reduction: Literal["mean", "sum"],
    groups: Tensor | None = None,
    large: int | None = None,
) -> Tensor:
    if normalize and projections.device.type != "cpu":
        views = cast("Tensor", _Scaled.apply(_checked(projections), temperature))
    else:
        views = scaled_views(projections, temperature, normalize=normalize)
    number = len(views)
    bound = 1 / temperature if normalize else None
    log_r, positives = log_negatives_and_positives(
        views.flatten(0, 1), gather=gather, count=number, bound=bound, large=large, groups=groups
    )
    with torch.autocast(views.device.type, enabled=False):
        # The loss is softplus(log r - positive); F.softplus is exact only up to 20.
        log_r, positives = ordered_pairs(log_r.view(number, -1), positives, large)
        terms = F.logsigmoid(positives - log_r)
        if gather and world_size() > 1:
            loss = -mean_over_processes(terms, reduction=gradient_reduction)
        else:  # -mean(), whose backward pass would take a kernel more
            loss = terms.sum() / -terms.numel()
    return 2 * loss if official_scale else loss


def ordered_pairs(log_r: Tensor, positives: Tensor, large: int | None = None) -> tuple[Tensor, Tensor]:
    """``log r_i`` and ``s_ip`` of all ordered pairs (i, p) of views of a picture, which broadcast against each other.

    Example:
        >>> log_r, positives = ordered_pairs(torch.randn(3, 8), torch.randn(3, 8))
        >>> log_r.shape, positives.shape
        (torch.Size([6, 8]), torch.Size([6, 8]))
        >>> ordered_pairs(torch.randn(4, 8), torch.randn(5, 8), large=2)[0].shape  # 2 of large views, 4 of local crops
        torch.Size([6, 8])

    Args:
        log_r: (V, N).
        positives: (P, N) of the pairs of which the first is large, in the order of ``itertools.combinations``.
        large: how many views, the first ones, are positives; None: all.
    """
    large = len(log_r) if large is None else large
    if len(log_r) == large == 2:
        return log_r, positives
    pairs = [pair for pair in combinations(range(len(log_r)), 2) if pair[0] < large]
    wanted = [
        (log_r[anchor], similarity)
        for (one, other), similarity in zip(pairs, positives.unbind(), strict=True)
        for anchor, positive in ((one, other), (other, one))
        if positive < large
    ]
    rows, similarities = zip(*wanted, strict=True)
    return torch.stack(rows), torch.stack(similarities)


def check_arguments(temperature: float, gradient_reduction: str) -> None:
    """Raise InputError unless the temperature is a positive number and the reduction is known."""
    check_temperature(temperature)
    if gradient_reduction not in ("mean", "sum"):
        raise InputError(f"gradient_reduction must be 'mean' or 'sum', got {gradient_reduction!r}.")


def scaled_views(projections: Tensor, temperature: float, *, normalize: bool = True) -> Tensor:
    """Projections whose dot products are similarities over the temperature, as ``log_negatives`` wants them.

    Example:
        >>> views = scaled_views(torch.randn(2, 8, 16), temperature=0.5)
        >>> bool(torch.linalg.vecdot(views[0], views[0]).allclose(torch.tensor(2.0)))
        True

    Args:
        projections: (V, N, D), any floating dtype.
        temperature: positive number.
        normalize: whether they are scaled to unit length, so that similarities are cosines.

    Returns:
        (V, N, D) float32, or float64 for float64 input, computed outside autocast.

    Raises:
        InputError: if there are fewer than two views, no picture or no dimension, or, in one process on a CPU, a
            projection is not finite.
        TypeError: if the projections are not floating-point numbers.
    """
    rows = _checked(projections)
    with torch.autocast(rows.device.type, enabled=False):
        scale = math.pow(temperature, -0.5)
        if not normalize:
            return rows * scale
        lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        # A zero row has no direction: it stays zero, and so does its gradient.
        scaled: Tensor = rows * (scale / lengths.masked_fill(lengths < _NO_LENGTH, math.inf))
    return scaled


def _checked(projections: Tensor) -> Tensor:
    """Projections in float32, or float64, of which views can be made."""
    if not projections.is_floating_point():
        raise TypeError(f"Projections must be floating-point tensors, got {projections.dtype}.")
    if projections.ndim != 3 or len(projections) < 2 or not projections.numel():
        raise InputError(
            "Projections must have the shape (V, N, D): two or more views, of at least one picture, in at least one "
            f"dimension; got {tuple(projections.shape)}."
        )
    if projections.device.type == "cpu":
        check_finite(projections)
    return projections if projections.dtype == torch.float64 else projections.float()


class _Scaled(torch.autograd.Function):
    """Normalised :func:`scaled_views` in less than half the kernels, for which small batches wait on accelerators."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, temperature: float) -> Tensor:
        lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        lengths = torch.threshold_(lengths, _NO_LENGTH, math.inf).mul_(math.sqrt(temperature))
        scaled = rows / lengths
        ctx.save_for_backward(scaled, lengths)
        ctx.temperature = temperature
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        scaled, lengths = ctx.saved_tensors
        along = (gradient * scaled).sum(-1, keepdim=True)
        return torch.addcmul(gradient, scaled, along, value=-ctx.temperature).div_(lengths), None
