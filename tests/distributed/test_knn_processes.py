"""Several processes that share the queries of kNN predict what one process predicts."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from tests.distributed.harness import run_in_processes
from torch import Tensor

from simclr_lightning.evaluation import Features, knn_accuracy
from simclr_lightning.metrics import knn, knn_predict

QUERIES = (41, 2)  # not a multiple of the processes; fewer than three processes
WEIGHTS: tuple[knn.Weights, ...] = ("similarity", "uniform")
Results = dict[int, list[dict[str, Tensor]]]  # number of processes -> what each rank returned


def classify() -> dict[str, Tensor]:
    """Predictions and accuracies, and how many queries this process classified itself."""
    generator = torch.Generator().manual_seed(0)
    bank = Features(torch.randn(90, 6, generator=generator), torch.randint(4, (90,), generator=generator))
    found = {}
    for queries in QUERIES:
        test = Features(torch.randn(queries, 6, generator=generator), torch.randint(4, (queries,), generator=generator))
        for weights in WEIGHTS:
            vote = "_weighted_vote" if weights == "similarity" else "_plain_vote"
            with mock.patch.object(knn, vote, wraps=getattr(knn, vote)) as counted:
                predicted = knn_predict(test.features, *bank[:2], num_classes=4, k=10, weights=weights, sharded=True)
            accuracy = knn_accuracy(bank, test, k=10, weights=weights, sharded=True)
            found[f"{queries} {weights}"] = predicted
            found[f"{queries} {weights} accuracy"] = torch.tensor(accuracy)
            found[f"{queries} {weights} share"] = torch.tensor(sum(len(call.args[0]) for call in counted.mock_calls))
    return found


@pytest.fixture(scope="module")
def results() -> Results:
    return {processes: run_in_processes(classify, processes) for processes in (1, 2, 3)}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("queries", "shares"), [(41, {2: [21, 20], 3: [14, 14, 13]}), (2, {2: [1, 1], 3: [1, 1, 0]})])
@pytest.mark.parametrize("processes", [2, 3])
def test_all_processes_get_all_predictions_in_order(
    results: Results, processes: int, queries: int, shares: dict[int, list[int]], weights: str
) -> None:
    case = f"{queries} {weights}"
    (alone,) = results[1]
    assert len(alone[case]) == int(alone[f"{case} share"]) == queries
    for rank in results[processes]:
        assert torch.equal(rank[case], alone[case])
        assert torch.equal(rank[f"{case} accuracy"], alone[f"{case} accuracy"])
    assert [int(rank[f"{case} share"]) for rank in results[processes]] == shares[processes]


def test_predictions_tell_order(results: Results) -> None:
    predicted = results[1][0]["41 uniform"]
    assert not torch.equal(predicted, predicted.flip(0))
    assert set(predicted.tolist()) == {0, 1, 2, 3}
