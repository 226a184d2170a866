"""NT-Xent, forward and backward: ours against cross-entropy over the masked similarity matrix.

    python benchmarks/loss.py --views 512 2048 8192

Contestants alternate in fresh processes with one thread each; the table has medians over the rounds. Time is the
process's CPU time, so that a shared machine disturbs it little; memory is the peak above that of the projections.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.losses import nt_xent

TEMPERATURE = 0.1


def masked_cross_entropy(first: Tensor, second: Tensor) -> Tensor:
    views = F.normalize(torch.cat([first, second]))
    logits = views @ views.T / TEMPERATURE
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views)).roll(len(first)))


def ours(first: Tensor, second: Tensor) -> Tensor:
    return nt_xent(first, second, temperature=TEMPERATURE)


CONTESTANTS = {"simclr_lightning": ours, "masked cross-entropy": masked_cross_entropy}


def measure(name: str, views: int, steps: int = 5) -> dict[str, float]:
    torch.set_num_threads(1)
    first, second = torch.randn(2, views // 2, 128).requires_grad_().unbind()
    loss, times = CONTESTANTS[name], []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(steps):
        start = time.process_time()
        torch.autograd.grad(loss(first, second), [first, second])
        times.append(time.process_time() - start)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"ms": 1000 * statistics.median(times), "MiB": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[512, 2048, 8192], help="rows of the similarity matrix")
    parser.add_argument("--rounds", type=int, default=3, help="how often the contestants alternate")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "VIEWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], int(arguments.measure[1]))))
        return
    print(f"torch {torch.__version__}, one thread, dimension 128, median of {arguments.rounds} rounds\n")
    print("| views | " + " | ".join(f"{name}, ms | MiB" for name in CONTESTANTS) + " | time ratio |")
    print("|---" * (2 + 2 * len(CONTESTANTS)) + "|")
    for views in arguments.views:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
        for _ in range(arguments.rounds):
            for name, figures in rounds.items():
                command = [sys.executable, __file__, "--measure", name, str(views)]
                figures.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        median = {
            name: {unit: statistics.median(one[unit] for one in figures) for unit in ("ms", "MiB")}
            for name, figures in rounds.items()
        }
        cells = " | ".join(f"{figures['ms']:.1f} | {figures['MiB']:.0f}" for figures in median.values())
        mine, theirs = (figures["ms"] for figures in median.values())
        print(f"| {views} | {cells} | {theirs / mine:.1f} |", flush=True)


if __name__ == "__main__":
    main()
