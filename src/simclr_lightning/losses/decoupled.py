"""The decoupled contrastive loss (Yeh et al. 2022): NT-Xent without the positive pair in the denominator."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from simclr_lightning.distributed import mean_over_processes, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.losses.base import ContrastiveLoss
from simclr_lightning.losses.negatives import log_negatives_and_positives
from simclr_lightning.losses.nt_xent import check_arguments, ordered_pairs, scaled_views


class DecoupledNTXent(ContrastiveLoss):
    """Decoupled contrastive loss, DCL: ``log r_i - s_ip`` (Yeh et al. 2022, equation 6).

    NT-Xent is ``log(r_i + exp(s_ip)) - s_ip``, where the positive pair in the sum takes away from its own gradient, the
    more the fewer negatives there are. Without it small batches lose little. As in the paper the loss may be negative.

    It is the mean over all ordered pairs of the views of a picture, which are never negatives of each other.

    Example:
        >>> loss = DecoupledNTXent(temperature=0.1)
        >>> loss(torch.randn(2, 8, 16)).shape
        torch.Size([])

    Args:
        temperature: positive number.
        mises_fisher_sigma: None: all pairs weigh the same. A positive number: DCLW, in which ``s_ip`` is weighted by
            ``2 - exp(cosine_ip / sigma) / mean of exp(cosine / sigma) over all pairs``, so that pairs that are far
            apart count more (von Mises-Fisher, section 3.3; the paper uses 0.5). No gradient flows through weights.
        gather: whether the pictures of all processes are negatives.
        gradient_reduction: what the training strategy does with the gradients of the processes, mean or sum.

    Raises:
        InputError: if the temperature or sigma is not a positive number, or the reduction is unknown.
    """

    takes: ClassVar[tuple[str, ...]] = ("groups", "large")

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        mises_fisher_sigma: float | None = None,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        check_arguments(temperature, gradient_reduction)
        if mises_fisher_sigma is not None and not (math.isfinite(mises_fisher_sigma) and mises_fisher_sigma > 0):
            raise InputError(
                f"mises_fisher_sigma must be a positive number, got {mises_fisher_sigma}: the paper uses 0.5. "
                "Leave it out for equal weights."
            )
        self.temperature = temperature
        self.mises_fisher_sigma = mises_fisher_sigma
        self.gather = gather
        self.gradient_reduction = gradient_reduction

    def forward(self, projections: Tensor, groups: Tensor | None = None, large: int | None = None) -> Tensor:
        """Loss () of projections (V, N, D), float32 or float64.

        Args:
            projections: (V, N, D), any floating dtype.
            groups: (N,) int64 groups of pictures that are no negatives of each other; None: there are none.
            large: how many views, the first ones, are negatives and positives; None: all.

        Raises:
            InputError: if shapes are wrong, there is one picture alone or, in one process on a CPU, a projection is not
                finite.
            TypeError: if the projections are not floating-point numbers.
        """
        views = scaled_views(projections, self.temperature)
        count, pictures = views.shape[:2]
        if pictures * (world_size() if self.gather else 1) < 2:
            raise InputError("One picture has no negatives, without which this loss is -inf: use two at least.")
        log_r, positives = log_negatives_and_positives(
            views.flatten(0, 1),
            gather=self.gather,
            count=count,
            bound=1 / self.temperature,
            large=large,
            groups=groups,
        )
        with torch.autocast(views.device.type, enabled=False):
            log_r, positives = ordered_pairs(log_r.view(count, -1), positives, large)
            if self.mises_fisher_sigma is not None:
                positives = positives * self._weights(positives.detach() * self.temperature, self.mises_fisher_sigma)
            terms = log_r - positives
            if groups is not None:  # a picture whose group is the whole batch is contrasted with nothing
                terms = torch.where(log_r > -math.inf, terms, 0.0)
            return self._mean(terms)

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float]:
        """At chance, and where pairs are identical and everything else is orthogonal."""
        log_negatives = math.log(max(views * (pictures - 1), 1))
        return log_negatives, log_negatives - 1 / self.temperature

    def extra_repr(self) -> str:
        """Arguments that decide the loss, for ``print(model)``."""
        return f"temperature={self.temperature}, mises_fisher_sigma={self.mises_fisher_sigma}, gather={self.gather}"

    def _weights(self, cosines: Tensor, sigma: float) -> Tensor:
        exponentials = (cosines / sigma).exp()
        return 2 - exponentials / self._mean(exponentials)

    def _mean(self, values: Tensor) -> Tensor:
        return mean_over_processes(values, reduction=self.gradient_reduction) if self.gather else values.mean()
