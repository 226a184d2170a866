"""Classifies the same queries on 1, 2 and 3 processes, each of which takes its share, and saves what each of them got.

``python knn_worker.py FOLDER`` writes ``FOLDER/<processes>-<rank>.pt``; ``test_knn_processes.py`` compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from simclr_lightning.evaluation import Features, knn_accuracy
from simclr_lightning.metrics import knn, knn_predict

WORLD_SIZES = (1, 2, 3)
QUERIES = (41, 2)  # not a multiple of the processes; fewer than three processes
WEIGHTS: tuple[knn.Weights, ...] = ("similarity", "uniform")


def results() -> dict[str, Tensor]:
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


def work(local_rank: int, processes: int, folder: Path) -> None:
    """One process: with others where there is more than one."""
    if processes > 1:
        # A file instead of a port, since ports may be taken.
        init = f"file://{folder / f'{processes}.init'}"
        dist.init_process_group("gloo", init_method=init, rank=local_rank, world_size=processes)
    torch.save(results(), folder / f"{processes}-{local_rank}.pt")
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    for number in WORLD_SIZES:
        start_processes(work, args=(number, Path(sys.argv[1])), nprocs=number, start_method="fork")  # type: ignore[no-untyped-call]
