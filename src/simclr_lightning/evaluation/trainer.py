"""A Trainer that can also judge what a model has learned."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.checkpoints import run_of
from simclr_lightning.evaluation.command import typed_command
from simclr_lightning.evaluation.fine_tuned import PAPER, FineTuneRecipe
from simclr_lightning.evaluation.interruption import kept_if_interrupted
from simclr_lightning.evaluation.label_curve import LabelCurve, Point, balanced_draw, default_counts, measure
from simclr_lightning.evaluation.label_curve_picture import plot_label_curve
from simclr_lightning.evaluation.lineup import Lineup, Subject, labels_to_learn_from
from simclr_lightning.evaluation.nested import Tell, told_within
from simclr_lightning.evaluation.picture import plot_features
from simclr_lightning.evaluation.protocol import Protocol, Settings
from simclr_lightning.evaluation.protocols import PROTOCOLS, FineTuned, parse_protocols
from simclr_lightning.evaluation.report import Evaluation, Result, Row
from simclr_lightning.features import Features


class SimCLRTrainer(Trainer):
    """Lightning's Trainer, with two commands that judge encoders beside ``fit`` and ``test``.

    On the command line they are ``simclr evaluate`` and ``simclr label_curve``.
    """

    def evaluate(
        self,
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

        Classifiers learn from labelled training pictures; every figure is that of the test pictures, or of the
        validation pictures where there are none. Prints a table, writes evaluation.json and features.png, and logs
        ``evaluate/<encoder>/<protocol>``.

        Args:
            model: the model; afterwards it holds the checkpoint's weights.
            datamodule: pictures with labels, by ``clean_dataloader(split)`` for the splits train and test.
            ckpt_path: checkpoint of the pre-trained model. Without one, the model is judged as it is.
            protocols: with commas between them. On frozen features: linear and linear@F% (logistic regression on all or
                on F percent of the labels, such as linear@1%), linear_sgd (trained as in the paper), knn (weighted
                cosine kNN, k = 200), knn_plain (one vote each), and transfer (logistic regression, its strength chosen
                on validation pictures). finetune@F%: the whole network learns from F percent of the labels, up to 100.
            draws: class-balanced label subsets that linear@F% is averaged over, the same ones for every encoder.
            seed: seed of the first draw of labels, and of whatever else is random.
            others: checkpoints of further encoders by name, such as {supervised: PATH}.
            raw_pixels: whether pixels are judged, too; classifiers on thousands of numbers a picture take long.
            finetune: how networks are fine-tuned.
            picture: whether to draw features.png, a t-SNE of the features.
            output: folder for evaluation.json and features.png. By default the run that the checkpoint is from, if it
                lies in a folder named checkpoints, otherwise the folder of this run.

        Returns:
            The figures of the table.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if a protocol is unknown, a checkpoint does not fit, labels are missing or too few, or there are
                several devices.
        """
        asked = parse_protocols(protocols)
        settings = Settings(draws, seed, finetune)
        lineup = Lineup.prepare(self, model, datamodule, ckpt_path, others, raw_pixels=raw_pixels)
        targets = labels_to_learn_from(self, lineup.datamodule)
        for protocol in asked:
            protocol.check(targets, lineup, settings)
            lineup.notes += [note for note in protocol.notes(targets, settings) if note not in lineup.notes]

        console, folder = Console(), self._output_folder(ckpt_path, output)
        rows = [
            Row(
                protocol.name,
                protocol.what,
                protocol.metric(lineup.datamodule),
                protocol.details(settings),
                typed_command(
                    "evaluate", {"protocols": protocol.name, "picture": "false", "output": str(folder / protocol.name)}
                ),
            )
            for protocol in asked
        ]
        results: list[Result] = []
        shown: dict[str, Features] = {}

        def finished() -> Evaluation:
            pictures = len(next(iter(shown.values())).targets)
            return Evaluation(rows, results, lineup.split, pictures, seed, lineup.checkpoints, lineup.notes)

        with kept_if_interrupted(
            results, lambda path: finished().write_json(path), folder / "evaluation_unfinished.json"
        ):
            for subject in lineup:
                shown[subject.name] = subject.test
                fitting = [protocol for protocol in asked if protocol.fits(subject)]
                results.extend(_judge(protocol, subject, targets, settings, console) for protocol in fitting)
        evaluation = finished()
        self._log(evaluation.metrics())
        folder.mkdir(parents=True, exist_ok=True)
        evaluation.write_json(folder / "evaluation.json")
        evaluation.print(console)
        print(f"Figures: {folder / 'evaluation.json'}")
        if picture:
            own = [name for name in shown if name not in lineup.others]
            panels = {name: shown[name] for name in (own[0], own[-1])}
            names = getattr(lineup.datamodule, "class_names", None)
            with console.status("drawing the features"):
                plot_features(panels, folder / "features.png", class_names=names, split=lineup.split, seed=seed)
            print(f"Picture of the features: {folder / 'features.png'}")
        return evaluation

    def label_curve(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        counts: list[int] | None = None,
        draws: int = 10,
        seed: int = 0,
        classifier: Literal["linear", "finetune"] = "linear",
        others: dict[str, str] | None = None,
        raw_pixels: bool = True,
        finetune: FineTuneRecipe = PAPER,
        output: str | Path | None = None,
    ) -> LabelCurve:
        """Measure accuracy against labels per class for a checkpoint, the random encoder, raw pixels and others.

        A classifier learns from class-balanced draws of the training labels, the same ones for every encoder; the
        accuracies are those of the test pictures, or of the validation pictures where there are none. Prints a table,
        writes label_curve.json, label_curve.md and label_curve.png, and logs ``label_curve/<encoder>`` with the labels
        per class as steps.

        Args:
            model: the model; afterwards it holds the checkpoint's weights.
            datamodule: pictures with labels, by ``clean_dataloader(split)`` for the splits train and test.
            ckpt_path: checkpoint of the pre-trained model. Without one, the model is judged as it is.
            counts: labels per class. None: 1, 2, 5, 10, 20, 50, ... as far as they go. All labels always follow.
            draws: draws of labels at every count, for the mean and its 95 % t-interval.
            seed: of the first draw, and of whatever else is random.
            classifier: linear (logistic regression on frozen features), or finetune (the whole network).
            others: checkpoints of further encoders by name, such as {supervised: PATH}.
            raw_pixels: whether pixels are judged, too; classifiers on thousands of numbers a picture take long.
            finetune: how networks are fine-tuned, but for the number of draws.
            output: folder for the three files. By default the run that the checkpoint is from, if it lies in a folder
                named checkpoints, otherwise the folder of this run.

        Returns:
            The curves.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if a checkpoint does not fit, there are fewer labels than asked for, or several devices.
        """
        settings = replace(Settings(draws, seed), finetune=replace(finetune, draws=draws))
        lineup = Lineup.prepare(self, model, datamodule, ckpt_path, others, raw_pixels=raw_pixels)
        targets = labels_to_learn_from(self, lineup.datamodule)
        counts = default_counts(targets) if counts is None else sorted(set(counts))
        for count in counts:
            balanced_draw(targets, count, seed)
        protocol = _CLASSIFIERS[classifier]
        protocol.check(targets, lineup, settings)

        console, folder = Console(), self._output_folder(ckpt_path, output)
        points: list[Point] = []
        pictures = 0
        accuracy = partial(_accuracy, protocol, settings, len(targets))

        def finished() -> LabelCurve:
            return LabelCurve(
                points,
                _name_of(lineup.datamodule),
                lineup.split,
                pictures,
                len(torch.unique(targets)),
                protocol.what,
                asdict(settings.finetune) if classifier == "finetune" else protocol.details(settings),
                seed,
                lineup.checkpoints,
                typed_command("label_curve"),
                lineup.notes,
            )

        with kept_if_interrupted(
            points, lambda path: finished().write_json(path), folder / "label_curve_unfinished.json"
        ):
            for subject in filter(protocol.fits, lineup):
                pictures = len(subject.test.targets)
                with console.status(subject.name) as status:
                    tell = partial(told_within, status.update, subject.name)
                    points.extend(measure(subject, targets, accuracy, counts=counts, draws=draws, seed=seed, tell=tell))
        curve = finished()
        for count, metrics in curve.metrics().items():
            self._log(metrics, step=count)
        folder.mkdir(parents=True, exist_ok=True)
        curve.write_json(folder / "label_curve.json")
        (folder / "label_curve.md").write_text(curve.markdown(), encoding="utf-8")
        plot_label_curve(curve, folder / "label_curve.png")
        console.print(curve.table())
        print(f"Curves: {folder / 'label_curve.json'}, label_curve.md and label_curve.png beside it")
        return curve

    def _log(self, metrics: dict[str, float], step: int | None = None) -> None:
        for logger in self.loggers:
            logger.log_metrics(metrics, step)
            logger.save()

    def _output_folder(self, ckpt_path: str | Path | None, output: str | Path | None) -> Path:
        if output is not None:
            return Path(output)
        run = None if ckpt_path is None else run_of(ckpt_path)
        return run_folder(self) if run is None else run


