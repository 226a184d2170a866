"""Networks that are fine-tuned for one figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule
from simclr_lightning.classifiers import FineTune
from simclr_lightning.data import InMemoryPictures, LabelledDataModule
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.evaluation.fine_tuned import FineTuneRecipe, check_fine_tuning, fine_tuned
from simclr_lightning.evaluation.lineup import Subject

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


def subject_of(network: SimCLR, datamodule: SimCLRDataModule, trainer: Make, split: Any = "test") -> Subject:
    return Subject("network", network, network.encoder, trainer(), datamodule, split)


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
    subject = subject_of(model(), dark_and_bright, trainer)
    told: list[str] = []
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=8)
    figures = fine_tuned(subject, torch.arange(24), recipe, epochs=12, seed=0, tell=told.append)
    assert figures == {"top1": 1.0, "mean_per_class": 1.0}
    assert told == [f"epoch {epoch} of 12" for epoch in range(1, 13)]


def test_what_is_judged_is_left_as_it_was(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    subject = subject_of(network, digits, trainer)
    state = torch.get_rng_state()
    fine_tuned(subject, torch.arange(32), FineTuneRecipe(), epochs=1, seed=0, tell=silent)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert digits.trainer is None


def test_it_is_the_fine_tuning_of_the_module_fine_tune(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    subject = subject_of(network, digits, trainer)
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=128)
    ours = fine_tuned(subject, torch.arange(1437), recipe, epochs=2, seed=3, tell=silent)

    theirs = trainer(max_epochs=2, limit_val_batches=0, callbacks=[LARSWarmup(warmup_epochs=0)])
    data = LabelledDataModule("digits", batch_size=128, seed=3)
    classifier = FineTune.of(network, learning_rate=0.5)
    theirs.fit(classifier, data)
    (figures,) = theirs.test(classifier, data, verbose=False)
    assert ours["top1"] == pytest.approx(figures["test/top1"], abs=1e-6)  # logged in float32
    assert ours["top1"] > 0.3


def test_an_encoder_in_evaluation_mode_is_trained_as_any_other(digits: SimCLRDataModule, trainer: Make) -> None:
    network = model()
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=16)
    figures = []
    for mode in (True, False):
        subject = subject_of(network.train(mode), digits, trainer)
        figures.append(fine_tuned(subject, torch.arange(64), recipe, epochs=4, seed=0, tell=silent))
    assert figures[0] == figures[1]


def test_only_the_chosen_pictures_are_learned_from(
    digits: SimCLRDataModule, trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    step = FineTune.training_step

    def watching(self: Any, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.indices)
        return step(self, batch, batch_idx)

    monkeypatch.setattr("simclr_lightning.evaluation.nested.Network.training_step", watching)
    chosen = torch.arange(0, 1437, 60)
    subject = subject_of(model(), digits, trainer)
    fine_tuned(subject, chosen, FineTuneRecipe(batch_size=64), epochs=2, seed=0, tell=silent)
    assert len(seen) == 2  # a batch as large as there are labels
    assert all(torch.equal(batch.sort().values, chosen) for batch in seen)


def test_the_split_that_is_asked_for_is_judged(dark_and_bright: SimCLRDataModule, trainer: Make) -> None:
    splits = dark_and_bright.splits
    wrong = InMemoryPictures(splits.train.pictures.images, 1 - splits.train.pictures.targets)  # type: ignore[attr-defined]
    dark_and_bright._splits = splits._replace(val=Split(wrong, torch.arange(24, 30)))
    recipe = FineTuneRecipe(learning_rate=0.5, batch_size=8)
    judged = [
        fine_tuned(subject_of(model(), dark_and_bright, trainer, split), torch.arange(24), recipe, epochs=12, seed=0,
                   tell=silent)["top1"]
        for split in ("test", "val")
    ]  # fmt: skip
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
    network = model()
    subject = Subject("network", network, network.encoder, trainer(precision="bf16-mixed"), digits, "test")
    fine_tuned(subject, torch.arange(20), FineTuneRecipe(), epochs=1, seed=0, tell=silent)
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
