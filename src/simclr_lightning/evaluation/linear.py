"""``LinearEvaluation``: a linear classifier on the features of a frozen encoder, the paper's main protocol."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.utilities import rank_zero_info
from rich.progress import track
from torch import Tensor

from simclr_lightning.data import FeatureBatch, LabelledDataModule
from simclr_lightning.evaluation.classifier import Classifier
from simclr_lightning.evaluation.pretrained import Architecture, architecture_of, starting_model
from simclr_lightning.simclr import SimCLR


class LinearEvaluation(Classifier):
    """Trains a linear classifier on a frozen encoder (Chen et al. 2020, section 4 and B.6).

    The encoder stays in evaluation mode, without gradients: neither its weights nor its BatchNorm statistics change.
    The defaults are the paper's: SGD with Nesterov momentum at 0.1 x batch / 256 (``LARSWarmup(warmup_epochs=0)``), no
    regularisation, 90 epochs on crops and flips; the linear layer starts at zero, as in the official code.

    With ``LabelledDataModule(augmentation="none")`` the features never change. On a single device they are then
    computed once, before training, and every epoch reads them from memory.

    Args:
        checkpoint: of a pre-trained ``SimCLR``.
        num_classes: None: that of the data module.
        learning_rate: base learning rate, of a global batch of 256.
        momentum: of SGD.
        weight_decay: of the linear layer.
        cache_features: whether features that do not change are computed once. They take 4 F bytes a picture.
        model_class: class of the pre-trained model, where it is not SimCLR: my_project.MySimCLR.
        architecture: not to be typed: what its own checkpoints hold instead of the pre-trained one.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if there is none, it does not load completely, or an argument is out of range.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        num_classes: int | None = None,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        cache_features: bool = True,
        model_class: type[SimCLR] = SimCLR,
        architecture: Architecture | None = None,
    ) -> None:
        model = starting_model(checkpoint, architecture, model_class)
        super().__init__(
            model.encoder,
            feature_dim=model.feature_dim,
            num_classes=num_classes,
            channels_last=model.hparams["channels_last"],
            origin=str(checkpoint) if architecture is None else None,
        )
        self.encoder.requires_grad_(False).eval()
        self.save_hyperparameters(ignore=["model_class", "_instantiator"])
        self.save_hyperparameters(
            {"checkpoint": checkpoint and str(checkpoint), "architecture": architecture or architecture_of(model)}
        )

    @classmethod
    def of(
        cls,
        model: SimCLR,
        *,
        num_classes: int | None = None,
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        cache_features: bool = True,
    ) -> Self:
        """Judge a model in memory, whose encoder is copied."""
        classifier = cls(
            num_classes=num_classes,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            cache_features=cache_features,
            model_class=type(model),
            architecture=architecture_of(model),
        )
        classifier.encoder.load_state_dict(model.encoder.state_dict())
        classifier.origin = "a model in memory"
        return classifier

    def train(self, mode: bool = True) -> Self:
        """Switch modes; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """The encoder's features (N, F) of pictures (N, C, H, W), without gradients."""
        with torch.no_grad():
            return super().encode(images)

    def setup(self, stage: str) -> None:
        """As :meth:`Classifier.setup`."""
        super().setup(stage)
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start")  # the frozen encoder

    def on_fit_start(self) -> None:
        """Compute the features, where they do not change; the checkpoint of a resumed run has been loaded."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if not self.hparams["cache_features"] or not isinstance(data, LabelledDataModule):
            return
        if data.augmentation != "none" or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.trainer.world_size > 1:
            rank_zero_info("Features are cached on a single device only: every epoch encodes the pictures anew.")
            return
        self._require_weights()
        watched = data.splits.val is not None and self.trainer.limit_val_batches
        data.serve_features(
            self._features(data.clean_dataloader("train"), "training"),
            self._features(data.clean_dataloader("val"), "validation") if watched else None,
        )

    def teardown(self, stage: str) -> None:
        """Let the data module serve pictures again."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, LabelledDataModule):
            data.serve_pictures()

    def _features(self, loader: Iterable[Any], name: str) -> FeatureBatch:
        """Features of all pictures of a loader, on the CPU."""
        trainer = self.trainer
        silent = trainer.progress_bar_callback is None
        batches = []
        for loaded in track(loader, f"Encoding {name} pictures", disable=silent):
            batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(loaded))
            with trainer.precision_plugin.forward_context():
                features = self.encode(batch.images)
            batches.append(FeatureBatch(features.cpu(), batch.targets.cpu(), batch.indices.cpu()))
        return FeatureBatch(*(torch.cat(column) for column in zip(*batches, strict=True)))
