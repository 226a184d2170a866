"""A linear classifier that learns from features as they come, in any number of processes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_lightning.distributed import all_reduce_sum
from simclr_lightning.errors import InputError
from simclr_lightning.metrics import RightAnswers
from simclr_lightning.precision import full_precision

UNLABELLED = -1


class LinearClassifier:
    """Softmax regression in float32, with its optimizer and its right answers.

    It is no part of any module and takes no random numbers.

    The optimizer is Adam. Pooled features after BatchNorm and ReLU are not normalised: all are positive, with a mean of
    about 0.4. A step of Adam moves every weight by up to the rate, hence a score by up to 0.4 F times the rate: with
    one rate for all, a classifier of few features crawls and one of many never settles (measured on 2048 features, 100
    overlapping classes: 39 % right at a rate of 0.01, 48 % at 0.001). At 2 / F, which is 0.001 for a ResNet-50,
    classifiers of 32 to 2048 features come most of the way in 150 steps and settle within about 0.01 of the best rate.
    SGD is as fast, but its best rate depends on the scale of the features too, and it diverges where Adam is noisy.

    Args:
        num_features: length F of the features.
        num_classes: labels are 0 to ``num_classes - 1``; all negative ones mean unlabelled.
        learning_rate: of Adam, constant. None: 2 / ``num_features``.
        weight_decay: L2 penalty of Adam.
        device: of the features.

    Attributes:
        train_answers: top1, and top5 if there are more classes, of the labelled rows of :meth:`learn`.
        val_answers: the same, of :meth:`judge`. Both add up over processes when they are computed.

    Example:
        >>> classifier = LinearClassifier(2, 2, device=torch.device("cpu"))
        >>> loss, labelled = classifier.learn(torch.eye(2), torch.tensor([1, -1]))
        >>> labelled, classifier.has_learned()
        (tensor(1.), True)
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        device: torch.device,
    ) -> None:
        # Memory without initialisation, which would take random numbers; zeros are equal on all processes.
        self.head = nn.Linear(num_features, num_classes, device="meta", dtype=torch.float32).to_empty(device=device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        rate = 2 / num_features if learning_rate is None else learning_rate
        # eps: a gradient that is zero but for rounding, such as that of balanced classes' biases, is no full step.
        self.optimizer = torch.optim.Adam(self.head.parameters(), lr=rate, weight_decay=weight_decay, eps=1e-5)
        self.train_answers = RightAnswers(num_classes, device)
        self.val_answers = RightAnswers(num_classes, device)
        self._highest = torch.tensor(UNLABELLED, device=device)

    def has_learned(self) -> bool:
        """Whether it is more than the zeros it started as."""
        return bool(self.head.weight.any())

    def learn(self, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One step on the mean loss of all labelled rows of all processes; nothing is learned if there are none.

        Args:
            features: (M, F) of any floating-point type; M may differ between processes.
            targets: (M,) integers.

        Returns:
            Over all processes: mean loss () before the step, 0 without labels, and number () of labelled rows.
        """
        targets = self._valid(targets)
        parameters = list(self.head.parameters())
        with torch.enable_grad(), full_precision(features.device):
            scores = self._scores(features)
            loss = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="sum")
            gradients = torch.autograd.grad(loss, parameters)
        labelled = self.train_answers.update(scores.detach(), targets)[:1]
        # Sums and counts travel together, so that processes may hold different numbers of labels, or none.
        sums = all_reduce_sum(
            torch.cat([*(gradient.flatten() for gradient in gradients), loss.detach()[None], labelled])
        )
        means, labelled = sums[:-1] / sums[-1].clamp(min=1), sums[-1]
        *mean_gradients, loss = torch.split_with_sizes(means, [*(parameter.numel() for parameter in parameters), 1])
        for parameter, gradient in zip(parameters, mean_gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.optimizer.step()
        return loss.squeeze(), labelled

    def judge(self, features: Tensor, targets: Tensor) -> None:
        """Classify rows that are not learned from.

        Args:
            features: (M, F) of any floating-point type.
            targets: (M,) integers.
        """
        with torch.no_grad(), full_precision(features.device):
            self.val_answers.update(self._scores(features), self._valid(targets))

    def check_labels(self) -> None:
        """Look at the labels that were seen so far.

        Raises:
            InputError: if one is too large.
        """
        highest, classes = int(self._highest), self.head.out_features
        if highest >= classes:
            raise InputError(
                f"A picture has the label {highest}, but the probe has {classes} classes, labels 0 to {classes - 1}: "
                f"pass num_classes={highest + 1} or more to OnlineLinearProbe, or correct the labels."
            )

    def state_dict(self) -> dict[str, Any]:
        """Weights and Adam's moments; not its rate and decay, which are what the user of this run typed."""
        return {"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()["state"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another one of the same size was.

        Raises:
            InputError: if it had another size, or is no state of one.
        """
        if not {"head", "optimizer"} <= state.keys():
            raise InputError(
                f"The saved probe has no head and no optimizer, but {', '.join(sorted(state))}: the checkpoint is "
                "broken. Give OnlineLinearProbe another `name` to start it afresh."
            )
        if state["head"]["weight"].shape != self.head.weight.shape:
            classes, features = state["head"]["weight"].shape
            raise InputError(
                f"The saved probe tells {classes} classes apart by {features} features, this run has "
                f"{self.head.out_features} classes and {self.head.in_features} features. Give OnlineLinearProbe "
                "another `name` to start it afresh."
            )
        self.head.load_state_dict(state["head"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": deepcopy(state["optimizer"]), "param_groups": groups})

    def _scores(self, features: Tensor) -> Tensor:
        scores: Tensor = self.head(features.detach().float())
        return scores

    def _valid(self, targets: Tensor) -> Tensor:
        """Targets without those too large, which stop some devices with an unreadable error; check_labels tells."""
        self._highest = torch.maximum(self._highest, targets.amax())
        return targets.clamp(min=UNLABELLED).where(targets < self.head.out_features, UNLABELLED)