_CLASSIFIERS: dict[str, Protocol] = {
    "linear": PROTOCOLS["linear"],
    "finetune": FineTuned("finetune", "the whole network, fine-tuned with a new linear layer"),
}


def _judge(protocol: Protocol, subject: Subject, targets: Tensor, settings: Settings, console: Console) -> Result:
    title, start = f"{subject.name}, {protocol.name}", time.perf_counter()
    with console.status(title) as status:
        outcome = protocol.judge(subject, targets, settings, partial(told_within, status.update, title))
    accuracies = [100 * found.accuracy for found in outcome.found]
    result = Result(subject.name, protocol.name, outcome.labels, accuracies, [found.also for found in outcome.found])
    console.print(f"{title}: {result} ({time.perf_counter() - start:.0f} s)", highlight=False, soft_wrap=True)
    return result


def _accuracy(
    protocol: Protocol, settings: Settings, labels: int, subject: Subject, positions: Tensor, seed: int, tell: Tell
) -> float:
    """Of a protocol, on a share of the labels that is no percentage."""
    share = replace(protocol, fraction=len(positions) / labels)
    return share.find(subject, positions, seed, settings, tell).accuracy


def _name_of(datamodule: LightningDataModule) -> str:
    """What the pictures are called: the folder's name, the data set's, or at least the class's."""
    name = datamodule.hparams.get("dataset", type(datamodule).__name__)
    return Path(datamodule.hparams["root"]).name if name == "folder" else str(name).rpartition(".")[2]
