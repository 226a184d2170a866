"""How good an encoder is beside others: protocols by encoders."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from simclr_lightning.callbacks.unreadable import list_unreadable, tell_unreadable
from simclr_lightning.command_line import typed_command
from simclr_lightning.errors import InputError, check_folder
from simclr_lightning.evaluation.candidates import Candidate, Comparison
from simclr_lightning.evaluation.inner_fits import PAPER, FineTuneRecipe
from simclr_lightning.evaluation.plots import plot_features
from simclr_lightning.evaluation.protocols import PROTOCOLS, FineTuned, Protocol, check_draws
from simclr_lightning.evaluation.quiet_trainer import within
from simclr_lightning.evaluation.records import (
    kept_if_interrupted,
    log_figures,
    output_folder,
    remove_unfinished,
)
from simclr_lightning.evaluation.report import Evaluation, Result, Row
from simclr_lightning.evaluation.verdict import verdicts
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
    pictures where there are none. Prints a table, and says below it where raw pixels or the random encoder are better;
    writes evaluation.json and features.png, and logs the picture and ``evaluate/<encoder>/<protocol>``.

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

    Example:
        >>> from contextlib import redirect_stdout
        >>> from io import StringIO
        >>> from tempfile import TemporaryDirectory
        >>> from simclr_lightning import SimCLR, SimCLRDataModule
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> model, data = SimCLR("resnet8", width=0.125, in_channels=1), SimCLRDataModule("digits", label_fraction=0.1)
        >>> with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # of the table
        ...     evaluation = evaluate(trainer, model, data, protocols="knn", picture=False, output=folder)
        >>> evaluation.accuracy("raw pixels", "knn") > 80
        True
    """
    asked = parse_protocols(protocols, finetune)
    check_draws(draws, seed)
    check_folder("output", output, "output FOLDER")
    comparison = Comparison.prepare(trainer, model, datamodule, ckpt_path, others, raw_pixels=raw_pixels)
    for protocol in asked:
        protocol.check(comparison, seed)
        notes = protocol.notes(comparison.targets, seed)
        comparison.notes += [note for note in notes if note not in comparison.notes]

    console, folder = Console(), output_folder(trainer, ckpt_path, output)
    list_unreadable(datamodule, folder)
    rows = [_row(protocol, comparison, folder) for protocol in asked]
    results: list[Result] = []
    panels: dict[str, Features] = {}
    pictures = 0

    def finished() -> Evaluation:
        return Evaluation(rows, results, comparison.split, pictures, seed, comparison.checkpoints, comparison.notes)

    unfinished = folder / "evaluation_unfinished.json"
    settings = {"protocols": [protocol.name for protocol in asked], "draws": draws, "seed": seed}
    same = comparison.asked("evaluate") | settings | {"finetune": asdict(finetune)}
    with kept_if_interrupted(results, lambda: finished().content(), unfinished, same):
        for candidate in comparison.candidates():
            pictures = len(candidate.test.targets)
            if picture and candidate.name not in comparison.others:
                panels[candidate.name] = candidate.test
            for protocol in asked:
                if not protocol.fits(candidate):
                    continue
                subsets = protocol.subsets(comparison.targets, draws=protocol.draws(draws), seed=seed)
                results.append(_judge(protocol, candidate, subsets, seed, console))
    comparison.notes += verdicts(results)
    evaluation = finished()
    evaluation.write_json(folder / "evaluation.json")
    remove_unfinished(unfinished, same)
    evaluation.print(console)
    tell_unreadable(folder)
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


def _row(protocol: Protocol, comparison: Comparison, folder: Path) -> Row:
    changes = {"protocols": protocol.name, "picture": "false", "output": str(folder / protocol.name)}
    return Row(
        protocol.name,
        protocol.what,
        protocol.metric(comparison.datamodule),
        protocol.details(),
        typed_command("evaluate", changes),
    )


def _judge(protocol: Protocol, candidate: Candidate, subsets: Sequence[Tensor], seed: int, console: Console) -> Result:
    title, start = f"{candidate.name}, {protocol.name}", time.perf_counter()
    with console.status(title) as status:
        result = protocol.judge(candidate, subsets, seed, within(status.update, title))
    console.print(f"{title}: {result} ({time.perf_counter() - start:.0f} s)", highlight=False, soft_wrap=True)
    return result


def parse_protocols(protocols: str | Sequence[str], finetune: FineTuneRecipe = PAPER) -> list[Protocol]:
    """Look protocols up.

    Args:
        protocols: names, as a list or as one string with commas between them; a repeated name counts once.
        finetune: how networks are fine-tuned.

    Raises:
        InputError: if a name is unknown, a percentage is out of range, or there is no name; the message lists what
            there is.

    Example:
        >>> [(protocol.name, protocol.fraction) for protocol in parse_protocols("knn,linear@1%")]
        [('knn', 1.0), ('linear@1%', 0.01)]
    """
    names = protocols.split(",") if isinstance(protocols, str) else protocols
    found = {name: _parse(name) for name in (name.strip() for name in names)}
    if not found:
        raise InputError(f"No protocol is asked for. There are {_listed()}.")
    return [replace(kind, recipe=finetune) if isinstance(kind, FineTuned) else kind for kind in found.values()]


def _parse(name: str) -> Protocol:
    percentage = re.search(r"@(\d+(?:\.\d+)?)%$", name)
    kind = PROTOCOLS.get(name if percentage is None else f"{name[: percentage.start()]}@F%")
    if kind is None or "F" in name:
        raise InputError(f"Unknown protocol {name!r}. Choose from {_listed()}; F is a number (linear@1%).")
    if percentage is None:
        return kind
    fraction = float(percentage[1]) / 100
    if not 0 < fraction <= 1:
        raise InputError(f"The protocol {name!r} needs a share of the labels above 0 and at most 100 % (linear@1%).")
    return replace(kind, name=name, fraction=fraction, what=kind.what.replace("F %", f"{percentage[1]} %"))


def _listed() -> str:
    return ", ".join(PROTOCOLS)
