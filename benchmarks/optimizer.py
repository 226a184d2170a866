"""What does a step of LARS cost?

    python benchmarks/optimizer.py

One step on the parameters of an encoder and its projection head, CPU time, with momentum 0.9 and weight decay 1e-6 on
the weights; biases and normalisation are neither decayed nor adapted. SGD, fused and as torch chooses by default, is
what memory traffic costs anyway. Beside a batch's forward and backward pass any of these is small. On a GPU the order
may be another: lightly and lightning-bolts wait for the norms on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from runner import OURS, Contest, Work, parse, parser, run
from torch.optim import Optimizer

from simclr_lightning import SimCLR
from simclr_lightning.optim import parameter_groups

Groups = list[dict[str, Any]]


def ours(groups: Groups) -> Optimizer:
    from simclr_lightning.optim import LARS

    return LARS(groups, lr=0.3, momentum=0.9)


def lightly(groups: Groups) -> Any:
    from lightly.utils.lars import LARS  # type: ignore[import-not-found]

    return LARS(groups, lr=0.3, momentum=0.9)


def lightning_bolts(groups: Groups) -> Any:
    from pl_bolts.optimizers.lars import LARS  # type: ignore[import-not-found]

    return LARS(groups, lr=0.3, momentum=0.9)


def timm(foreach: bool, groups: Groups) -> Any:
    from timm.optim.lars import Lars

    return Lars(groups, lr=0.3, momentum=0.9, foreach=foreach)


def sgd(fused: bool | None, groups: Groups) -> Optimizer:
    return torch.optim.SGD(groups, lr=0.3, momentum=0.9, fused=fused)


CONTESTANTS: dict[str, Callable[[Groups], Any]] = {
    OURS: ours,
    "lightly": lightly,
    "lightning-bolts": lightning_bolts,
    "timm, foreach": partial(timm, True),
    "timm, loop": partial(timm, False),
    "SGD": partial(sgd, None),
    "SGD, fused": partial(sgd, True),
}


def step(make: Callable[[Groups], Any], compiled: bool, encoder: str) -> Work:
    model = SimCLR(encoder)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = make(parameter_groups(model, weight_decay=1e-6))
    if not compiled:
        return Work(optimizer.step)
    optimizer.step()  # makes the momentum buffers, without which another program would be compiled
    return Work(torch.compile(optimizer.step))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--encoders", nargs="+", default=["resnet50"], help="names of encoders")
    options = parse(made)
    contestants = {name: partial(step, make, False) for name, make in CONTESTANTS.items()}
    if not options.short:
        contestants[f"{OURS}, torch.compile"] = partial(step, ours, True)
    title = "One step of LARS on the parameters of an encoder and its projection head"
    run(options, Contest("optimizer", title, contestants, options.encoders, "encoder"))


if __name__ == "__main__":
    main()
