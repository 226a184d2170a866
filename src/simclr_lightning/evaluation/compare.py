"""How good an encoder is beside others: protocols by encoders."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from simclr_lightning.command_line import typed_command
from simclr_lightning.evaluation.candidates import Candidate, Comparison
from simclr_lightning.evaluation.inner_fits import PAPER, FineTuneRecipe
from simclr_lightning.evaluation.plots import plot_features
from simclr_lightning.evaluation.protocols import Protocol, Settings, parse_protocols
from simclr_lightning.evaluation.quiet_trainer import within
from simclr_lightning.evaluation.records import (
    kept_if_interrupted,
    log_figures,
    output_folder,
    remove_unfinished,
)
from simclr_lightning.evaluation.report import Evaluation, Result, Row
from simclr_lightning.features import Features


def evaluate(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None = None,
    ckpt_path: str | Path | None = None,
    protocols: list[str] | str = "linear,knn,linear@1%",
    draws: int = 10,
    seed: int = 0,
    others: dict[str, str] | None = None,
    raw_pixels: bool = True,
    finetune: FineTuneRecipe = PAPER,
    picture: bool = True,
    output: str | Path | None = None,
) -> Evaluation:
    """Compare the encoder of a checkpoint with the random encoder, with raw pixels, and with other encoders.

    Classifiers learn from labelled training pictures; every figure is that of the test pictures, or of the validation
    pictures where there are none. Prints a table, writes evaluation.json and features.png, and logs the picture and
    ``evaluate/<encoder>/<protocol>``.

    Args:
        trainer: its device and precision are used, and its loggers; its callbacks and its settings of a fit are not.
        model: the model; afterwards it holds the checkpoint's weights.
        datamodule: pictures with labels, by ``clean_dataloader(split)`` for the splits train and test.
        ckpt_path: checkpoint of the pre-trained model. Without one, the model is judged as it is.
        protocols: with commas between them. On frozen features: linear and linear@F% (logistic regression on all or on
            F percent of the labels, such as linear@1%), linear_sgd (trained as in the paper), knn (weighted cosine kNN,
            k = 200), knn_plain (one vote each), and transfer (logistic regression, its strength chosen on validation
            pictures). finetune@F%: the whole network learns from F percent of the labels, up to 100.
        draws: class-balanced label subsets that linear@F% is averaged over, the same ones for every encoder.
        seed: seed of the first draw of labels, and of whatever else is random.
        others: checkpoints of further encoders by name, such as {supervised: PATH}.
        raw_pixels: whether pixels are judged, too; classifiers on thousands of numbers a picture take long.
        finetune: how networks are fine-tuned.
        picture: whether to draw features.png, a t-SNE of the features.
        output: folder for evaluation.json and features.png. By default the run that the checkpoint is from, if it lies
            in a folder named checkpoints, otherwise the folder of this run.

    Returns:
        The figures of the table.

    Raises:
        MissingFileError: if there is no such checkpoint.
        InputError: if a protocol is unknown, a checkpoint does not fit, labels are missing or too few, or there are
            several devices.
    """
    asked = parse_protocols(protocols)
    settings = Settings(draws, seed, finetune)
    comparison = Comparison.prepare(trainer, model, datamodule, ckpt_path, others, raw_pixels=raw_pixels)
    for protocol in asked:
        protocol.check(comparison, settings)
        notes = protocol.notes(comparison.targets, settings)
        comparison.notes += [note for note in notes if note not in comparison.notes]

    console, folder = Console(), output_folder(trainer, ckpt_path, output)
    rows = [_row(protocol, comparison, settings, folder) for protocol in asked]
    results: list[Result] = []
    panels: dict[str, Features] = {}
    pictures = 0

    def finished() -> Evaluation:
        return Evaluation(rows, results, comparison.split, pictures, seed, comparison.checkpoints, comparison.notes)

    unfinished = folder / "evaluation_unfinished.json"
    this = comparison.asked("evaluate") | {"protocols": [protocol.name for protocol in asked], **asdict(settings)}
    with kept_if_interrupted(results, lambda: finished().content(), unfinished, this):
        for candidate in comparison.candidates():
            pictures = len(candidate.test.targets)
            if picture and candidate.name not in comparison.others:
                panels[candidate.name] = candidate.test
            fitting = [protocol for protocol in asked if protocol.fits(candidate)]
            results.extend(_judge(protocol, candidate, comparison.targets, settings, console) for protocol in fitting)
    evaluation = finished()
    evaluation.write_json(folder / "evaluation.json")
    remove_unfinished(unfinished, this)
    evaluation.print(console)
    print(f"Figures: {folder / 'evaluation.json'}")
    drawn = {}
    if picture:
        drawn["features"] = folder / "features.png"
        own = list(panels)
        first_and_last = {name: panels[name] for name in (own[0], own[-1])}
        names = getattr(comparison.datamodule, "class_names", None)
        with console.status("drawing the features"):
            plot_features(first_and_last, drawn["features"], class_names=names, split=comparison.split, seed=seed)
        print(f"Picture of the features: {drawn['features']}")
    log_figures(trainer, folder / "evaluate", {None: evaluation.metrics()}, drawn)
    return evaluation


def _row(protocol: Protocol, comparison: Comparison, settings: Settings, folder: Path) -> Row:
    changes = {"protocols": protocol.name, "picture": "false", "output": str(folder / protocol.name)}
    return Row(
        protocol.name,
        protocol.what,
        protocol.metric(comparison.datamodule),
        protocol.details(settings),
        typed_command("evaluate", changes),
    )


def _judge(protocol: Protocol, candidate: Candidate, targets: Tensor, settings: Settings, console: Console) -> Result:
    title, start = f"{candidate.name}, {protocol.name}", time.perf_counter()
    subsets = protocol.subsets(targets, draws=protocol.draws(settings), seed=settings.seed)
    with console.status(title) as status:
        result = protocol.judge(candidate, subsets, settings, within(status.update, title))
    console.print(f"{title}: {result} ({time.perf_counter() - start:.0f} s)", highlight=False, soft_wrap=True)
    return result
