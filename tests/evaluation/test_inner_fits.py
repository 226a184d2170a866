"""Classifiers that are trained for one figure: fine-tuned networks, and linear layers by SGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor, nn

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule
from simclr_lightning.classifiers import Classifier, FineTune
from simclr_lightning.data import GlobalBatchSampler, InMemoryPictures, LabelledDataModule
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.evaluation import Features
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe, check_fine_tuning, fine_tune, linear_by_sgd

Make = Callable[..., Any]


def silent(progress: str) -> None:
    """Takes a line and forgets it."""


def model() -> SimCLR:
    return SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, zero_init_residual=False)


@pytest.fixture
def digits() -> SimCLRDataModule:
    data = SimCLRDataModule("digits")
    data.setup()
    return data


def fine_tuned(
    network: SimCLR,
    data: SimCLRDataModule,
    outer: Trainer,
    positions: Tensor,
    recipe: FineTuneRecipe | None = None,
    *,
    epochs: int,
    seed: int = 0,
    split: Any = "test",
    progress: Callable[[str], None] = silent,
) -> dict[str, float]:
    recipe = recipe or FineTuneRecipe()
    return fine_tune(
        network.encoder, data, positions, recipe, epochs=epochs, split=split, outer=outer, seed=seed, progress=progress
    )


@pytest.fixture
def dark_and_bright(digits: SimCLRDataModule) -> SimCLRDataModule:
    """Two classes that any network tells apart: 24 training, 6 validation and 8 test pictures."""
    images = torch.zeros(38, 1, 8, 8, dtype=torch.uint8)
    images[1::2] = 255
    pictures = InMemoryPictures(images, torch.arange(38) % 2, ["dark", "bright"])
    train, val, test = (Split(pictures, part) for part in torch.split(torch.arange(38), [24, 6, 8]))
    digits._splits = Splits(train, train, val, test, ["dark", "bright"], 2)
    return digits


def test_a_separable_problem_is_solved_exactly(dark_and_bright: SimCLRDataModule, trainer: Make) -> None:
    told: list[str] = []
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=8)
    figures = fine_tuned(model(), dark_and_bright, trainer(), torch.arange(24), recipe, epochs=12, progress=told.append)
    assert figures == {"top1": 1.0, "mean_per_class": 1.0}
    assert told == [f"epoch {epoch} of 12" for epoch in range(1, 13)]


def test_what_is_judged_is_left_as_it_was(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    outer = trainer()
    state = torch.get_rng_state()
    fine_tuned(network, digits, outer, torch.arange(32), epochs=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert digits.trainer is None


def test_it_is_the_fine_tuning_of_the_module_fine_tune(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=128)
    ours = fine_tuned(network, digits, trainer(), torch.arange(1437), recipe, epochs=4, seed=3)

    theirs = trainer(max_epochs=4, limit_val_batches=0, callbacks=[LARSWarmup(warmup_epochs=0)])
    data = LabelledDataModule("digits", batch_size=128, seed=3)
    classifier = FineTune.of(network, learning_rate=0.5)
    theirs.fit(classifier, data)
    (figures,) = theirs.test(classifier, data, verbose=False)
    assert ours["top1"] == pytest.approx(figures["test/top1"], abs=1e-6)  # logged in float32
    assert ours["top1"] > 0.5


def test_an_encoder_in_evaluation_mode_is_trained_as_any_other(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=16)
    training, evaluating = (
        fine_tuned(network.train(mode), digits, trainer(), torch.arange(64), recipe, epochs=4) for mode in (True, False)
    )
    assert training == evaluating


def test_only_the_chosen_pictures_are_learned_from(
    digits: SimCLRDataModule, trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    step = Classifier.training_step

    def watching(self: Any, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.indices)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", watching)
    chosen = torch.arange(0, 1437, 60)
    fine_tuned(model(), digits, trainer(), chosen, FineTuneRecipe(batch_size=64), epochs=2)
    assert len(seen) == 2  # a batch as large as there are labels
    assert all(torch.equal(batch.sort().values, chosen) for batch in seen)


def test_the_split_that_is_asked_for_is_judged(dark_and_bright: SimCLRDataModule, trainer: Make) -> None:
    splits = dark_and_bright.splits
    wrong = InMemoryPictures(splits.train.pictures.images, 1 - splits.train.pictures.targets)  # type: ignore[attr-defined]
    dark_and_bright._splits = splits._replace(val=Split(wrong, torch.arange(24, 30)))
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=8)
    judged = [
        fine_tuned(model(), dark_and_bright, trainer(), torch.arange(24), recipe, epochs=12, split=split)["top1"]
        for split in ("test", "val")
    ]
    assert judged == [1.0, 0.0]


def test_the_precision_is_the_outer_trainers(
    digits: SimCLRDataModule, trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Trainer] = []
    start = LARSWarmup.on_fit_start

    def watching(self: LARSWarmup, own: Trainer, module: Any) -> None:
        made.append(own)
        start(self, own, module)

    monkeypatch.setattr(LARSWarmup, "on_fit_start", watching)
    fine_tuned(model(), digits, trainer(precision="bf16-mixed"), torch.arange(20), epochs=1)
    assert made[0].precision == "bf16-mixed"
    assert made[0].loggers == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"epochs of fine-tuning is 0: .*--finetune\.epochs"),
        ({"draws": 0}, r"draws of fine-tuning is 0: .*--finetune\.draws"),
        ({"batch_size": -1}, r"batch_size of fine-tuning is -1: .*--finetune\.batch_size"),
        ({"learning_rate": 0.0}, r"learning_rate of fine-tuning is 0\.0: .*--finetune\.learning_rate"),
    ],
)
def test_values_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineTuneRecipe(**settings)


def test_what_cannot_be_fine_tuned_is_named(digits: SimCLRDataModule, pictures: Make) -> None:
    with pytest.raises(ValueError, match="crops and flips, which Pictures has not"):
        check_fine_tuning(pictures(), model().encoder)
    for encoder in (None, nn.Linear(1, 1)):
        with pytest.raises(ValueError, match="a module with an int attribute feature_dim"):
            check_fine_tuning(digits, encoder)
    check_fine_tuning(digits, model().encoder)


def blobs(count: int, distance: float, seed: int) -> Features:
    """Three classes around the corners of a cube."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    return Features(distance * torch.eye(5)[targets] + torch.randn(count, 5, generator=generator), targets)


