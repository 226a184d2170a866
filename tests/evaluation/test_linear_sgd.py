"""The paper's linear evaluation on features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from simclr_lightning.data import GlobalBatchSampler
from simclr_lightning.evaluation import Features
from simclr_lightning.evaluation.linear_sgd import sgd_accuracy

Make = Callable[..., Any]


def silent(progress: str) -> None:
    """Takes a line and forgets it."""


def blobs(count: int, distance: float, seed: int) -> Features:
    """Three classes around the corners of a cube."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    return Features(distance * torch.eye(5)[targets] + torch.randn(count, 5, generator=generator), targets)


def test_a_separable_problem_is_solved_exactly(trainer: Make) -> None:
    train, test = blobs(60, 50.0, seed=0), blobs(30, 50.0, seed=1)
    assert sgd_accuracy(train, test, trainer(), seed=0, tell=silent) == 1.0


def test_the_classifier_is_that_of_a_loop_in_float64(trainer: Make) -> None:
    train, test = blobs(600, 1.5, seed=0), blobs(300, 1.5, seed=1)
    ours = sgd_accuracy(train, test, trainer(), seed=4, tell=silent)

    weights = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights, biases], lr=1.0, momentum=0.9, nesterov=True)
    sampler = GlobalBatchSampler(
        train.targets, 256, num_replicas=1, rank=0, shuffle=True, drop_last=True, seed=4
    )  # fmt: skip
    total, step = 90 * 2, 0
    for epoch in range(90):
        sampler.set_epoch(epoch)
        places = torch.tensor([key.place for key in sampler])
        for batch in torch.split(places, 256):
            optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * step / total))
            scores = train.features[batch].double() @ weights.T + biases
            weights.grad, biases.grad = torch.autograd.grad(
                F.cross_entropy(scores, train.targets[batch]), [weights, biases]
            )
            optimizer.step()
            step += 1
    scores = test.features.double() @ weights.detach().T + biases.detach()
    expected = (scores.argmax(1) == test.targets).double().mean().item()
    assert 0.6 < expected < 0.95
    assert abs(ours - expected) < 1e-6


def test_few_labels_make_one_batch(trainer: Make) -> None:
    told: list[str] = []
    train = blobs(12, 50.0, seed=0)
    assert sgd_accuracy(train, train, trainer(), seed=0, tell=told.append) == 1.0
    assert told[-1] == "epoch 90 of 90"
