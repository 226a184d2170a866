"""What is a training step's time spent on?

    python benchmarks/step.py

Each part of a step is measured alone, in CPU time, and given as a share of their sum: data (the loader, without
workers), views, encoder, head, loss (each forward and backward) and optimizer. It tells where an improvement can pay:
the encoder dominates everything but small encoders on small pictures. Without --short, the contiguous memory format
and torch.compile take part, too. Cases:

* cifar_cpu: the encoder and views of experiments/cifar10/cpu.yaml, pictures in memory
* cifar_resnet18: ResNet-18 on views of 32 x 32 pixels, pictures in memory
* imagenet_resnet50: ResNet-50 on views of 224 x 224 pixels, from JPEG files
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import report
import torch
from loader import Pictures
from runner import OURS, Case, Contest, Figures, Work, answer, hold, parse, parser, timed

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.views import ViewRecipe
from views import draw_photographs

PARTS = ("data", "views", "encoder", "head", "loss", "optimizer")


class Config(NamedTuple):
    """What is trained on what; batch is in pictures, and smaller with --short."""

    model: dict[str, Any]
    views: ViewRecipe
    batch: int
    short_batch: int


CONFIGS = {
    "cifar_cpu": Config(
        {"encoder": "resnet8", "width": 0.5, "stem": "cifar", "optimizer": "sgd"},
        ViewRecipe("cifar10", size=20, eval_size=32, crop_area=(0.2, 1.0)),
        256,
        256,
    ),
    "cifar_resnet18": Config({"encoder": "resnet18", "stem": "cifar"}, ViewRecipe("cifar10"), 256, 16),
    "imagenet_resnet50": Config({"encoder": "resnet50", "stem": "imagenet"}, ViewRecipe("imagenet"), 16, 4),
}


def parts(options: dict[str, Any], batches: dict[str, int], folder: Path, name: str) -> dict[str, Work]:
    """The parts of one step, each with inputs of its own."""
    config, batch = CONFIGS[name], batches[name]
    dataset: Any = partial(Pictures, 4 * batch, as_float=False)
    if config.views.size > 32:
        draw_photographs(folder, 4 * batch)
        dataset = "folder"
    data = SimCLRDataModule(
        dataset,
        folder if dataset == "folder" else "",
        batch_size=batch,
        views=config.views,
        cache=dataset != "folder",
        num_workers=0,
    )
    data.setup("fit")
    model = SimCLR(**config.model, **options)
    if model.hparams["compile_encoder"]:
        model.encoder.compile()
    batches_of_bytes = _forever(data.train_dataloader())
    images = next(batches_of_bytes)
    views = data.on_after_batch_transfer(images, 0).views[0].flatten(0, 1)
    features = torch.randn(len(views), model.feature_dim)
    projections = torch.randn(len(views), model.hparams["projection_dim"])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return {
        "data": Work(lambda: next(batches_of_bytes)),
        "views": Work(lambda: data.on_after_batch_transfer(images, 0)),
        "encoder": _forward_and_backward(model, views),
        "head": _forward_and_backward(model.project, features.requires_grad_()),
        "loss": _forward_and_backward(
            lambda both: model.loss(both.unflatten(0, (2, -1))), projections.requires_grad_()
        ),
        "optimizer": Work(model.configure_optimizers().step),
    }


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def _forward_and_backward(function: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> Work:
    def step() -> None:
        outputs = function(inputs)
        outputs.backward(torch.ones_like(outputs))  # type: ignore[no-untyped-call]

    return Work(step)


def measure(setup: Callable[[Any], dict[str, Work]], case: Case, seconds: float) -> Figures:
    """CPU seconds of every part."""
    return {part: timed(work, seconds)["cpu"] for part, work in setup(case).items()}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="cases")
    made.add_argument("--batch", type=int, help="pictures in the batch of all of them")
    options = parse(made)
    batches = {
        name: options.batch or (config.short_batch if options.short else config.batch)
        for name, config in CONFIGS.items()
    }
    variants: dict[str, dict[str, Any]] = {OURS: {}}
    if not options.short:
        variants["contiguous memory format"] = {"channels_last": False}
        variants["torch.compile"] = {"compile_encoder": True}
    with tempfile.TemporaryDirectory() as folder:
        contestants = {name: partial(parts, variant, batches, Path(folder)) for name, variant in variants.items()}
        contest = Contest("step", "Shares of a training step's CPU time", contestants, options.configs, measure=measure)
        if options.measure is not None:
            answer(contest, options)
            return
        results = hold(contest, options)
    rows = []
    for result in results:
        times = [result.median(part) for part in PARTS]
        total, batch = sum(times), batches[str(result.case)]
        shares = [f"{100 * time / total:.1f} %" for time in times]
        rows.append([str(result.case), result.contestant, str(batch), f"{1e3 * total:,.0f}", *shares])
    note = f"{options.rounds} round(s), {options.threads} thread(s), medians. Parts are measured alone and added up."
    header = ["case", "contestant", "pictures", "ms a step (cpu)", *PARTS]
    report.write(options.out, "step", contest.title, note, header, rows, [result._asdict() for result in results])


if __name__ == "__main__":
    main()
