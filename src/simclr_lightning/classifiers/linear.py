"""``LinearEvaluation``: a linear classifier on the features of a frozen encoder, the paper's main protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from simclr_lightning.checkpoints import Architecture, architecture_of
from simclr_lightning.classifiers.classifier import Classifier
from simclr_lightning.classifiers.optimizer import check_classifier
from simclr_lightning.classifiers.pretrained import starting_model
from simclr_lightning.compat import INSTANTIATOR, trainer_of
from simclr_lightning.data import FeatureBatch, LabelledDataModule
from simclr_lightning.features import loader_features
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
        MissingFileError: if there is no such checkpoint.
        InputError: if there is none, it does not load completely, or an argument is out of range.

    Example:
        >>> classifier = LinearEvaluation.of(SimCLR("resnet8", width=0.125), num_classes=3)
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3])
        >>> sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
        99
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
        check_classifier(num_classes, "sgd", learning_rate, momentum, weight_decay)
        model = starting_model(checkpoint, architecture, model_class)
        super().__init__(
            model.encoder,
            feature_dim=model.feature_dim,
            num_classes=num_classes,
            channels_last=model.hparams["channels_last"],
            origin=str(checkpoint) if architecture is None else None,
        )
        self.encoder.requires_grad_(False).eval()
        self.save_hyperparameters(ignore=["model_class", INSTANTIATOR])
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
        """The encoder's features (N, F) of pictures (N, C, H, W), in evaluation mode and without gradients."""
        self.encoder.eval()
        with torch.no_grad():
            return super().encode(images)

    def on_fit_start(self) -> None:
        """Compute the features, where they do not change; the checkpoint of a resumed run has been loaded."""
        super().on_fit_start()
        data = getattr(trainer_of(self), "datamodule", None)
        if self.hparams["cache_features"] and isinstance(data, LabelledDataModule) and data.augmentation == "none":
            self._cache_features(data)
        self.encoder.train()  # till training starts: Lightning warns of what is in evaluation mode then

    def on_train_start(self) -> None:
        """Freeze the encoder."""
        super().on_train_start()
        self.encoder.eval()

    def teardown(self, stage: str) -> None:
        """Let the data module serve pictures again."""
        data = getattr(trainer_of(self), "datamodule", None)
        if isinstance(data, LabelledDataModule):
            data.serve_pictures()

    def _cache_features(self, data: LabelledDataModule) -> None:
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by one of its connectors
            return
        if self.trainer.world_size > 1:
            rank_zero_info("Features are cached on a single device only: every epoch encodes the pictures anew.")
            return
        self._require_weights()

        def features(split: Literal["train", "val"]) -> FeatureBatch:
            found = loader_features(self.trainer, self, data, data.clean_dataloader(split), split)
            assert found.indices is not None  # in every batch of ours
            return FeatureBatch(found.features, found.targets, found.indices)

        watched = data.splits.val is not None and self.trainer.limit_val_batches
        data.serve_features(features("train"), features("val") if watched else None)
