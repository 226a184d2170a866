"""``Classifier``: an encoder with a linear layer on its features, and how it is judged."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from simclr_lightning.data import FeatureBatch, LabelledDataModule, SimCLRDataModule
from simclr_lightning.optim import LARS, parameter_groups

UNLABELLED = -1


class Classifier(LightningModule):
    """What linear evaluation, fine-tuning and supervised training have in common.

    Batches have ``images`` (N, C, H, W) and ``targets`` (N,), as those of ``LabelledDataModule``; targets of -1 do not
    count. Logged are, over all processes, the loss and ``top1``, for validation and test also ``mean_per_class`` (the
    mean of the classes' accuracies) and, where there are more than five classes, ``top5``.

    Subclasses save their arguments as hyperparameters: ``num_classes``, ``learning_rate``, ``momentum``,
    ``weight_decay`` and, if they have them, ``optimizer`` and ``trust_coefficient``.

    Args:
        encoder: pictures (N, C, H, W) to features (N, F).
        head: what lies between the encoder and the linear layer; None: nothing.
        feature_dim: length of what the linear layer sees.
        num_classes: None to take it from the data module, when a Trainer sets the model up.
        initial_std: of the linear layer's weights; 0: it starts at zero.
        channels_last: whether the encoder computes in this memory format.
        origin: what the encoder's weights are from, for a message; None where they are still to be loaded.

    Attributes:
        confusion_matrix: (classes, classes) int64, of the last validation or test: rows are the true classes, columns
            the predicted ones. None before.
    """

    classifier: nn.Linear | None
    confusion_matrix: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module | None = None,
        *,
        feature_dim: int,
        num_classes: int | None,
        initial_std: float = 0.0,
        channels_last: bool = True,
        origin: str | None,
    ) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}: a classifier tells two classes apart at least.")
        self.encoder = encoder
        self.head = nn.Identity() if head is None else head
        self.origin = origin
        self.confusion_matrix = None
        self.classifier = None
        self._channels_last = channels_last
        self._linear = feature_dim, initial_std
        self._loss = MeanMetric(nan_strategy="disable")  # a loss that is not a number is to be seen
        if num_classes is not None:
            self._build_classifier(num_classes)

    def encode(self, images: Tensor) -> Tensor:
        """The encoder's features (N, F) of pictures (N, C, H, W).

        Raises:
            ValueError: if the pictures have another number of channels than the encoder.
        """
        expected = getattr(self.encoder, "in_channels", None)
        if expected is not None and images.shape[1] != expected:
            raise ValueError(f"The pictures have {images.shape[1]} channels, the encoder was built for {expected}.")
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

    def setup(self, stage: str) -> None:
        """Learn the number of classes from the data, where it is not known yet.

        Raises:
            MisconfigurationException: if the data do not fit.
        """
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, LabelledDataModule):
            data.serve_pictures()  # features that are left from another model would be taken for this one's
        elif isinstance(data, SimCLRDataModule) and stage == "fit":
            raise MisconfigurationException(
                f"{type(self).__name__} trains on single labelled pictures, and {type(data).__name__} serves pairs of "
                "views: use LabelledDataModule (--data LabelledDataModule)."
            )
        classes = getattr(data, "num_classes", None)
        if self.classifier is None and classes is not None:
            self._build_classifier(classes)
            self.hparams["num_classes"] = classes
        if self.classifier is None and stage != "predict":
            raise MisconfigurationException(
                f"{type(self).__name__} does not know the number of classes: pass num_classes (--model.num_classes), "
                "or use a data module that has it, such as LabelledDataModule."
            )
        if self.classifier is not None and classes not in (None, self.classifier.out_features):
            raise MisconfigurationException(
                f"{type(self).__name__} tells {self.classifier.out_features} classes apart, the data have {classes}: "
                "use the data that it was trained for, or leave num_classes out to train another."
            )

    def on_fit_start(self) -> None:
        """Say what is trained, from what, on how many labels."""
        data: Any = getattr(self.trainer, "datamodule", None)
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
        loss = _cross_entropy(scores, targets)
        right = (scores.argmax(1) == targets).sum() / (targets >= 0).sum().clamp(min=1)
        values = {"train/loss": loss, "train/top1": right}
        self.log_dict(values, prog_bar=True, batch_size=len(targets), sync_dist=True)
        return loss

    def on_validation_start(self) -> None:
        """Refuse to judge weights that were never loaded."""
        self._require_weights()

    def on_validation_epoch_start(self) -> None:
        """Count anew."""
        self._start_counting()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge the scores of a batch."""
        self._judge(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies over all processes."""
        self._log_accuracies("val")

    def on_test_start(self) -> None:
        """Refuse to judge weights that were never loaded."""
        self._require_weights()

    def on_test_epoch_start(self) -> None:
        """Count anew."""
        self._start_counting()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Judge the scores of a batch."""
        self._judge(batch)

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
        return make_optimizer(
            self,
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
        settings: dict[str, Any] = {"ignore_index": UNLABELLED, "validate_args": False}
        metrics: dict[str, Any] = {
            f"top{k}": MulticlassAccuracy(num_classes, top_k=k, average="micro", **settings)
            for k in ((1, 5) if num_classes > 5 else (1,))
        }
        metrics["confusion"] = MulticlassConfusionMatrix(num_classes, **settings)
        # Without groups: they would merge top1 and top5 where the first batch has all answers right.
        self._metrics = MetricCollection(metrics, compute_groups=False)

    def _require_weights(self) -> None:
        if self.origin is None:
            raise MisconfigurationException(
                f"{type(self).__name__} was built from an architecture alone, its encoder is random: name a checkpoint "
                "of the pre-trained model (--model.checkpoint), or one of this classifier (--ckpt_path)."
            )

    def _scores(self, batch: Any) -> Tensor:
        if isinstance(batch, FeatureBatch):
            return self.score(batch.features)
        images = getattr(batch, "images", None)
        if not isinstance(images, Tensor) or not isinstance(getattr(batch, "targets", None), Tensor):
            raise TypeError(
                f"{type(self).__name__} needs batches with images (N, C, H, W) and targets (N,), got a "
                f"{type(batch).__name__} without: use LabelledDataModule (--data LabelledDataModule)."
            )
        return self(images)  # type: ignore[no-any-return]

    def _start_counting(self) -> None:
        self._metrics.reset()
        self._loss.reset()

    def _judge(self, batch: Any) -> None:
        scores = self._scores(batch)
        self._metrics.update(scores, batch.targets)
        losses = F.cross_entropy(scores, batch.targets, ignore_index=UNLABELLED, reduction="none")
        self._loss.update(losses[batch.targets >= 0])

    def _log_accuracies(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            return
        values = {"loss": self._loss.compute(), **self._metrics.compute()}
        confusion = values.pop("confusion")
        pictures = confusion.sum(1)
        if not pictures.any():
            raise MisconfigurationException(f"None of the {stage} pictures has a label, by which to judge.")
        self.confusion_matrix = confusion
        present = pictures > 0
        values["mean_per_class"] = (confusion.diag()[present] / pictures[present]).mean()
        for name, value in values.items():
            # Equal on all processes already; Lightning warns of sync_dist=False.
            self.log(f"{stage}/{name}", value, prog_bar=name == "top1", sync_dist=True)


def make_optimizer(
    model: Classifier,
    optimizer: Literal["sgd", "lars"],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float = 1e-3,
) -> Optimizer:
    """Optimizer of a classifier's trainable parameters.

    Biases and normalisation are neither decayed nor adapted. LARS does not adapt the linear layer either, as in the
    official code: it may start at zero, and would not get away from there.

    Args:
        model: has been set up.
        optimizer: sgd with Nesterov momentum, or lars.
        learning_rate: base rate, which ``LARSWarmup`` scales.
        momentum: 0 for none.
        weight_decay: of the weights.
        trust_coefficient: of lars.

    Raises:
        ValueError: if the optimizer is unknown.
    """
    weights, others = parameter_groups(model, weight_decay=weight_decay)
    if optimizer == "sgd":
        groups = [group for group in (weights, others) if group["params"]]
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    if optimizer == "lars":
        assert model.classifier is not None  # since setup
        last = model.classifier.weight
        linear = {**weights, "params": [last], "adapt": False}
        weights["params"] = [weight for weight in weights["params"] if weight is not last]
        groups = [weights, others, linear]
        return LARS(groups, lr=learning_rate, momentum=momentum, trust_coefficient=trust_coefficient)
    raise ValueError(f"optimizer is {optimizer!r}: choose sgd or lars (--model.optimizer).")


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean over the labelled rows, 0 without any."""
    total = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
