"""What does NT-Xent cost, forward and backward, as the batch grows?

    python benchmarks/loss.py --views 512 2048 8192

Projections of 128 numbers, temperature 0.1, one thread. Time is CPU time; memory is the peak above the projections.
Below a thousand views the loss is small beside any encoder, whoever computes it; above, contestants that keep matrices
of views x views pay with memory traffic first and with memory next. loss_accuracy.py asks who computes it right.

The table "losses" has all our losses, each beside that of another package where one has it; "times ours" is times our
NT-Xent there, at temperature 0.5.
"""

from __future__ import annotations

from functools import partial

import torch
from runner import OURS, Contest, Work, parse, parser, run

from losses import BEYOND, CONTESTANTS, Kind

DIMENSION = 128
TEMPERATURE = 0.1
TEMPERATURE_BEYOND = 0.5  # of the official code of hard negatives; time does not depend on it


def forward_and_backward(kind: Kind, temperature: float, views: int) -> Work:
    loss = kind(temperature)
    first, second = torch.randn(2, views // 2, DIMENSION).requires_grad_().unbind()
    return Work(lambda: torch.autograd.grad(loss(first, second), [first, second]))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--views", type=int, nargs="+", default=[512, 2048, 8192], help="two for each picture")
    made.add_argument("--large", type=int, nargs="*", default=[65536], help="views for ours alone, not with --short")
    options = parse(made)
    title = "NT-Xent, forward and backward: CPU time and memory, 128 dimensions"
    contestants = {name: partial(forward_and_backward, kind, TEMPERATURE) for name, kind in CONTESTANTS.items()}
    contests = [Contest("loss", title, contestants, options.views, "views")]
    if options.large and not options.short:
        ours = {OURS: contestants[OURS]}
        contests.append(Contest("loss_large", f"{title}: ours alone", ours, options.large, "views"))
    beyond = {
        name: partial(forward_and_backward, kind, TEMPERATURE_BEYOND)
        for kinds in BEYOND.values()
        for name, kind in kinds.items()
    }
    losses = "All losses, forward and backward: CPU time and memory, 128 dimensions; times our NT-Xent"
    contests.append(Contest("losses", losses, beyond, options.views, "views"))
    run(options, *contests)


if __name__ == "__main__":
    main()
