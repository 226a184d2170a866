"""The supervised contrastive loss (Khosla et al. 2020): pictures of one class attract each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum, mean_over_processes
from simclr_lightning.errors import InputError
from simclr_lightning.losses.base import ContrastiveLoss
from simclr_lightning.losses.classes import numbered
from simclr_lightning.losses.negatives import log_negatives_and_positives
from simclr_lightning.losses.nt_xent import check_arguments, scaled_views


class SupConNTXent(ContrastiveLoss):
    """Supervised contrastive loss (Khosla et al. 2020, equation 2), for any share of labelled pictures.

    The positives of a view are all other views of all pictures of its class, P(i); its loss is
    ``-mean over p in P(i) of log(exp(s_ip) / sum over a != i of exp(s_ia))``: the mean is outside the logarithm, the
    denominator holds all other views, positives too. A picture without a label, -1, is a class of its own: where
    nothing is labelled, the loss of two views is NT-Xent.

    Pictures of one group are no negatives of each other, whatever their classes: of its own group, the denominator
    holds the views of the picture itself alone.

    Small local crops are views like any others here. Memory grows with the number of views, not with its square: the
    similarities to a class are those to its sum.

    Example:
        >>> loss = SupConNTXent(temperature=0.1)
        >>> loss(torch.randn(2, 8, 16), targets=torch.tensor([0, 0, 1, 1, 2, -1, -1, -1])).shape
        torch.Size([])

    Args:
        temperature: positive number; the paper uses 0.1.
        gather: whether the pictures of all processes are contrasted.
        gradient_reduction: what the training strategy does with the gradients of the processes, mean or sum.

    Raises:
        InputError: if the temperature is not a positive number, or the reduction is unknown.
    """

    takes: ClassVar[tuple[str, ...]] = ("targets", "groups")

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        check_arguments(temperature, gradient_reduction)
        self.temperature = temperature
        self.gather = gather
        self.gradient_reduction = gradient_reduction

    def forward(self, projections: Tensor, targets: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
        """Loss () of projections (V, N, D), float32 or float64.

        Args:
            projections: (V, N, D), any floating dtype.
            targets: (N,) int64 class indices, -1 where unlabelled; None: nothing is labelled.
            groups: (N,) int64 groups of pictures that are no negatives of each other; None: there are none.

        Raises:
            InputError: if shapes are wrong or, in one process on a CPU, a projection is not finite.
            TypeError: if the projections are not floating-point numbers.
        """
        views = scaled_views(projections, self.temperature)
        count, pictures = views.shape[:2]
        if targets is None:
            targets = torch.full((pictures,), -1, device=views.device)
        if targets.shape != (pictures,):
            raise InputError(f"Expected a target for each of {pictures} pictures (N,), got {tuple(targets.shape)}.")
        log_r, positives = log_negatives_and_positives(
            views.flatten(0, 1), gather=self.gather, count=count, bound=1 / self.temperature, groups=groups
        )
        with torch.autocast(views.device.type, enabled=False):
            log_r = log_r.view(count, -1)
            own = _own_similarities(positives, count)
            to_own = own.logsumexp(1)
            members, of_class = self._of_class(views, targets)
            # Of a picture that is alone in its class exactly, so that nothing of a loss near zero is lost to rounding.
            of_own = own.mean(1)
            attraction = torch.where(members > 1, of_class, of_own)
            # log(r + exp(own)) - attraction, and the first is softplus(log r - own) + own
            terms = to_own - attraction - F.logsigmoid(to_own - log_r)
            return mean_over_processes(terms, reduction=self.gradient_reduction) if self.gather else terms.mean()

    def extra_repr(self) -> str:
        """Arguments that decide the loss, for ``print(model)``."""
        return f"temperature={self.temperature}, gather={self.gather}"

    def _of_class(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures in each picture's class (N,), and mean similarity to the other views of the class (V, N)."""
        classes, members = numbered(targets, gather=self.gather)
        similarities = _ClassSimilarity.apply(views, classes, len(members), self.gather)
        members = members[classes]
        return members, cast("Tensor", similarities) / (members * len(views) - 1)


def _own_similarities(positives: Tensor, count: int) -> Tensor:
    """(V, V - 1, N) similarities of each view to the others of its picture, of (P, N) of the pairs."""
    pairs = list(zip(combinations(range(count), 2), positives.unbind(), strict=True))
    return torch.stack([torch.stack([s for pair, s in pairs if view in pair]) for view in range(count)])


class _ClassSimilarity(torch.autograd.Function):
    """Sum of the similarities to the other views of the class, (V, N), of views (V, N, D) of classes (N,).

    As in ``log_negatives``, the gradient is that of the sum of what all processes differentiate.
    """

    @staticmethod
    def forward(ctx: Any, views: Tensor, classes: Tensor, number: int, gather: bool) -> Tensor:
        ctx.number, ctx.gather = number, gather
        others = _sums(views, classes, number, gather) - views
        ctx.save_for_backward(views, classes, others)
        similarities: Tensor = torch.linalg.vecdot(views, others)
        return similarities

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A contrastive loss can be differentiated only once: call backward() or autograd.grad() without "
                "create_graph=True."
            )
        views, classes, others = ctx.saved_tensors
        weighted = gradient[..., None] * views
        as_column = _sums(weighted, classes, ctx.number, ctx.gather) - weighted
        return as_column.addcmul_(gradient[..., None], others), None, None, None


def _sums(views: Tensor, classes: Tensor, number: int, gather: bool) -> Tensor:
    """For each picture the sum (N, D) of all views of its class."""
    sums = views.new_zeros(number, views.shape[-1]).index_add_(0, classes, views.sum(0))
    return (all_reduce_sum(sums) if gather else sums)[classes]
