"""What does NT-Xent cost, forward and backward, as the batch grows?

    python benchmarks/loss.py --views 512 2048 8192

Projections of 128 numbers, temperature 0.1, one thread. Time is CPU time; memory is the peak above the projections.
Below a thousand views the loss is small beside any encoder, whoever computes it; above, contestants that keep matrices
of views x views pay with memory traffic first and with memory next. loss_accuracy.py asks who computes it right.
"""

from __future__ import annotations

from functools import partial

import torch
from runner import OURS, Contest, Work, parse, parser, run

from losses import CONTESTANTS

DIMENSION = 128
TEMPERATURE = 0.1


def forward_and_backward(name: str, views: int) -> Work:
    loss = CONTESTANTS[name](TEMPERATURE)
    first, second = torch.randn(2, views // 2, DIMENSION).requires_grad_().unbind()
    return Work(lambda: torch.autograd.grad(loss(first, second), [first, second]))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--views", type=int, nargs="+", default=[512, 2048, 8192], help="two for each picture")
    made.add_argument("--large", type=int, nargs="*", default=[65536], help="views for ours alone, not with --short")
    options = parse(made)
    title = "NT-Xent, forward and backward: CPU time and memory, 128 dimensions"
    contestants = {name: partial(forward_and_backward, name) for name in CONTESTANTS}
    contests = [Contest("loss", title, contestants, options.views, "views")]
    if options.large and not options.short:
        ours = {OURS: contestants[OURS]}
        contests.append(Contest("loss_large", f"{title}: ours alone", ours, options.large, "views"))
    run(options, *contests)


if __name__ == "__main__":
    main()
