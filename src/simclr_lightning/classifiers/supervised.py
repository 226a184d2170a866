"""``Supervised``: the baseline that learns everything from labels."""

from __future__ import annotations

from typing import cast

from simclr_lightning.classifiers.classifier import Classifier
from simclr_lightning.classifiers.optimizer import ClassifierOptimizer, check_classifier
from simclr_lightning.compat import INSTANTIATOR
from simclr_lightning.models import Stem, build_encoder, to_memory_format


class Supervised(Classifier):
    """Trains the encoder of ``SimCLR`` from scratch, with labels, to compare with.

    The paper's baselines see SimCLR's augmentation, for as long as 1000 epochs (Chen et al. 2020, tables 1 and B.3):
    ``LabelledDataModule(augmentation="simclr")``. It does not give their optimizer. The defaults here are those of
    Goyal et al. 2017 (arXiv 1706.02677) for ResNets: Nesterov SGD at 0.1 x batch / 256 and a weight decay of 1e-4, with
    a warm-up of 5 epochs.

    Args:
        encoder: resnet8, resnet10, resnet18, resnet34, resnet50, resnet101, resnet152, or any torchvision model
            (``torchvision/NAME``) or timm model (``timm/NAME``) that gives a pooled feature vector.
        width: multiplies the channels of every stage of a ResNet.
        stem: first layers of a ResNet: imagenet, cifar, pooled, or auto, see ``SimCLR``.
        image_size: side of the training pictures in pixels, which decides ``stem: auto``; the command line takes it
            from the data.
        in_channels: channels of the pictures; the command line takes it from the data.
        zero_init_residual: whether the last BatchNorm gain of every residual block starts at zero.
        num_classes: None: that of the data module.
        optimizer: sgd (Nesterov momentum) or lars.
        learning_rate: base learning rate, of a global batch of 256 for the linear rule.
        momentum: of the optimizer.
        weight_decay: decay of the weights; biases and normalisation layers are not decayed.
        trust_coefficient: of lars.
        channels_last: whether the encoder computes in the channels_last memory format, which is usually faster.
        pool_grid: fields a side over which a ResNet averages its last maps, see ``SimCLR``.

    Raises:
        InputError: if an argument is out of range.

    Example:
        >>> import torch
        >>> Supervised("resnet8", width=0.125, num_classes=3)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        encoder: str = "resnet50",
        width: float = 1.0,
        stem: Stem = "auto",
        image_size: int | None = None,
        in_channels: int = 3,
        zero_init_residual: bool = True,
        num_classes: int | None = None,
        optimizer: ClassifierOptimizer = "sgd",
        learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        trust_coefficient: float = 1e-3,
        channels_last: bool = True,
        pool_grid: int = 1,
    ) -> None:
        check_classifier(num_classes, optimizer, learning_rate, momentum, weight_decay, trust_coefficient)
        network = build_encoder(
            encoder,
            width=width,
            stem=stem,
            in_channels=in_channels,
            image_size=image_size,
            zero_init_residual=zero_init_residual,
            pool_grid=pool_grid,
        )
        super().__init__(
            to_memory_format(network, channels_last=channels_last),
            feature_dim=cast("int", network.feature_dim),
            num_classes=num_classes,
            initial_std=0.01,  # of the official code
            channels_last=channels_last,
            origin="random weights",
        )
        self.save_hyperparameters(ignore=[INSTANTIATOR])
