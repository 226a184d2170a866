"""Logistic regression with an L2 penalty, by L-BFGS, on any device and for as many features as fit in its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]
from torch import Tensor

from simclr_lightning.errors import InputError

FLOAT64_VALUES = 2**23
"""Up to as many features (64 MiB) are kept and computed with in float64; there float32 would not be faster."""

_BLOCK_VALUES = 2**20
"""Features, or scores, that are computed with at a time: the memory needed beside the features stays small."""


class LogisticClassifier(NamedTuple):
    """What logistic regression has learned.

    Attributes:
        weights: (C, F) float64, for the features as they are; C is 1 where there are two classes.
        biases: (C,) float64.
        classes: (K,) int64, the classes in the order of the scores. None where every column of targets is a problem.
        converged: whether no derivative is above the tolerance, or else the objective fell no more in float64.

    Example:
        >>> sign = LogisticClassifier(torch.tensor([[1.0]]), torch.zeros(1), torch.tensor([3, 7]), True)
        >>> sign.predict(torch.tensor([[-2.0], [5.0]]))
        tensor([3, 7])
    """

    weights: Tensor
    biases: Tensor
    classes: Tensor | None
    converged: bool

    def scores(self, features: Tensor) -> Tensor:
        """Scores (N, C) of features (N, F), float64 and on the CPU: log-odds where C is 1 or no classes are told."""
        return torch.cat([self._scores(block).cpu() for block in _blocks(features, len(self.biases))])

    def predict(self, features: Tensor) -> Tensor:
        """Classes (N,) int64 of features (N, F), on the CPU.

        Raises:
            TypeError: if it was learned from targets (N, C), which may name several classes of a picture.
        """
        if self.classes is None:
            raise TypeError("A picture may show several classes: compare its scores with a threshold.")
        places = []
        for block in _blocks(features, len(self.biases)):
            scores = self._scores(block)
            places.append((scores[:, 0] > 0).long().cpu() if len(self.biases) == 1 else scores.argmax(1).cpu())
        return self.classes.cpu()[torch.cat(places)]

    def _scores(self, features: Tensor) -> Tensor:
        return F.linear(features.to(self.weights.device, self.weights.dtype), self.weights, self.biases)


class LogisticRegression:
    """L2-regularised logistic regression.

    It minimises sum(E) + strength * |W|^2 for cross-entropies E of the pictures, in nats, and weights W; biases are
    free. With targets (N,) there is one multinomial problem (for two classes a binary one, with one row of weights);
    with targets (N, C) there is one binary problem a column. Targets of -1 do not count.

    Features count as they are. Inside, a copy of them is centred and divided by one number, so that their mean variance
    is 1: the minimum is the same, but L-BFGS gets there in fewer steps. This copy is all the memory that grows with
    their number: objective and gradient are computed block by block, on the device. Up to ``FLOAT64_VALUES`` features
    all of it is float64. More of them are kept and computed with in float32, sums of blocks in float64; then the
    gradient is checked in float64, and where a derivative is above the tolerance, L-BFGS goes on in float64, block by
    block.

    Args:
        features: (M, F) float, which are not changed.
        rows: (N,) int64, which of them to learn from, in this order; None: all.
        device: where to compute; None: where the features are. (Where that has no float64, it is the CPU.)

    Raises:
        InputError: if features are not finite.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> classifier = LogisticRegression(features).fit(torch.tensor([0, 0, 1, 1]), strength=0.1)
        >>> classifier.predict(torch.tensor([[0.5], [2.5]]))
        tensor([0, 1])
        >>> bool((classifier.weights * 1.5 + classifier.biases).abs() < 1e-3)  # the boundary is in the middle
        True
    """

    def __init__(
        self, features: Tensor, *, rows: Tensor | None = None, device: torch.device | str | None = None
    ) -> None:
        device = features.device if device is None else torch.device(device)
        device = device if _knows_float64(device) else torch.device("cpu")
        count = len(features) if rows is None else len(rows)
        dtype = torch.float64 if count * features.shape[1] <= FLOAT64_VALUES else torch.float32
        self._inputs = torch.empty(count, features.shape[1], dtype=dtype, device=device)
        first = 0
        for block in _blocks(self._inputs):
            places = slice(first, first + len(block))
            block.copy_(features[places if rows is None else rows[places]])
            first += len(block)
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self._mean = sum((block.double().sum(0) for block in _blocks(self._inputs)), zero) / count
        if not self._mean.isfinite().all():
            raise InputError("The features hold NaN or infinite values: has the encoder diverged?")
        self._inputs -= self._mean.to(dtype)
        squares = sum(float(block.double().square().sum()) for block in _blocks(self._inputs))
        self.scale = (squares / self._inputs.numel()) ** 0.5 or 1.0  # 0 where all pictures look the same
        self._inputs /= self.scale

    def fit(
        self,
        targets: Tensor,
        strength: float,
        *,
        start: LogisticClassifier | None = None,
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
    ) -> LogisticClassifier:
        """Find the minimum.

        Args:
            targets: (N,) int64 classes, or (N, C) int64: 1 where a picture shows the class, 0 where it does not. Those
                of -1 do not count.
            strength: of the penalty, above 0.
            start: where the search starts: the solution of a stronger penalty saves steps. None: at zero.
            tolerance: the search ends where no derivative of the objective over N is above it, in units of the features
                inside.
            max_iterations: of L-BFGS, after which it ends as well.

        Raises:
            InputError: if there are fewer than two classes to learn.
        """
        problem = _Problem.of(targets.to(self._inputs.device))
        penalty = (2 * strength / (self.scale**2 * problem.known)).numpy(force=True)[:, None]
        parameters = np.zeros((problem.rows, self._inputs.shape[1] + 1))
        if start is not None:
            weights, biases = start.weights.to(self._mean.device), start.biases.to(self._mean.device)
            parameters[:, :-1] = (weights * self.scale).numpy(force=True)
            parameters[:, -1] = (biases + weights @ self._mean).numpy(force=True)

        def objective(flat: NDArray[Any], dtype: torch.dtype) -> tuple[float, NDArray[Any]]:
            found = flat.reshape(parameters.shape)
            loss, gradient = self._mean_loss(problem, torch.from_numpy(found), dtype)
            gradient[:, :-1] += penalty * found[:, :-1]
            return loss + 0.5 * float((penalty * found[:, :-1] ** 2).sum()), gradient.ravel()

        flat, left, converged = parameters.ravel(), max_iterations, False
        for dtype in dict.fromkeys((self._inputs.dtype, torch.float64)):
            options = {"maxiter": left, "gtol": tolerance, "maxls": 50, "ftol": 64 * np.finfo(float).eps}
            result = minimize(objective, flat, (dtype,), method="L-BFGS-B", jac=True, options=options)
            flat, left = result.x, left - result.nit
            converged = bool(np.abs(objective(flat, torch.float64)[1]).max() <= tolerance)
            converged |= dtype == torch.float64 and result.success  # rounding is all that is left
            if converged or left <= 0:
                break
        found = torch.from_numpy(flat.reshape(parameters.shape)).to(self._mean.device)
        weights = found[:, :-1] / self.scale
        return LogisticClassifier(weights, found[:, -1] - weights @ self._mean, problem.classes, converged)

    def _mean_loss(self, problem: _Problem, parameters: Tensor, dtype: torch.dtype) -> tuple[float, NDArray[Any]]:
        """Mean cross-entropy and its gradient (C, F + 1), without the penalty; sums of blocks are float64."""
        parameters = parameters.to(self._inputs.device)
        weights, biases = parameters.to(dtype).tensor_split([-1], dim=1)
        gradient = torch.zeros_like(parameters)
        losses = torch.zeros_like(problem.known)
        first = 0
        for block in _blocks(self._inputs, problem.rows):
            inputs = block.to(dtype)
            scores = torch.addmm(biases.T, inputs, weights.T)
            losses += problem.losses(scores, slice(first, first + len(block)))  # scores are now their derivatives
            gradient[:, :-1] += scores.T @ inputs
            gradient[:, -1] += scores.sum(0, dtype=torch.float64)
            first += len(block)
        gradient /= problem.known[:, None]
        return float((losses / problem.known).sum()), gradient.numpy(force=True)


class _Problem(NamedTuple):
    """Targets, as the scores need them.

    Attributes:
        rows: of weights.
        targets: (N,) int64 places among the classes, or (N, C) bool: a binary problem in every column.
        counts: (N, 1) or (N, C) bool, which of them count; None: all.
        known: (1,) or (C,) float64, how many of them count.
        classes: (K,), see ``LogisticClassifier``.
    """

    rows: int
    targets: Tensor
    counts: Tensor | None
    known: Tensor
    classes: Tensor | None

    @classmethod
    def of(cls, targets: Tensor) -> _Problem:
        columns = targets if targets.ndim == 2 else targets[:, None]
        known = columns >= 0
        counts = None if known.all() else known
        if targets.ndim == 2:
            for number, column in enumerate(columns.T):
                shown, others = int((column == 1).sum()), int((column == 0).sum())
                if not shown or not others:
                    raise InputError(
                        f"A classifier needs training pictures that show class {number} and others that do not, got "
                        f"{shown} and {others}."
                    )
            return cls(columns.shape[1], columns == 1, counts, known.sum(0).double(), None)
        classes = torch.unique(targets[known[:, 0]])
        if len(classes) < 2:
            found = f"all training pictures have {int(classes[0])}" if len(classes) else "there are none"
            raise InputError(f"A linear classifier needs training labels of two classes at least; {found}.")
        places = torch.searchsorted(classes, targets.contiguous())  # else a warning of torch, of every other label say
        if len(classes) == 2:
            return cls(1, (places == 1)[:, None], counts, known.sum(0).double(), classes)
        return cls(len(classes), places, counts, known.sum(0).double(), classes)

    def losses(self, scores: Tensor, rows: slice) -> Tensor:
        """Sums, as ``known`` has them, of the losses of pictures with scores (n, C), which become their derivatives."""
        targets = self.targets[rows]
        if targets.ndim == 2:
            shown = targets.to(scores.dtype)
            losses = F.binary_cross_entropy_with_logits(scores, shown, reduction="none")
            scores.sigmoid_().sub_(shown)
        else:
            scores.sub_(scores.amax(1, keepdim=True))
            right = scores.gather(1, targets[:, None])
            sums = scores.exp_().sum(1, keepdim=True)
            losses = sums.log() - right
            scores.div_(sums).scatter_add_(1, targets[:, None], torch.full_like(sums, -1))
        if self.counts is not None:
            losses = losses * self.counts[rows]
            scores.mul_(self.counts[rows])
        return losses.sum(0, dtype=torch.float64)


def _blocks(features: Tensor, scores: int = 1) -> Iterator[Tensor]:
    """Rows of the features, so many that neither they nor their scores take much memory."""
    return iter(torch.split(features, max(1, _BLOCK_VALUES // max(features.shape[1], scores, 1))))


def _knows_float64(device: torch.device) -> bool:
    """Some accelerators do not; the convergence is checked in it."""
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except TypeError:
        return False
    return True
