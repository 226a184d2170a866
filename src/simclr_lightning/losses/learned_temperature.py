"""NT-Xent whose temperature is learned with the weights (Radford et al. 2021)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from simclr_lightning.errors import check_number
from simclr_lightning.losses.base import ContrastiveLoss
from simclr_lightning.losses.nt_xent import NTXentLoss, check_arguments, scaled_views
from simclr_lightning.losses.watch import chance_loss, floor_loss


class LearnedTemperatureNTXent(ContrastiveLoss):
    """NT-Xent whose temperature is trained with the weights, by its logarithm (Radford et al. 2021, section 2.4).

    The source trains a scale of image and text; here similarities of views are scaled. As pairs are found more easily,
    the temperature falls: it is logged as ``train/contrast_temperature``. Losses of different temperatures cannot be
    compared. In 46 epochs of CIFAR-10 it fell to 0.04, and features were worse than those of 0.2: it is for short runs.

    Example:
        >>> loss = LearnedTemperatureNTXent(temperature=0.2)
        >>> projections = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
        >>> torch.testing.assert_close(loss(projections), NTXentLoss(0.2)(projections))
        >>> round(loss.temperature, 6)
        0.2

    Args:
        temperature: positive number, at the start.
        relative_rate: learning rate of its logarithm, as a multiple of that of the weights, with which it goes through
            warm-up and decay. At the rate of 1 that small batches on small pictures are given, 0.01 moves it from 0.2
            to 0.06 in 700 steps. Of AdamW, whose steps do not depend on the gradient's size, the root counts.
        least: the temperature never falls below, as the source's does not below 0.01.
        gather: whether the pictures of all processes are negatives.
        gradient_reduction: what the training strategy does with the gradients of the processes, mean or sum.

    Raises:
        InputError: if a number is not positive, the temperature is below the least one, or the reduction is unknown.
    """

    takes: ClassVar[tuple[str, ...]] = ("groups", "large")

    def __init__(
        self,
        temperature: float = 0.2,
        *,
        relative_rate: float = 0.01,
        least: float = 0.01,
        gather: bool = True,
        gradient_reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        check_arguments(temperature, gradient_reduction)
        check_number("relative_rate", relative_rate, "model.loss.relative_rate 0.01", above=0)
        check_number("least", least, "model.loss.least 0.01", above=0, most=temperature)
        self.gather = gather
        self._logarithm, self._least = math.log(temperature), math.log(least)
        self._speed = math.sqrt(relative_rate)  # of the gradient and of the step
        self._loss = NTXentLoss(1.0, normalize=False, gather=gather, gradient_reduction=gradient_reduction)
        self.moved = nn.Parameter(torch.zeros(1))  # FSDP2 splits no scalars
        self.now: Tensor
        self.register_buffer("now", torch.tensor([temperature]))  # which every process has, also where it is split

    @property
    def temperature(self) -> float:  # type: ignore[override]  # what other losses are given
        """That of the last step; the host waits for the device."""
        return float(self.now)

    def forward(self, projections: Tensor, groups: Tensor | None = None, large: int | None = None) -> Tensor:
        """Loss () of projections (V, N, D), as that of :meth:`NTXentLoss.forward` at the temperature of now."""
        views = scaled_views(projections, 1.0, normalize=True)
        with torch.autocast(views.device.type, enabled=False):
            # Both sides of every similarity have a root of 1 / temperature, and with it a part of its gradient.
            logarithm = (self._logarithm + self._speed * self.moved.to(views.dtype)).clamp(min=self._least)
            views = views * (-0.5 * logarithm).exp()
            self.now.copy_(logarithm.detach().exp())
        loss: Tensor = self._loss(views, groups=groups, large=large)
        return loss

    def watched(self, projections: Tensor) -> dict[str, Tensor]:
        """Accuracy and entropy, and the temperature of which they are."""
        return {**super().watched(projections), "temperature": self.now[0].clone()}

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float]:
        """At chance, and where pairs are identical and everything else is orthogonal, at the temperature of now."""
        return chance_loss(pictures, views), floor_loss(pictures, self.temperature, views)

    def extra_repr(self) -> str:
        """The temperature, for ``print(model)``."""
        return f"temperature={self.temperature:.4f}, gather={self.gather}"
