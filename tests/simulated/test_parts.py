"""What each part of a training step costs an accelerator: no wait, and a bounded number of kernels and bytes.

docs/architecture.md has the counts before and after. A change that needs more than these says why in its message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from tests.simulated.device import NAME, Record, recorded
from torch import Tensor

from simclr_lightning.callbacks.linear_classifier import LinearClassifier
from simclr_lightning.classifiers.classifier_metrics import ClassifierMetrics, cross_entropy
from simclr_lightning.features import encode
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.losses.watch import contrastive_metrics
from simclr_lightning.metrics import knn_predict
from simclr_lightning.models import build_encoder
from simclr_lightning.optim import build_optimizer, parameter_groups
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe
from simclr_lightning.views.engine import clean

Part = Callable[[], object]


class Cost(NamedTuple):
    kernels: int
    megabytes: float
    waits: int = 0


def device() -> torch.device:
    return torch.device(NAME)


def targets(number: int, classes: int) -> Tensor:
    return (torch.arange(number) % (classes + 1) - 1).to(device())  # every so often one is missing


def views(preset: str, pictures: int, side: int) -> Part:
    engine = ViewEngine(ViewRecipe(preset))
    pixels = torch.randint(0, 256, (pictures, 3, side, side), dtype=torch.uint8)
    batch = ImageBatch(pixels, None, targets=torch.arange(pictures), indices=torch.arange(pictures)).to(NAME)
    return lambda: engine(batch)


def nt_xent(pictures: int) -> Part:
    loss = NTXentLoss()
    projections = torch.randn(2, pictures, 128).to(device()).requires_grad_()

    def step() -> None:
        loss(projections).backward()

    return step


def lars() -> Part:
    network = build_encoder("resnet50", stem="imagenet").to(device())
    groups = [group for group in parameter_groups(network, weight_decay=1e-6) if group["params"]]
    optimizer = build_optimizer("lars", groups, learning_rate=0.3, momentum=0.9, trust_coefficient=1e-3)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    return optimizer.step


def probe(classes: int, *, judge: bool = False) -> Part:
    features = 512 if classes < 1000 else 2048
    classifier = LinearClassifier(features, classes, device=device())
    rows = torch.rand(1024, features).to(device()), targets(1024, classes)
    return (lambda: classifier.judge(*rows)) if judge else (lambda: classifier.learn(*rows))


def judged() -> Part:
    metrics = ClassifierMetrics(10, device())
    scores, labels = torch.randn(1024, 10).to(device()), targets(1024, 10)
    return lambda: metrics.update(scores, labels)


def classifier_loss() -> Part:
    scores, labels = torch.randn(1024, 10).to(device()), targets(1024, 10)
    return lambda: cross_entropy(scores, labels)


def watched() -> Part:
    first, second = (torch.randn(256, 128).to(device()) for _ in range(2))
    return lambda: contrastive_metrics(first, second)


def clean_pictures() -> Part:
    pixels = torch.randint(0, 256, (64, 3, 256, 256), dtype=torch.uint8).to(device())
    return lambda: clean(pixels, ViewRecipe("imagenet"))


def encoded() -> Part:
    encoder = build_encoder("resnet8", width=0.125, stem="cifar").to(device())
    images = torch.rand(64, 3, 32, 32).to(device())
    return lambda: encode(encoder, images)


def neighbours() -> Part:
    bank, queries = torch.randn(2000, 64).to(device()), torch.randn(500, 64).to(device())
    labels = (torch.arange(2000) % 10).to(device())
    return lambda: knn_predict(queries, bank, labels, num_classes=10)


PARTS: dict[str, tuple[Callable[[], Part], Cost]] = {
    "views of 256 pictures of 32 pixels": (lambda: views("cifar10", 256, 32), Cost(290, 638)),
    "views of 16 pictures of 224 pixels": (lambda: views("imagenet", 16, 256), Cost(327, 2090)),
    "clean pictures": (clean_pictures, Cost(94, 606)),
    "NT-Xent of 512 views": (lambda: nt_xent(256), Cost(74, 18)),
    "NT-Xent of 8192 views": (lambda: nt_xent(4096), Cost(180, 2444)),
    "contrastive accuracy": (watched, Cost(26, 4.5)),
    "LARS of a ResNet-50": (lars, Cost(70, 1222)),
    "probe of 10 classes": (lambda: probe(10), Cost(33, 5.5)),
    "probe of 3 classes": (lambda: probe(3), Cost(30, 4.7)),
    "probe of 1000 classes": (lambda: probe(1000), Cost(33, 276)),
    "probe in validation": (lambda: probe(10, judge=True), Cost(16, 2.5)),
    "classifier's loss": (classifier_loss, Cost(6, 0.15)),
    "classifier in validation": (judged, Cost(20, 0.54)),
    "features": (encoded, Cost(29, 76.4)),
    "neighbours": (neighbours, Cost(20, 18.4, waits=2)),  # it looks at the labels first
}


@pytest.fixture(params=PARTS)
def measured(request: pytest.FixtureRequest) -> tuple[Record, Cost]:
    """A part's second call, and what it may cost."""
    make, most = PARTS[request.param]
    run = make()
    run()
    with recorded() as record:
        run()
    print(f"{request.param}: {record}")
    return record, most


def test_a_part_never_waits_and_costs_no_more_than_it_did(measured: tuple[Record, Cost]) -> None:
    record, most = measured
    assert len(record.waits) == most.waits, record.waits
    assert record.count <= most.kernels, record.kernels.most_common()
    assert record.bytes / 1e6 <= most.megabytes
