"""``OnlineLinearProbe``: how good the features are while they are learned, at next to no cost."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.callbacks.labelled_stream import LabelledStream
from simclr_lightning.callbacks.linear_classifier import LinearClassifier
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.features import encode_batch
from simclr_lightning.metrics import RightAnswers

_REMEDY = (
    "Name a folder of labelled pictures, in class folders, with --data.probe FOLDER, or remove OnlineLinearProbe from "
    "trainer.callbacks."
)


class OnlineLinearProbe(Callback):
    """Linear classifier on the detached features, trained beside the model and without any effect on it.

    It learns from the features that ``training_step`` returns anyway, so a step costs one small matrix product more.
    It logs ``probe/loss`` (at logged steps), ``probe/train_top1`` and ``probe/val_top1`` (once an epoch), and the same
    with ``top5`` where there are more than five classes: shares of the labelled pictures (in training: views) of all
    processes, in training as they were before each step. A label of -1 does not count; where nothing is labelled
    nothing is logged. This is a monitor: figures to publish come from a classifier that is trained on finished features
    (section 4 of Chen et al. 2020).

    Where ``trainer.datamodule.probe_dataloader()`` gives a loader, because training pictures are unlabelled, the probe
    learns from one of its batches per step instead, encoded in evaluation mode.

    Example:
        >>> trainer = Trainer(callbacks=[OnlineLinearProbe(num_classes=10)], accelerator="cpu", logger=False)

    Args:
        num_classes: number of classes. None: that of ``trainer.datamodule``.
        learning_rate: of Adam, constant. None: 2 / number of features, 0.001 for a ResNet-50; for the reason see
            :class:`~simclr_lightning.callbacks.linear_classifier.LinearClassifier`.
        weight_decay: L2 penalty of Adam.
        name: prefix of what is logged. Probes of different names live side by side, in the checkpoint too.

    Raises:
        InputError: if num_classes is smaller than 1.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 0.0,
        name: str = "probe",
    ) -> None:
        super().__init__()
        check_number("num_classes", num_classes, "trainer.callbacks.num_classes", least=1, most=10_000_000)
        check_number("learning_rate", learning_rate, above=0)
        check_number("weight_decay", weight_decay, least=0)
        self.num_classes = num_classes
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.name = name
        self._classifier: LinearClassifier | None = None  # None: before the first fit, or nothing to learn from
        self._stream: LabelledStream | None = None
        self._loaded: dict[str, Any] = {}  # a state that came before the classifier
        self._is_first_batch = True

    # --- state ---

    @property
    def state_key(self) -> str:
        """Key in the checkpoint, different for probes of different names."""
        return f"{type(self).__qualname__}{ {'name': self.name} }"

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's moments and the place in the labelled loader; empty before the first fit."""
        if self._classifier is None:
            return self._loaded
        place = {} if self._stream is None else {"cycle": self._stream.cycle, "position": self._stream.position}
        return self._classifier.state_dict() | place

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the epoch's count, that of all processes: a run that is resumed within an epoch goes on with it."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if self._classifier is not None and state:
            state["train_answers"] = self._classifier.train_answers.totals()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, now or as soon as there is a classifier.

        Raises:
            InputError: if it belongs to another number of classes or features.
        """
        if self._classifier is None:
            self._loaded = state_dict
            return
        self._classifier.load_state_dict(state_dict)
        if "train_answers" in state_dict:
            self._classifier.train_answers.go_on(state_dict["train_answers"])
        if self._stream is not None:
            self._stream.cycle, self._stream.position = state_dict.get("cycle", 0), state_dict.get("position", 0)

    # --- start ---

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the classifier on the model's device, and give it the state of a checkpoint or of an earlier fit.

        Raises:
            InputError: if nobody tells the number of classes, or the module has no ``feature_dim``.
        """
        self._loaded = self.state_dict()
        self._classifier = None
        datamodule: Any = getattr(trainer, "datamodule", None)
        loader = datamodule.probe_dataloader() if hasattr(datamodule, "probe_dataloader") else None
        self._stream = None if loader is None else LabelledStream(loader)
        num_classes = self.num_classes or getattr(datamodule, "num_classes", None)
        if num_classes is not None:
            self._build(num_classes, _feature_dim(pl_module), pl_module.device)
        elif hasattr(datamodule, "num_classes"):
            rank_zero_warn(f"OnlineLinearProbe has no labels to learn from and logs nothing. {_REMEDY}")
        else:
            raise InputError(
                "OnlineLinearProbe does not know the number of classes, since there is no data module with "
                "`num_classes`: pass it, OnlineLinearProbe(num_classes=10)."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the classifier from the checkpoint where there is validation without a fit."""
        if self._classifier is None and self._loaded and trainer.state.fn != TrainerFn.FITTING:
            num_classes, num_features = self._loaded["head"]["weight"].shape
            self._build(num_classes, num_features, pl_module.device)

    def _build(self, num_classes: int, num_features: int, device: torch.device) -> None:
        self._classifier = LinearClassifier(
            num_features,
            num_classes,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            device=device,
        )
        self._is_first_batch = True
        if self._loaded:
            self.load_state_dict(self._loaded)
        self._loaded = {}

    # --- training ---

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from zero."""
        if self._classifier is not None:
            self._classifier.train_answers.reset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take one step, from this batch or from the next one of the labelled loader.

        Raises:
            InputError: if ``training_step`` returns no features, or a label is too large.
        """
        if self._classifier is None or not outputs:  # training_step may return None to leave out a step
            return
        if self._stream is not None:
            features, taken = encode_batch(trainer, pl_module, self._stream.take())
            targets = taken.targets
        else:
            features, targets = _features_and_targets(outputs, batch, "training_step")
        loss, labelled = self._classifier.learn(features, targets)

        # Numbers are read at the first step and at logged ones only, because the host then waits for the device.
        is_first, self._is_first_batch = self._is_first_batch, False
        period = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not is_first and (period == 0 or trainer.global_step % period):
            return
        self._classifier.check_labels()
        if labelled > 0:
            pl_module.log(f"{self.name}/loss", loss, on_step=True, on_epoch=False)
        elif is_first:
            rank_zero_warn(
                "No picture of the first batch has a label, so OnlineLinearProbe has nothing to learn from and logs "
                f"nothing until one has. {_REMEDY}"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's accuracies in training.

        Raises:
            InputError: if a label is too large.
        """
        if self._classifier is not None:
            self._classifier.check_labels()
            self._log(pl_module, "train", self._classifier.train_answers)

    # --- validation ---

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from zero."""
        if self._classifier is not None:
            self._classifier.val_answers.reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the right answers, in the first validation loader.

        Raises:
            InputError: if ``validation_step`` returns no features.
        """
        if self._classifier is not None and dataloader_idx == 0:
            self._classifier.judge(*_features_and_targets(outputs, batch, "validation_step"))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the accuracies, unless nothing was counted or learned yet.

        Raises:
            InputError: if a label is too large.
        """
        if self._classifier is not None:
            self._classifier.check_labels()
            if self._classifier.has_learned():
                self._log(pl_module, "val", self._classifier.val_answers)

    def _log(self, pl_module: LightningModule, stage: str, answers: RightAnswers) -> None:
        """Log accuracies, unless no process had a label."""
        for name, value in answers.compute().items():
            # Equal on all processes already; Lightning warns of sync_dist=False.
            pl_module.log(f"{self.name}/{stage}_{name}", value, prog_bar=name == "top1", sync_dist=True)


def _feature_dim(pl_module: LightningModule) -> int:
    feature_dim = getattr(pl_module, "feature_dim", None)
    if not isinstance(feature_dim, int):
        raise InputError(
            f"OnlineLinearProbe needs the length of the features: give {type(pl_module).__name__} an integer attribute "
            "`feature_dim`, as SimCLR has."
        )
    return feature_dim


def _features_and_targets(outputs: Any, batch: Any, step: str) -> tuple[Tensor, Tensor]:
    """Features (M, F) of a step and the targets (M,) of the same rows, M = N, or V N of V views.

    Where pictures belong together, views but the first may be of others, whose targets are their own.
    """
    features = outputs.get("features") if isinstance(outputs, dict) else None
    targets = getattr(batch, "targets", None)
    if not isinstance(features, Tensor) or not isinstance(targets, Tensor):
        found = f"the keys {sorted(outputs)}" if isinstance(outputs, dict) else f"a {type(outputs).__name__}"
        raise InputError(
            f"OnlineLinearProbe needs `features` in the dictionary that {step} returns, as SimCLR does, and `targets` "
            f"(-1: unlabelled) in the batch, as ViewBatch has; found {found} and a batch of type "
            f"{type(batch).__name__}."
        )
    if features.ndim != 2 or len(features) % len(targets):
        raise InputError(
            f"OnlineLinearProbe needs features (V N, F) or (N, F) for targets (N,); {step} returned "
            f"{tuple(features.shape)} for {len(targets)} targets."
        )
    if getattr(batch, "groups", None) is not None:
        features = features[: len(targets)]
    return features, targets.repeat(len(features) // len(targets))  # [all first views; all second views; ...]
