"""What do micro-batches save, and what do they cost?

    python benchmarks/micro_batch.py

Loss and gradients of one training step: peak memory above model, gradients and views, and CPU time per view. The whole
batch's memory grows with the batch; with ``micro_batch_size`` it stays near that of one micro-batch. Its price is a
second forward pass, at most a third of the time. The second table is a batch that does not fit into memory whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from runner import OURS, Contest, Figures, Work, parse, parser, run, timed

from simclr_lightning import SimCLR
from simclr_lightning.views import ViewBatch


class Silent(SimCLR):
    """Without a Trainer there is nobody to log to."""

    def log(self, *_: Any, **__: Any) -> None:
        """Drop it."""

    def log_dict(self, *_: Any, **__: Any) -> None:
        """Drop it."""


def step(encoder: str, side: int, micro_batch_size: int | None, pictures: int) -> Work:
    model = Silent(encoder, image_size=side, micro_batch_size=micro_batch_size)
    batch = ViewBatch.of(*torch.rand(2, pictures, 3, side, side))

    def gradients() -> None:
        model.zero_grad(set_to_none=False)
        model.training_step(batch, 0)["loss"].backward()  # type: ignore[no-untyped-call]

    return Work(gradients, 2 * pictures)


def measure_once(setup: Callable[[int], Work], case: int, seconds: float) -> Figures:
    """One step of minutes, which no warm-up would change."""
    return timed(setup(case), seconds, warm_up=False)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--encoder", default="resnet18", help="name of the encoder")
    made.add_argument("--side", type=int, default=32, help="of the views, in pixels")
    made.add_argument("--micro-batch", type=int, help="pictures in it (64; with --short 16)")
    made.add_argument("--pictures", type=int, nargs="+", help="in the batch (128 256 512; with --short 32 64)")
    made.add_argument("--large", type=int, default=4096, help="pictures of the second table, not with --short")
    options = parse(made)
    size = options.micro_batch or (16 if options.short else 64)
    pictures = options.pictures or ([32, 64] if options.short else [128, 256, 512])
    title = f"Gradients of one step: {options.encoder}, {options.side} x {options.side} pixels"
    whole = partial(step, options.encoder, options.side, None)
    contestants = {OURS: whole, f"{OURS}, micro_batch_size={size}": partial(step, options.encoder, options.side, size)}
    contests = [Contest("micro_batch", title, contestants, pictures, "pictures", item="view")]
    if not options.short:
        alone = dict(list(contestants.items())[1:])
        contests.append(
            Contest("micro_batch_large", title, alone, [options.large], "pictures", item="view", measure=measure_once)
        )
    run(options, *contests)


if __name__ == "__main__":
    main()
