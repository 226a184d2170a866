"""Counts of right answers are those of torchmetrics, to the last bit."""

from __future__ import annotations

import pytest
import torch
from tests.distributed.harness import run_in_processes
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from simclr_lightning.distributed import rank, world_size
from simclr_lightning.metrics import RightAnswers

CPU = torch.device("cpu")


def batches(classes: int, dtype: torch.dtype = torch.float32, number: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Scores with ties and targets of which about every fourth is missing; the third batch has no label."""
    generator = torch.Generator().manual_seed(classes)
    found = []
    for batch in range(number):
        scores = torch.randint(-3, 4, (37, classes), generator=generator).to(dtype) / 3
        targets = torch.randint(classes, (37,), generator=generator)
        missing = torch.rand(37, generator=generator) < (1.1 if batch == 2 else 0.25)
        found.append((scores, targets.masked_fill(missing, -1)))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 5, 6, 7, 100])
def test_they_are_those_of_torchmetrics(classes: int, dtype: torch.dtype) -> None:
    answers = RightAnswers(classes, CPU)
    ranks = (1, 5) if classes > 5 else (1,)
    references = (
        {
            f"top{k}": MulticlassAccuracy(classes, top_k=k, average="micro", ignore_index=-1, validate_args=False)
            for k in ranks
        }
        if classes > 1
        else {}
    )
    for scores, targets in batches(classes, dtype):
        counts = answers.update(scores, targets)
        assert counts[0] == (targets >= 0).sum()
        for reference in references.values():
            reference.update(scores, targets)
    if classes == 1:
        assert answers.compute()["top1"] == 1
        return
    assert answers.compute().keys() == references.keys()
    for name, value in answers.compute().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, references[name].compute())


def test_without_a_label_there_is_no_share() -> None:
    answers = RightAnswers(7, CPU)
    assert answers.compute() == {}
    answers.update(torch.rand(3, 7), torch.full((3,), -1))
    assert answers.compute() == {}


def test_they_count_anew() -> None:
    answers = RightAnswers(2, CPU)
    answers.update(torch.eye(2), torch.tensor([1, 0]))
    answers.reset()
    answers.update(torch.eye(2), torch.tensor([0, 1]))
    assert answers.compute()["top1"] == 1


def test_a_score_that_is_no_number_is_not_among_the_right_ones() -> None:
    answers = RightAnswers(3, CPU)
    answers.update(torch.tensor([[0.0, float("nan"), 1.0]]), torch.tensor([2]))
    assert answers.compute()["top1"] == 0


def shared(classes: int = 7) -> dict[str, float]:
    """Batches go round the processes; of five, two processes get three and two."""
    answers = RightAnswers(classes, CPU)
    for scores, targets in batches(classes)[rank() :: world_size()]:
        answers.update(scores, targets)
    return {name: value.item() for name, value in answers.compute().items()}


def test_processes_add_up() -> None:
    assert run_in_processes(shared, 2) == 2 * run_in_processes(shared, 1)
    assert run_in_processes(shared, 6) == 6 * run_in_processes(shared, 1)  # one has no batch
