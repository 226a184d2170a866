"""``Classifier``: an encoder with a linear layer on its features, and how it is judged."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from simclr_lightning.agreement import check_agreement
from simclr_lightning.checkpoints import SafelyLoaded
from simclr_lightning.classifiers.classifier_metrics import ClassifierMetrics, cross_entropy
from simclr_lightning.classifiers.optimizer import make_optimizer
from simclr_lightning.compat import read_bar_at_logged_steps, trainer_of
from simclr_lightning.data import LabelledDataModule, SimCLRDataModule
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.models.sharding import configure_for_strategy


class Classifier(SafelyLoaded):
    """An encoder with a linear layer: what linear evaluation, fine-tuning and supervised training have in common.

    Batches have ``images`` (N, C, H, W) and ``targets`` (N,), as those of ``LabelledDataModule``, or ``features``
    (N, F) instead of pictures; targets of -1 do not count. Logged are, over all processes, the loss and ``top1``, for
    validation and test also ``mean_per_class`` (the mean of the classes' accuracies) and, where there are more than
    five classes, ``top5``.

    It trains any encoder in memory, if the learning rate is given. Subclasses save their arguments as hyperparameters
    instead, so that their checkpoints can be loaded: ``num_classes``, ``learning_rate``, ``momentum``, ``weight_decay``
    and, if they have them, ``optimizer`` and ``trust_coefficient``.

    Args:
        encoder: pictures (N, C, H, W) to features (N, F). It is trained if it has parameters.
        head: what lies between the encoder and the linear layer; None: nothing.
        feature_dim: length of what the linear layer sees; None: ``encoder.feature_dim``.
        num_classes: None to take it from the data module, when a Trainer sets the model up.
        initial_std: of the linear layer's weights; 0: it starts at zero.
        channels_last: whether the encoder computes in this memory format.
        origin: what the encoder's weights are from, for a message; None where they are still to be loaded.
        learning_rate: base rate, of a global batch of 256, of SGD with Nesterov momentum 0.9 and no decay; None: a
            subclass saves its own.

    Attributes:
        confusion_matrix: (classes, classes) int64, of the last validation or test: rows are the true classes, columns
            the predicted ones. None before.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 8))
        >>> Classifier(encoder, feature_dim=8, num_classes=3, learning_rate=0.1)(torch.rand(2, 3, 4, 4))
        tensor([[0., 0., 0.],
                [0., 0., 0.]], grad_fn=<AddmmBackward0>)
    """

    classifier: nn.Linear | None
    confusion_matrix: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module | None = None,
        *,
        feature_dim: int | None = None,
        num_classes: int | None = None,
        initial_std: float = 0.0,
        channels_last: bool = True,
        origin: str | None = "a model in memory",
        learning_rate: float | None = None,
    ) -> None:
        super().__init__()
        check_number("num_classes", num_classes, "model.num_classes", least=2)
        self.encoder = encoder
        self.head = nn.Identity() if head is None else head
        self.origin = origin
        self.confusion_matrix = None
        self.classifier = None
        self._channels_last = channels_last
        self._linear = cast("int", encoder.feature_dim) if feature_dim is None else feature_dim, initial_std
        if num_classes is not None:
            self._build_classifier(num_classes)
        if learning_rate is not None:
            self.save_hyperparameters({"learning_rate": learning_rate, "momentum": 0.9, "weight_decay": 0.0})

    def encode(self, images: Tensor) -> Tensor:
        """The encoder's features (N, F) of pictures (N, C, H, W).

        Raises:
            InputError: if the pictures have another number of channels than the encoder.
        """
        expected = getattr(self.encoder, "in_channels", None)
        if expected is not None and images.shape[1] != expected:
            raise InputError(f"The pictures have {images.shape[1]} channels, the encoder was built for {expected}.")
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return cast("Tensor", self.encoder(images))

    def score(self, features: Tensor) -> Tensor:
        """Scores (N, classes) of features (N, F), before the softmax.

        Raises:
            RuntimeError: if the number of classes is not known yet.
        """
        if self.classifier is None:
            raise RuntimeError(
                f"{type(self).__name__} does not know the number of classes: pass num_classes, or let a Trainer set it "
                "up with a data module."
            )
        return cast("Tensor", self.classifier(self.head(features)))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, classes) of pictures (N, C, H, W), before the softmax."""
        return self.score(self.encode(images))

    configure_model = configure_for_strategy

    def setup(self, stage: str) -> None:
        """Learn the number of classes from the data, where it is not known yet.

        Raises:
            InputError: if the data do not fit.
        """
        if stage == "fit":
            read_bar_at_logged_steps(check_agreement(trainer_of(self)))
        data = getattr(trainer_of(self), "datamodule", None)
        if isinstance(data, LabelledDataModule):
            data.serve_pictures()  # features that are left from another model would be taken for this one's
            data.adopt_scale(getattr(self.encoder, "scale_of_pictures", None))
        elif isinstance(data, SimCLRDataModule) and stage == "fit":
            raise InputError(
                f"{type(self).__name__} trains on single labelled pictures, and {type(data).__name__} serves pairs of "
                "views: use LabelledDataModule (--data LabelledDataModule)."
            )
        classes = getattr(data, "num_classes", None)
        if self.classifier is None and classes is not None:
            self._build_classifier(classes)
            self.hparams["num_classes"] = classes
        if self.classifier is None and stage != "predict":
            raise InputError(
                f"{type(self).__name__} does not know the number of classes: pass num_classes (--model.num_classes), "
                "or use a data module that has it, such as LabelledDataModule."
            )
        if self.classifier is not None and classes not in (None, self.classifier.out_features):
            raise InputError(
                f"{type(self).__name__} tells {self.classifier.out_features} classes apart, the data have {classes}: "
                "use the data that it was trained for, or leave num_classes out to train another."
            )

    def on_fit_start(self) -> None:
        """Say what is trained, from what, on how many labels."""
        data: Any = getattr(trainer_of(self), "datamodule", None)
        trained = sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
        labels = f" on {data.num_pictures:,} labelled pictures" if hasattr(data, "num_pictures") else ""
        assert self.classifier is not None  # since setup
        rank_zero_info(
            f"{type(self).__name__} trains {trained:,} of {sum(p.numel() for p in self.parameters()):,} parameters"
            f"{labels} of {self.classifier.out_features} classes. The encoder comes from "
            f"{self.origin or 'the checkpoint that is resumed'}."
        )

    def on_train_start(self) -> None:
        """Refuse to train from weights that were never loaded."""
        self._require_weights()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Tell which class wrote it."""
        checkpoint["classifier"] = type(self).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember that the weights are there; Lightning loads them, all or none."""
        self.origin = self.origin or "a checkpoint of this classifier"

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy () of the labelled pictures of a batch."""
        scores, targets = self._scores(batch), batch.targets
        loss = cross_entropy(scores, targets)
        right = (scores.argmax(1) == targets).sum() / (targets >= 0).sum().clamp(min=1)
        values = {"train/loss": loss, "train/top1": right}
        self.log_dict(values, prog_bar=True, batch_size=len(targets), sync_dist=True)
        return loss

    def on_validation_start(self) -> None:
        """Refuse to judge weights that were never loaded; count anew."""
        self._start_judging()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge the scores of a batch."""
        self._metrics.update(self._scores(batch), batch.targets)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies over all processes."""
        self._log_accuracies("val")

    def on_test_start(self) -> None:
        """Refuse to judge weights that were never loaded; count anew."""
        self._start_judging()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Judge the scores of a batch."""
        self._metrics.update(self._scores(batch), batch.targets)

    def on_test_epoch_end(self) -> None:
        """Log the accuracies over all processes."""
        self._log_accuracies("test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Features (N, F) of clean pictures, their targets (N,) and indices (N,), and scores if classes are known."""
        features = self.encode(batch.images)
        scores = {} if self.classifier is None else {"scores": self.score(features)}
        return {"features": features, **scores, "targets": batch.targets, "indices": batch.indices}

    def configure_optimizers(self) -> Optimizer:
        """SGD with Nesterov momentum, or LARS where the hyperparameter ``optimizer`` says so."""
        assert self.classifier is not None  # since setup
        return make_optimizer(
            self,
            self.classifier,
            self.hparams.get("optimizer", "sgd"),
            learning_rate=self.hparams["learning_rate"],
            momentum=self.hparams["momentum"],
            weight_decay=self.hparams["weight_decay"],
            trust_coefficient=self.hparams.get("trust_coefficient", 1e-3),
        )

    def _build_classifier(self, num_classes: int) -> None:
        feature_dim, initial_std = self._linear
        self.classifier = nn.Linear(feature_dim, num_classes)
        nn.init.normal_(self.classifier.weight, std=initial_std)
        nn.init.zeros_(self.classifier.bias)

    def _start_judging(self) -> None:
        self._require_weights()
        assert self.classifier is not None  # since setup
        self._metrics = ClassifierMetrics(self.classifier.out_features, self.device)

    def _require_weights(self) -> None:
        if self.origin is None:
            raise InputError(
                f"{type(self).__name__} was built from an architecture alone, its encoder is random: name a checkpoint "
                "of the pre-trained model (--model.checkpoint), or one of this classifier (--ckpt_path)."
            )

    def _scores(self, batch: Any) -> Tensor:
        features = getattr(batch, "features", None)
        if isinstance(features, Tensor):
            return self.score(features)
        images = getattr(batch, "images", None)
        if not isinstance(images, Tensor) or not isinstance(getattr(batch, "targets", None), Tensor):
            raise TypeError(
                f"{type(self).__name__} needs batches with images (N, C, H, W) and targets (N,), got a "
                f"{type(batch).__name__} without: use LabelledDataModule (--data LabelledDataModule)."
            )
        return self(images)  # type: ignore[no-any-return]

    def _log_accuracies(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        values, confusion = self._metrics.compute()
        if not confusion.any():
            raise InputError(f"None of the {stage} pictures has a label, by which to judge.")
        self.confusion_matrix = confusion
        shown = getattr(getattr(self.trainer, "datamodule", None), "judged_by", None) or "top1"
        for name, value in values.items():
            # Equal on all processes already; Lightning warns of sync_dist=False.
            self.log(f"{stage}/{name}", value, prog_bar=name == shown, sync_dist=True)