def test_separable_features_are_told_apart_exactly(trainer: Make) -> None:
    train, test = blobs(60, 50.0, seed=0), blobs(30, 50.0, seed=1)
    assert linear_by_sgd(train, test, trainer(), seed=0, progress=silent)["top1"] == 1.0


def test_the_classifier_is_that_of_a_loop_in_float64(trainer: Make) -> None:
    train, test = blobs(600, 1.5, seed=0), blobs(300, 1.5, seed=1)
    ours = linear_by_sgd(train, test, trainer(), seed=4, progress=silent)["top1"]

    weights = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights, biases], lr=1.0, momentum=0.9, nesterov=True)
    sampler = GlobalBatchSampler(
        train.targets, 256, num_replicas=1, rank=0, shuffle=True, drop_last=True, seed=4
    )  # fmt: skip
    total, step = 90 * 2, 0
    for epoch in range(90):
        sampler.set_epoch(epoch)
        places = torch.tensor([key.place for key in sampler])
        for batch in torch.split(places, 256):
            optimizer.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * step / total))
            scores = train.features[batch].double() @ weights.T + biases
            weights.grad, biases.grad = torch.autograd.grad(
                F.cross_entropy(scores, train.targets[batch]), [weights, biases]
            )
            optimizer.step()
            step += 1
    scores = test.features.double() @ weights.detach().T + biases.detach()
    expected = (scores.argmax(1) == test.targets).double().mean().item()
    assert 0.6 < expected < 0.95
    assert abs(ours - expected) < 1e-6


def test_few_labels_make_one_batch(trainer: Make) -> None:
    told: list[str] = []
    train = blobs(12, 50.0, seed=0)
    assert linear_by_sgd(train, train, trainer(), seed=0, progress=told.append)["top1"] == 1.0
    assert told[-1] == "epoch 90 of 90"
