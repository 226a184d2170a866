"""How exact is the gradient of NT-Xent?

    python benchmarks/loss_accuracy.py

Relative error |g - g'| / |g'| of the gradient, g' being that of the formula in float64. Projections are Gaussian;
"unrelated" views are independent of each other, as at the start of training, "alike" ones have cosines of 0.9, as at
its end, where the loss is nearly zero. Under bf16 autocast the projections are numbers that bfloat16 holds exactly, so
that the error is the loss's own. 1e-6 is rounding; from 1e-2 on, training sees another gradient. "inf": the loss or
the gradient is not finite, or the computation stopped with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import report
import torch
import torch.nn.functional as F
from runner import parse, parser
from torch import Tensor

from losses import CONTESTANTS, LossFunction

TEMPERATURES = {
    "unrelated": (0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0),
    "alike": (0.02, 0.05, 0.1, 0.5, 1.0, 10.0),  # below, the gradient is too small for float32
}
CASES = [
    (views, precision, temperature)
    for precision in ("float32", "bf16 autocast")
    for views, temperatures in TEMPERATURES.items()
    for temperature in temperatures
]


def projections(views: str, pictures: int) -> Tensor:
    """(2, pictures, 128) float64, numbers that bfloat16 holds exactly."""
    torch.manual_seed(0)
    first, noise = torch.randn(2, pictures, 128).unbind()
    second = first + 0.5 * noise if views == "alike" else noise
    return torch.stack([first, second]).bfloat16().double()


def truth(temperature: float) -> LossFunction:
    """The formula, with the positive pair outside the sum: accurate however small the loss is."""

    def loss(first: Tensor, second: Tensor) -> Tensor:
        views = F.normalize(torch.cat([first, second]))
        logits = views @ views.T / temperature
        own, partner = torch.arange(len(views)), torch.arange(len(views)).roll(len(first))
        positives = logits[own, partner]
        pairs = torch.stack([own, partner], 1)
        return F.softplus(logits.scatter(1, pairs, -torch.inf).logsumexp(1) - positives).mean()

    return loss


def gradient(loss: LossFunction, both: Tensor) -> Tensor:
    both = both.clone().requires_grad_()
    return torch.autograd.grad(loss(*both.unbind()), both)[0].double()


def error(contestant: Callable[[float], LossFunction], views: str, precision: str, temperature: float, n: int) -> float:
    both = projections(views, n)
    expected, loss = gradient(truth(temperature), both), contestant(temperature)
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32"):
            difference = gradient(loss, both.float()) - expected
    except (ArithmeticError, RuntimeError):  # a power overflows in one of them
        return math.inf
    relative = float(difference.norm() / expected.norm())
    return relative if math.isfinite(relative) else math.inf


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--views", type=int, default=1024, help="two for each picture")
    options = parse(made)
    torch.set_num_threads(options.threads)
    errors: dict[str, list[float]] = {}
    for name, contestant in CONTESTANTS.items():
        try:
            errors[name] = [error(contestant, *case, options.views // 2) for case in CASES]
        except ImportError as missing:
            print(f"{name} is left out: {missing}")
    columns = [f"{views}, {precision}, {temperature:g}" for views, precision, temperature in CASES]
    rows = [[column, *(f"{values[number]:.0e}" for values in errors.values())] for number, column in enumerate(columns)]
    data = [
        {"views": views, "precision": precision, "temperature": temperature}
        | {"errors": {name: values[number] for name, values in errors.items()}}
        for number, (views, precision, temperature) in enumerate(CASES)
    ]
    title = "Relative error of NT-Xent's gradient against float64"
    note = f"{options.views} views of 128 dimensions; rows: how alike the views are, precision, temperature."
    report.write(options.out, "loss_accuracy", title, note, ["case", *errors], rows, data)


if __name__ == "__main__":
    main()
