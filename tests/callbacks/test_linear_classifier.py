from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.classification import MulticlassAccuracy

from simclr_lightning.callbacks.linear_classifier import LinearClassifier


def make(num_features: int = 5, num_classes: int = 7, *, learning_rate: float = 0.05) -> LinearClassifier:
    return LinearClassifier(
        num_features, num_classes, learning_rate=learning_rate, weight_decay=0.01, device=torch.device("cpu")
    )


def rows(number: int, *, classes: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (number, 5) and targets of which about every third is missing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(number, 5, generator=generator)
    targets = torch.randint(classes, (number,), generator=generator)
    return features, targets.where(torch.rand(number, generator=generator) > 0.3, -1)


def test_steps_are_those_of_adam_on_the_mean_loss_of_the_labelled_rows() -> None:
    classifier = make()
    reference = nn.Linear(5, 7, dtype=torch.float64)
    nn.init.zeros_(reference.weight)
    nn.init.zeros_(reference.bias)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.05, weight_decay=0.01, eps=1e-5)
    for step in range(20):
        features, targets = rows(12, seed=step)
        summed_loss, counts = classifier.learn(features, targets)

        labelled = [(x.double(), int(y)) for x, y in zip(features, targets, strict=True) if y >= 0]
        losses = [-reference(x).log_softmax(0)[y] for x, y in labelled]
        assert summed_loss.item() == pytest.approx(sum(loss.item() for loss in losses), rel=1e-5)
        assert counts[0] == len(labelled)
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(classifier.head.weight.double(), reference.weight, atol=1e-5)
    assert torch.allclose(classifier.head.bias.double(), reference.bias, atol=1e-5)
    assert classifier.has_learned()


@pytest.mark.parametrize("num_classes", [3, 5, 6, 20])
def test_counts_are_torchmetrics_micro_accuracies(num_classes: int) -> None:
    classifier = make(num_classes=num_classes)
    nn.init.normal_(classifier.head.weight)
    assert classifier.ranks == ((1, 5) if num_classes > 5 else (1,))
    metrics = [MulticlassAccuracy(num_classes, top_k=k, average="micro", ignore_index=-1) for k in classifier.ranks]
    total = classifier.no_counts()
    for step in range(4):
        features, targets = rows(50, classes=num_classes, seed=step)
        total += classifier.count(features, targets)
        for metric in metrics:
            metric.update(classifier.head(features).detach(), targets)
    labelled, *right = total.tolist()
    assert 100 < labelled < 200
    assert [number / labelled for number in right] == pytest.approx([metric.compute().item() for metric in metrics])


def test_the_default_rate_shrinks_with_the_number_of_features() -> None:
    for num_features in (32, 2048):
        classifier = LinearClassifier(num_features, 3, device=torch.device("cpu"))
        assert classifier.optimizer.param_groups[0]["lr"] == 2 / num_features


def test_nothing_is_learned_without_a_label() -> None:
    classifier = make()
    loss, counts = classifier.learn(torch.rand(4, 5), torch.full((4,), -1))
    assert loss == 0
    assert counts.tolist() == [0, 0, 0]
    assert not classifier.head.weight.any()
    assert not classifier.has_learned()
    classifier.check_labels()


def test_a_step_without_labels_stays_finite_after_others() -> None:
    classifier = make()
    classifier.learn(*rows(8))
    classifier.learn(torch.rand(4, 5), torch.full((4,), -1))
    assert classifier.head.weight.isfinite().all()


@pytest.mark.parametrize("use", ["learn", "count"])
def test_too_large_label_is_named_and_counts_as_unlabelled(use: str) -> None:
    classifier = make()
    getattr(classifier, use)(torch.rand(3, 5), torch.tensor([2, 9, -1]))
    getattr(classifier, use)(torch.rand(3, 5), torch.tensor([2, 1, -1]))
    with pytest.raises(MisconfigurationException, match=r"label 9, but the probe has 7 classes.*num_classes=10"):
        classifier.check_labels()
    assert classifier.count(torch.rand(3, 5), torch.tensor([2, 9, -1]))[0] == 1


def test_it_computes_in_float32_under_autocast() -> None:
    features, targets = rows(16)
    plain, autocast = make(), make()
    plain.learn(features.bfloat16(), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast.learn(features.bfloat16(), targets)
    assert autocast.head.weight.dtype == torch.float32
    assert torch.equal(plain.head.weight, autocast.head.weight)


def test_it_learns_where_gradients_are_off_and_leaves_the_features_graph_alone() -> None:
    features, targets = rows(16)
    features.requires_grad_()
    classifier = make()
    with torch.no_grad():
        classifier.learn(features, targets)
    assert classifier.has_learned()
    classifier.learn(features, targets)
    assert features.grad is None


def test_learning_and_counting_never_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        names: ClassVar[set[str]] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    classifier = make()
    monkeypatch.setattr(classifier.optimizer, "step", lambda: None)  # Adam reads its step number, which is on the host
    with Operations() as operations:  # type: ignore[no-untyped-call]
        classifier.learn(*rows(8))
        classifier.count(*rows(8))
        assert not operations.names & {"_local_scalar_dense", "item", "nonzero", "masked_select", "index"}
        classifier.check_labels()
    assert "topk" in operations.names
    assert "_local_scalar_dense" in operations.names


def test_it_takes_no_random_numbers() -> None:
    before = torch.get_rng_state()
    make().learn(torch.ones(2, 5), torch.tensor([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_restored_classifier_continues_with_its_own_rate() -> None:
    first = make()
    for step in range(3):
        first.learn(*rows(8, seed=step))
    second = make()
    second.load_state_dict(first.state_dict())
    faster = make(learning_rate=1.0)
    faster.load_state_dict(first.state_dict())
    for classifier in (first, second, faster):
        classifier.learn(*rows(8, seed=3))
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.bias, second.head.bias)
    assert not torch.allclose(first.head.weight, faster.head.weight)


def test_state_of_another_size_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="10 classes apart by 4 features, this run has 7 classes and 5"):
        make().load_state_dict(make(4, 10).state_dict())
