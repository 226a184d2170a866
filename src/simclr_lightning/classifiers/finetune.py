"""``FineTune``: the whole pre-trained network learns from few labels, or from all."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from torch import nn

from simclr_lightning.checkpoints import Architecture, architecture_of
from simclr_lightning.classifiers.classifier import Classifier
from simclr_lightning.classifiers.optimizer import ClassifierOptimizer, check_classifier
from simclr_lightning.classifiers.pretrained import starting_model
from simclr_lightning.compat import INSTANTIATOR
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.models import ProjectionHead
from simclr_lightning.simclr import SimCLR


class FineTune(Classifier):
    """Trains a pre-trained encoder and a new linear layer together (Chen et al. 2020, section 4 and B.5).

    The defaults are the paper's: SGD with Nesterov momentum at 0.05 x batch / 256 and no warm-up
    (``LARSWarmup(warmup_epochs=0)``), no regularisation, crops and flips; 60 epochs on 1 % of the labels, 30 on 10 %.
    The projection head is dropped.

    SimCLRv2 (arXiv 2006.10029) keeps the first layer of a head of three and trains with LARS: ``head_layers=1``,
    ``optimizer="lars"``, ``learning_rate=0.005`` and ``LARSWarmup(warmup_epochs=0, scaling="sqrt")``.

    Args:
        checkpoint: of a pre-trained ``SimCLR``.
        num_classes: None: that of the data module.
        head_layers: layers of the projection head that are kept below the linear layer, and trained.
        optimizer: sgd (Nesterov momentum) or lars.
        learning_rate: base learning rate, of a global batch of 256 for the linear rule.
        momentum: of the optimizer.
        weight_decay: decay of the weights.
        trust_coefficient: of lars.
        model_class: class of the pre-trained model, where it is not SimCLR: my_project.MySimCLR.
        architecture: not to be typed: what its own checkpoints hold instead of the pre-trained one.

    Raises:
        MissingFileError: if there is no such checkpoint.
        InputError: if there is none, it does not load completely, its head has fewer layers, or an argument is out of
            range.

    Example:
        >>> classifier = FineTune.of(SimCLR("resnet8", width=0.125), num_classes=3, head_layers=1)
        >>> [type(layer).__name__ for layer in classifier.head[0]]  # the first layer of the projection head
        ['Linear', 'BatchNorm1d', 'ReLU']
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        num_classes: int | None = None,
        head_layers: int = 0,
        optimizer: ClassifierOptimizer = "sgd",
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        model_class: type[SimCLR] = SimCLR,
        architecture: Architecture | None = None,
    ) -> None:
        check_classifier(num_classes, optimizer, learning_rate, momentum, weight_decay, trust_coefficient)
        check_number("head_layers", head_layers, "model.head_layers 0", least=0, most=8)
        model = starting_model(checkpoint, architecture, model_class)
        head = _kept(model.head, head_layers)
        linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
        super().__init__(
            model.encoder,
            head,
            feature_dim=linear[-1].out_features if linear else model.feature_dim,
            num_classes=num_classes,
            channels_last=model.hparams["channels_last"],
            origin=str(checkpoint) if architecture is None else None,
        )
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
        head_layers: int = 0,
        optimizer: ClassifierOptimizer = "sgd",
        learning_rate: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
    ) -> Self:
        """Fine-tune a copy of a model in memory, which is left as it is."""
        classifier = cls(
            num_classes=num_classes,
            head_layers=head_layers,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            model_class=type(model),
            architecture=architecture_of(model),
        )
        classifier.encoder.load_state_dict(model.encoder.state_dict())
        classifier.head.load_state_dict(_kept(model.head, head_layers).state_dict())
        classifier.origin = "a model in memory"
        return classifier


def _kept(head: nn.Module, layers: int) -> nn.Sequential:
    """The first layers of a projection head, with their normalisation and ReLU."""
    if layers == 0:
        return nn.Sequential()
    if not isinstance(head, ProjectionHead):
        raise InputError(
            f"head_layers is {layers}, but the head, a {type(head).__name__}, is no ProjectionHead: use 0."
        )
    if layers > len(head.blocks):
        raise InputError(
            f"head_layers is {layers}, but the projection head of the pre-trained model has {len(head.blocks)} "
            "layer(s): choose at most as many (--model.head_layers)."
        )
    return head.blocks[:layers]
