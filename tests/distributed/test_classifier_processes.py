"""Classifiers on two processes are trained and judged as on one."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import nn

from simclr_lightning import LabelledDataModule, LARSWarmup, SimCLR
from simclr_lightning.distributed import world_size
from simclr_lightning.evaluation import FineTune, LinearEvaluation
from simclr_lightning.evaluation.classifier import Classifier

Results = list[dict[str, dict[str, Any]]]


class Encoder(nn.Sequential):
    """A network that treats every picture by itself, without BatchNorm."""

    feature_dim = 196

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(1, 4), nn.Flatten())


class Model(SimCLR):
    def build_encoder(self) -> nn.Module:
        return Encoder()


def train(kind: type[LinearEvaluation] | type[FineTune]) -> dict[str, Any]:
    """Three epochs, then a validation on 143 pictures, which two processes cannot share equally."""
    torch.manual_seed(0)
    classifier: Classifier = kind.of(Model(), learning_rate=0.1)
    data = LabelledDataModule(batch_size=100, augmentation="none", val_fraction=143 / 1437)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        max_epochs=3,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LARSWarmup(warmup_epochs=0)],
    )
    messages = MemoryHandler(1000)
    for package in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(package).addHandler(messages)
    trainer.fit(classifier, data)
    (figures,) = trainer.validate(classifier, data, verbose=False)
    return {
        "messages": [record.getMessage() for record in messages.buffer],
        "figures": {name: float(value) for name, value in figures.items()},
        "confusion": classifier.confusion_matrix,
        "weights": dict(classifier.state_dict()),
        "pictures": len(list(data.clean_dataloader("val").sampler)),
    }


def trainings() -> dict[str, dict[str, Any]]:
    return {kind.__name__: train(kind) for kind in (LinearEvaluation, FineTune)}


@pytest.fixture(scope="module")
def results() -> Results:
    """Of one process, then of each of two."""
    return run_in_processes(trainings, 1) + run_in_processes(trainings, 2)


@pytest.mark.parametrize("name", ["LinearEvaluation", "FineTune"])
def test_weights_are_those_of_one_process(results: Results, name: str) -> None:
    truth, *found = (result[name]["weights"] for result in results)
    for weights in found:
        assert weights.keys() == truth.keys()
        for key, value in truth.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("name", ["LinearEvaluation", "FineTune"])
def test_every_picture_is_judged_once(results: Results, name: str) -> None:
    truth, *found = (result[name] for result in results)
    assert truth["confusion"].sum() == 143
    assert truth["confusion"].diag().sum() > 30  # it has learned something
    for result in found:
        assert result["pictures"] == 72  # one of the two is repeated
        assert torch.equal(result["confusion"], truth["confusion"])
        assert result["figures"].keys() == truth["figures"].keys()
        for key, value in truth["figures"].items():
            assert result["figures"][key] == pytest.approx(value, rel=1e-5), key


def test_several_processes_are_told_that_features_are_not_cached(results: Results) -> None:
    told = ["\n".join(result["LinearEvaluation"]["messages"]) for result in results]
    assert ["Features are cached on a single device only" in text for text in told] == [False, True, False]
