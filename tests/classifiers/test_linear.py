from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from simclr_lightning import LARSWarmup, SimCLR
from simclr_lightning.classifiers import LinearEvaluation
from simclr_lightning.data import FeatureBatch, LabelledDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
Pretrained = Callable[..., SimCLR]
MakeTrainer = Callable[..., Trainer]
Save = Callable[..., Path]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


class CountPictures:
    """How many pictures an encoder is given; it is frozen each time."""

    def __init__(self, encoder: nn.Module) -> None:
        self.passes = 0
        encoder.register_forward_hook(self._count)

    def _count(self, module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> None:
        self.passes += len(arguments[0])
        assert not module.training
        assert not output.requires_grad


class TrainMode(Callback):
    """Calls .train(), as users and older Trainers do."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.train()


class StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_the_encoder_is_bit_equal_before_and_after(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, augmentation: Any
) -> None:
    model = pretrained()
    before = state_of(model.encoder)
    assert any("running_mean" in name and tensor.any() for name, tensor in before.items())
    classifier = LinearEvaluation.of(model, weight_decay=0.1)
    CountPictures(classifier.encoder)
    trainer = quiet_trainer(max_epochs=2, limit_val_batches=1, callbacks=[LARSWarmup(warmup_epochs=0), TrainMode()])
    trainer.fit(classifier, LabelledDataModule(augmentation=augmentation, label_fraction=0.2))
    assert_equal(before, state_of(classifier.encoder))
    assert_equal(before, state_of(model.encoder))
    assert classifier.classifier is not None
    assert classifier.classifier.weight.any()
    optimised = {parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert optimised == set(classifier.classifier.parameters())
    assert not any(parameter.requires_grad for parameter in classifier.encoder.parameters())


def test_the_encoder_stays_in_evaluation_mode(pretrained: Pretrained) -> None:
    classifier = LinearEvaluation.of(pretrained(), num_classes=3).train()
    assert classifier.training
    assert not any(module.training for module in classifier.encoder.modules())


def run(
    model: SimCLR, trainer: Trainer, *, cache: bool, **data: Any
) -> tuple[LinearEvaluation, int, list[dict[str, float]]]:
    settings = {"augmentation": "none", "batch_size": 100, "label_fraction": 0.5}
    classifier = LinearEvaluation.of(model, cache_features=cache)
    counter = CountPictures(classifier.encoder)
    datamodule = LabelledDataModule(**{**settings, **data})
    trainer.fit(classifier, datamodule)
    passes = counter.passes
    return classifier, passes, [dict(figures) for figures in trainer.validate(classifier, datamodule, verbose=False)]


def test_features_that_do_not_change_are_computed_once_and_change_no_result(
    pretrained: Pretrained, quiet_trainer: MakeTrainer
) -> None:
    model = pretrained()
    cached, passes, figures = run(model, quiet_trainer(max_epochs=4), cache=True)
    assert passes == 718 + 360  # every training and every validation picture once
    uncached, passes, expected = run(model, quiet_trainer(max_epochs=4), cache=False)
    assert passes == 4 * (700 + 360)  # 18 pictures a time do not fill a batch
    assert cached.classifier is not None
    assert uncached.classifier is not None
    torch.testing.assert_close(cached.classifier.weight, uncached.classifier.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(cached.classifier.bias, uncached.classifier.bias, rtol=1e-4, atol=1e-6)
    assert figures[0].keys() == expected[0].keys()
    for name, value in figures[0].items():
        assert value == pytest.approx(expected[0][name], rel=1e-4), name


@pytest.mark.parametrize(
    ("data", "options", "passes"),
    [
        ({"augmentation": "crop_flip"}, {"limit_val_batches": 0}, 2 * 700),
        ({}, {"limit_val_batches": 0}, 718),
        ({}, {"fast_dev_run": True}, 100 + 100),
    ],
)
def test_what_is_encoded(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, data: Any, options: Any, passes: int
) -> None:
    trainer = quiet_trainer(max_epochs=2, **options)
    classifier = LinearEvaluation.of(pretrained())
    counter = CountPictures(classifier.encoder)
    settings = {"augmentation": "none", "batch_size": 100, "label_fraction": 0.5, **data}
    trainer.fit(classifier, LabelledDataModule(**settings))
    assert counter.passes == passes


def test_the_next_model_does_not_get_features_of_this_one(pretrained: Pretrained, quiet_trainer: MakeTrainer) -> None:
    data = LabelledDataModule(augmentation="none", batch_size=100, label_fraction=0.1)
    first, second = (LinearEvaluation.of(pretrained()) for _ in range(2))
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(first, data)
    assert not isinstance(next(iter(data.train_dataloader())), FeatureBatch)
    data.serve_features(*(FeatureBatch(torch.zeros(n, 64), torch.zeros(n).long(), torch.arange(n)) for n in (143, 360)))
    (found,) = trainer.validate(second, data, verbose=False)  # as if the first fit had been interrupted
    (expected,) = trainer.validate(second, LabelledDataModule(augmentation="none", batch_size=100), verbose=False)
    assert found == expected


def test_an_interrupted_run_goes_on_with_the_features_of_its_own_encoder(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, save: Save, tmp_path: Path
) -> None:
    checkpoint = save(pretrained(), "pretrained.ckpt")
    data: dict[str, Any] = {"augmentation": "none", "batch_size": 100, "label_fraction": 0.2}
    options: dict[str, Any] = {"max_epochs": 4, "limit_val_batches": 0}
    straight = LinearEvaluation(checkpoint)
    quiet_trainer(**options).fit(straight, LabelledDataModule(**data))

    stopped = quiet_trainer(**options, callbacks=[LARSWarmup(warmup_epochs=0), StopAfter(2)])
    stopped.fit(LinearEvaluation(checkpoint), LabelledDataModule(**data))
    stopped.save_checkpoint(tmp_path / "stopped.ckpt")
    checkpoint.unlink()
    resumed = LinearEvaluation.load_from_checkpoint(tmp_path / "stopped.ckpt", weights_only=True)
    nn.init.zeros_(next(resumed.encoder.parameters()))  # what the Trainer restores is what counts
    quiet_trainer(**options).fit(resumed, LabelledDataModule(**data), ckpt_path=tmp_path / "stopped.ckpt")
    assert_equal(state_of(straight), state_of(resumed))


def test_a_checkpoint_needs_no_other_file(
    pretrained: Pretrained, quiet_trainer: MakeTrainer, save: Save, tmp_path: Path
) -> None:
    pretraining = save(pretrained(), "pretrained.ckpt")
    classifier = LinearEvaluation(pretraining)
    assert classifier.origin == str(pretraining)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(classifier, LabelledDataModule(augmentation="none", label_fraction=0.2))
    trainer.save_checkpoint(tmp_path / "linear.ckpt")
    pretraining.unlink()
    again = LinearEvaluation.load_from_checkpoint(tmp_path / "linear.ckpt", weights_only=True)
    assert_equal(state_of(classifier), state_of(again))
    assert again.hparams["checkpoint"] == str(pretraining)
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(classifier.eval()(images), again.eval()(images))
    assert not any(parameter.requires_grad for parameter in again.encoder.parameters())
    (figures,) = trainer.test(again, LabelledDataModule(), verbose=False)
    assert figures["test/top1"] > 0
