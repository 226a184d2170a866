"""The paper's linear evaluation, on features that are computed once."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import nn

from simclr_lightning.data import FeatureBatch, GlobalBatchSampler
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.loaders import PictureLoader, make_loader
from simclr_lightning.evaluation.nested import Network, Tell, train_and_test
from simclr_lightning.features import Features

EPOCHS = 90
LEARNING_RATE = 0.1
BATCH_SIZE = 256


def sgd_accuracy(train: Features, test: Features, outer: Trainer, *, seed: int, tell: Tell) -> float:
    """Share of the test pictures, in [0, 1], that a linear layer gets right which SGD has trained.

    Nesterov SGD at 0.1 x batch / 256 with a cosine decay for 90 epochs, no regularisation, from zeros (Chen et al.
    2020, B.6). It differs from the paper in the batch, which is 256 at most instead of 4096, and in learning from clean
    pictures instead of crops and flips: those are ``LinearEvaluation``'s.

    Args:
        train: features to learn from, all labelled.
        test: features to classify, all labelled.
        outer: Trainer whose accelerator and precision are used.
        seed: of the order.
        tell: takes a line about how far this is.
    """
    classes = 1 + int(torch.maximum(train.targets.max(), test.targets.max()))
    make = partial(Network, nn.Identity(), train.features.shape[1], classes, LEARNING_RATE)
    learned = _loader(train, min(BATCH_SIZE, len(train.targets)), seed, training=True)
    judged = _loader(test, BATCH_SIZE, seed, training=False)
    return train_and_test(make, learned, judged, outer, epochs=EPOCHS, seed=seed, tell=tell)["top1"]


def _loader(features: Features, batch_size: int, seed: int, *, training: bool) -> PictureLoader:
    data = FeatureDataset(FeatureBatch(features.features, features.targets, torch.arange(len(features.targets))))
    sampler = GlobalBatchSampler(
        data, batch_size, num_replicas=1, rank=0, shuffle=training, drop_last=training, seed=seed
    )
    return make_loader(
        data,
        sampler,
        resumable=False,
        num_workers=None,
        devices=1,
        pin_memory=False,
        prefetch_factor=None,
        persistent_workers=None,
    )
