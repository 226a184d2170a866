from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning.callbacks.linear_classifier import LinearClassifier
from simclr_lightning.errors import InputError


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
        loss, number = classifier.learn(features, targets)

        labelled = [(x.double(), int(y)) for x, y in zip(features, targets, strict=True) if y >= 0]
        losses = [-reference(x).log_softmax(0)[y] for x, y in labelled]
        assert loss.item() == pytest.approx(sum(one.item() for one in losses) / len(labelled), rel=1e-5)
        assert number == len(labelled)
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(classifier.head.weight.double(), reference.weight, atol=1e-5)
    assert torch.allclose(classifier.head.bias.double(), reference.bias, atol=1e-5)
    assert classifier.has_learned()


@pytest.mark.parametrize("use", ["learn", "judge"])
@pytest.mark.parametrize("num_classes", [3, 5, 6, 20])
def test_accuracies_are_shares_of_the_labelled_rows(num_classes: int, use: str) -> None:
    classifier = make(num_classes=num_classes, learning_rate=0.0)
    nn.init.normal_(classifier.head.weight)
    right = {"top1": 0, "top5": 0}
    labelled = 0
    for step in range(4):
        features, targets = rows(50, classes=num_classes, seed=step)
        getattr(classifier, use)(features, targets)
        for row, target in zip(classifier.head(features).tolist(), targets.tolist(), strict=True):
            if target >= 0:
                better = sum(score > row[target] for score in row)
                labelled += 1
                right["top1"] += better < 1
                right["top5"] += better < 5
    used = classifier.train_answers if use == "learn" else classifier.val_answers
    expected = {name: number / labelled for name, number in right.items() if num_classes > 5 or name == "top1"}
    assert {name: value.item() for name, value in used.compute().items()} == pytest.approx(expected)


def test_top1_and_top5_stay_apart_after_a_batch_of_right_answers() -> None:
    classifier = make(num_features=7, num_classes=7)
    nn.init.eye_(classifier.head.weight)
    classifier.judge(torch.eye(7), torch.arange(7))
    classifier.judge(torch.eye(7), torch.arange(7).roll(1))
    accuracies = classifier.val_answers.compute()
    assert accuracies["top1"] == 0.5
    assert accuracies["top5"] > 0.5


def test_the_default_rate_shrinks_with_the_number_of_features() -> None:
    for num_features in (32, 2048):
        classifier = LinearClassifier(num_features, 3, device=torch.device("cpu"))
        assert classifier.optimizer.param_groups[0]["lr"] == 2 / num_features


def test_nothing_is_learned_without_a_label() -> None:
    classifier = make()
    loss, labelled = classifier.learn(torch.rand(4, 5), torch.full((4,), -1))
    assert loss == 0
    assert labelled == 0
    assert not classifier.head.weight.any()
    assert not classifier.has_learned()
    classifier.check_labels()


def test_a_step_without_labels_stays_finite_after_others() -> None:
    classifier = make()
    classifier.learn(*rows(8))
    classifier.learn(torch.rand(4, 5), torch.full((4,), -1))
    assert classifier.head.weight.isfinite().all()


@pytest.mark.parametrize("use", ["learn", "judge"])
def test_too_large_label_is_named_and_counts_as_unlabelled(use: str) -> None:
    classifier = make()
    getattr(classifier, use)(torch.rand(3, 5), torch.tensor([2, 9, -1]))
    getattr(classifier, use)(torch.rand(3, 5), torch.tensor([2, 1, -1]))
    with pytest.raises(InputError, match=r"label 9, but the probe has 7 classes.*num_classes=10"):
        classifier.check_labels()
    shares = (classifier.train_answers if use == "learn" else classifier.val_answers).compute()
    right = 3 * shares["top1"].item()  # of three labelled rows
    assert right == pytest.approx(round(right))


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
    with pytest.raises(InputError, match="10 classes apart by 4 features, this run has 7 classes and 5"):
        make().load_state_dict(make(4, 10).state_dict())
