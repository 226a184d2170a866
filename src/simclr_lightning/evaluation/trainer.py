"""A Trainer that can also judge what a model has learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from rich.console import Console
from torch import Tensor, nn

from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.checkpoints import run_of
from simclr_lightning.evaluation.checkpoint import fitting_weights
from simclr_lightning.evaluation.extract import RawPixels, clean_features
from simclr_lightning.evaluation.features import Features
from simclr_lightning.evaluation.picture import plot_features
from simclr_lightning.evaluation.protocols import parse_protocols
from simclr_lightning.evaluation.report import Evaluation, Result


class SimCLRTrainer(Trainer):
    """Lightning's Trainer, with ``evaluate`` beside ``fit`` and ``test``: on the command line, ``simclr evaluate``."""

    def evaluate(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        protocols: list[str] | str = "linear,knn,linear@1%",
        draws: int = 10,
        seed: int = 0,
        output: str | Path | None = None,
    ) -> Evaluation:
        """Compare the features of a checkpoint with those of the random encoder and with raw pixels.

        The encoder is frozen and in evaluation mode. Classifiers learn from clean training pictures; every accuracy is
        that of the test pictures, or of the validation pictures where there are none. Prints a table, and writes
        evaluation.json and features.png.

        Args:
            model: the model; afterwards it holds the checkpoint's weights.
            datamodule: pictures with labels, by ``clean_dataloader(split)`` for the splits train and test.
            ckpt_path: checkpoint of the pre-trained model. Without one, the model is judged as it is.
            protocols: some of linear (logistic regression on all labels), knn (weighted cosine kNN, k = 200) and
                linear@F% (logistic regression on F percent of the labels, such as linear@1%), with commas between them.
            draws: class-balanced label subsets that linear@F% is averaged over, the same ones for every encoder.
            seed: seed of the first draw of labels, and of the picture.
            output: folder for evaluation.json and features.png. By default the run that the checkpoint is from, if it
                lies in a folder named checkpoints, otherwise the folder of this run.

        Returns:
            The figures of the table.

        Raises:
            ValueError: if a protocol is unknown, the checkpoint does not fit the model, labels are missing, or there
                are several devices.
        """
        asked = parse_protocols(protocols)
        if draws < 1:
            raise ValueError(f"draws is {draws}: linear@F% takes one draw of labels at least (--draws 10).")
        if self.world_size > 1:
            raise ValueError(f"Features are evaluated on one device, not on {self.world_size}: --trainer.devices 1.")
        if datamodule is None:
            raise ValueError("Features are judged on labelled pictures: pass a datamodule (--data SimCLRDataModule).")
        weights = None if ckpt_path is None else fitting_weights(model, ckpt_path)
        notes: list[str] = []
        split = _prepare(datamodule, notes)

        results: list[Result] = []
        shown: dict[str, Features] = {}
        for encoder, module in self._encoders(model, weights, notes):
            test = clean_features(self, module, datamodule, split)
            if not test.features.shape[1]:
                notes.append(f"No {encoder}: the pictures are too large for a classifier on all of their pixels.")
                continue
            shown[encoder] = test
            train = clean_features(self, module, datamodule, "train")
            for protocol in asked:
                with Console().status(f"{encoder}: {protocol.name}"):
                    labels, accuracies = protocol.run(train, test, draws=draws, seed=seed)
                results.append(Result(encoder, protocol.name, labels, [100 * accuracy for accuracy in accuracies]))
        checkpoint = None if ckpt_path is None else str(ckpt_path)
        evaluation = Evaluation(results, split, len(test.targets), seed, checkpoint, notes)
        self._show(evaluation, shown, datamodule, self._output_folder(ckpt_path, output))
        return evaluation

    def _encoders(
        self, model: LightningModule, weights: dict[str, Tensor] | None, notes: list[str]
    ) -> Iterator[tuple[str, LightningModule]]:
        """Rows of the table; each must have been used when the next one is asked for, which changes the model."""
        yield "raw pixels", RawPixels()
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        seen = self.global_step > 0 or any(bool(norm.num_batches_tracked) for norm in norms)
        if not seen and any(norm.affine and not norm.weight.any() for norm in norms):
            notes.append(
                "The random encoder's residual branches start at zero (zero_init_residual), so it is a weak baseline."
            )
        yield "model as it is" if seen else "random encoder", model
        if weights is not None:
            model.load_state_dict(weights, strict=True)
            yield "pre-trained encoder", model
        elif not seen:
            notes.append("No pre-trained encoder: name its checkpoint with --ckpt_path (a .ckpt file of its run).")

    def _show(
        self, evaluation: Evaluation, shown: dict[str, Features], datamodule: LightningDataModule, folder: Path
    ) -> None:
        figures, picture = folder / "evaluation.json", folder / "features.png"
        folder.mkdir(parents=True, exist_ok=True)
        evaluation.write_json(figures)
        encoders = list(shown)
        with Console().status("drawing the features"):
            plot_features(
                {encoder: shown[encoder] for encoder in (encoders[0], encoders[-1])},
                picture,
                class_names=getattr(datamodule, "class_names", None),
                split=evaluation.split,
                seed=evaluation.seed,
            )
        Console().print(evaluation.table())
        print(f"Figures: {figures}\nPicture of the features: {picture}")

    def _output_folder(self, ckpt_path: str | Path | None, output: str | Path | None) -> Path:
        if output is not None:
            return Path(output)
        run = None if ckpt_path is None else run_of(ckpt_path)
        return run_folder(self) if run is None else run


def _prepare(datamodule: LightningDataModule, notes: list[str]) -> str:
    """Set up the data and find the split to test on."""
    datamodule.prepare_data()
    for stage in ("fit", "test"):  # labels are learned from the one and judged on the other
        datamodule.setup(stage)
    clean_dataloader = getattr(datamodule, "clean_dataloader", None)
    if clean_dataloader is None:
        raise ValueError(
            f"{type(datamodule).__name__} has no method clean_dataloader(split) that gives the clean, labelled "
            "pictures of train and test: use SimCLRDataModule, or add it."
        )
    try:
        clean_dataloader("test")
    except ValueError as error:
        notes.append(f"Measured on the validation pictures, not on test pictures. ({error})")
        return "val"
    return "test"
