"""Hard and debiased negatives (Robinson et al. 2021, Chuang et al. 2020)."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum, mean_over_processes, rank, row_counts, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.losses.base import ContrastiveLoss
from simclr_lightning.losses.classes import numbered
from simclr_lightning.losses.negatives import log_negatives_and_positives
from simclr_lightning.losses.nt_xent import check_arguments, ordered_pairs, scaled_views
from simclr_lightning.losses.watch import ContrastiveMetrics, chance_loss

_OFTEN = 0.1  # share of clamped pairs beyond which the estimate is hardly one


class HardNegativeNTXent(ContrastiveLoss):
    """NT-Xent whose negatives count more the harder they are, and are corrected for pictures of the same class.

    With N negatives, their sum is replaced by N times an estimate of the mean over pictures of other classes
    (Robinson et al. 2021, equation 4 and its practical form)::

        A = sum of exp((1 + beta) s_ij)     B = sum of exp(beta s_ij)     M = N A / B
        G = max((M - tau_plus N exp(s_ip)) / (1 - tau_plus), N exp(-1 / temperature))
        loss = log(1 + G exp(-s_ip))

    ``beta=0`` is the debiased loss (Chuang et al. 2020); with ``tau_plus=0``, too, it is NT-Xent. It is the mean over
    all ordered pairs of the views of a picture, which are never negatives of each other.

    Example:
        >>> loss = HardNegativeNTXent(beta=1.0, tau_plus=0.1, temperature=0.5)
        >>> loss(torch.randn(2, 8, 16)).shape
        torch.Size([])

    Args:
        temperature: positive number; the official code of both papers uses 0.5.
        beta: concentration on hard negatives, at least 0; 1 in the official code.
        tau_plus: probability that a negative is of the same class, at least 0 and below 1, such as one over the number
            of classes. A value that is too large is told by a warning: the estimate would often be negative.
        gather: whether the pictures of all processes are negatives.
        gradient_reduction: what the training strategy does with the gradients of the processes, mean or sum.

    Raises:
        InputError: if an argument is out of its range.
    """

    takes: ClassVar[tuple[str, ...]] = ("groups", "large")

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        beta: float = 1.0,
        tau_plus: float = 0.1,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        check_arguments(temperature, gradient_reduction)
        if not (math.isfinite(beta) and beta >= 0):
            raise InputError(f"beta must be a number of at least 0, got {beta}: the official code uses 1.")
        if not 0 <= tau_plus < 1:
            raise InputError(f"tau_plus must be at least 0 and below 1, got {tau_plus}: the official code uses 0.1.")
        self.temperature = temperature
        self.beta = beta
        self.tau_plus = tau_plus
        self.gather = gather
        self.gradient_reduction = gradient_reduction
        self._clamped: Tensor | None = None  # of the last batch, on its device
        self._warned = False

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
        views = scaled_views(projections, self.temperature)
        count = len(views)
        concentrates = self.beta > torch.finfo(torch.float32).tiny  # else 0, which times -inf is no number
        log_sums, positives = log_negatives_and_positives(
            views.flatten(0, 1),
            gather=self.gather,
            count=count,
            bound=1 / self.temperature,
            large=large,
            groups=groups,
            powers=(1 + self.beta, self.beta) if concentrates else (1.0,),
        )
        with torch.autocast(views.device.type, enabled=False):
            log_n = self._log_number(views, groups, count if large is None else large)
            log_sums = log_sums.view(len(log_sums), count, -1)
            log_m = log_sums[0] + log_n - log_sums[1] if concentrates else log_sums[0]
            if groups is not None:  # a picture whose group is the whole batch is contrasted with nothing
                log_m = torch.where(log_sums[0] > -math.inf, log_m, -math.inf)
            log_m, similarity = ordered_pairs(log_m, positives, large)
            log_g = log_m if self.tau_plus == 0 else self._debiased(log_m, similarity, log_n)
            terms = F.logsigmoid(similarity - log_g)  # log(1 + G exp(-s)) is softplus(log G - s)
            return -(mean_over_processes(terms, reduction=self.gradient_reduction) if self.gather else terms.mean())

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float]:
        """At chance, and where pairs are identical and everything else is orthogonal."""
        number = views * (pictures - 1)
        estimate = (1 - self.tau_plus * math.exp(1 / self.temperature)) / (1 - self.tau_plus)
        least = math.exp(-1 / self.temperature)
        return chance_loss(pictures, views), math.log1p(number * max(estimate, least) * math.exp(-1 / self.temperature))

    def metrics(self, projections: Tensor) -> ContrastiveMetrics:
        """As of any loss; and a warning, once, if the estimate was clamped for more than a tenth of the last pairs."""
        if self._clamped is not None and not self._warned:
            clamped = float(all_reduce_sum(self._clamped) / world_size() if self.gather else self._clamped)
            self._warned = clamped > _OFTEN
            if self._warned and rank() == 0:
                warnings.warn(
                    f"HardNegativeNTXent finds no other class among the negatives of {clamped:.0%} of the pairs, and "
                    f"sets their sum to its least value: tau_plus = {self.tau_plus} is too large for these pictures. "
                    "Choose a smaller one (--model.loss.tau_plus), or a higher temperature.",
                    stacklevel=2,
                )
        return super().metrics(projections)

    def extra_repr(self) -> str:
        """Arguments that decide the loss, for ``print(model)``."""
        return f"temperature={self.temperature}, beta={self.beta}, tau_plus={self.tau_plus}, gather={self.gather}"

    def _log_number(self, views: Tensor, groups: Tensor | None, large: int) -> Tensor | float:
        """Logarithm of the number of negatives, of all views or of each picture's (N,)."""
        if groups is None:
            pictures = sum(row_counts(views[0])) if self.gather else views.shape[1]
            return math.log(large * (pictures - 1)) if pictures > 1 else -math.inf
        classes, members = numbered(groups, gather=self.gather)
        return (large * (len(members) - members[classes])).to(views.dtype).log()

    def _debiased(self, log_m: Tensor, similarity: Tensor, log_n: Tensor | float) -> Tensor:
        """``log G``."""
        log_share = similarity + (log_n + math.log(self.tau_plus)) - log_m
        inside = log_share < 0
        estimate = log_m - math.log1p(-self.tau_plus)
        estimate = estimate + torch.log1p(-torch.where(inside, log_share, -math.inf).exp())
        least = log_n - 1 / self.temperature
        inside = inside & (estimate > least)
        self._clamped = 1 - inside.to(log_m.dtype).mean().detach()
        debiased: Tensor = torch.where(inside, estimate, least)
        return debiased
