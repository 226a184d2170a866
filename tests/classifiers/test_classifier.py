from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.classifiers import Classifier, FineTune, LinearEvaluation, Supervised
from simclr_lightning.classifiers.optimizer import make_optimizer
from simclr_lightning.data import FeatureBatch, LabelledDataModule
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.errors import InputError
from simclr_lightning.optim import LARS
from simclr_lightning.views import ViewBatch

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
MakeTrainer = Callable[..., Trainer]


class Pixels(nn.Module):
    """Features are the pixels."""

    feature_dim = 4

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class PixelSimCLR(SimCLR):
    def build_encoder(self) -> nn.Module:
        return Pixels()


class Given(Classifier):
    """Scores are the pixels, unless it is trained."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Flatten(), feature_dim=num_classes, num_classes=num_classes, origin="nowhere")
        self.save_hyperparameters()
        assert self.classifier is not None
        nn.init.eye_(self.classifier.weight)


class Pictures(LightningDataModule):
    """Pictures of one row of pixels; all for training, validation and test."""

    def __init__(self, pixels: Tensor, targets: Tensor, num_classes: int | None = None, batch_size: int = 8) -> None:
        super().__init__()
        self.rows = list(zip(pixels[:, None, None], targets, torch.arange(len(targets)), strict=True))
        self.num_classes = num_classes
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.rows, batch_size=self.batch_size, collate_fn=collate)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def collate(rows: list[tuple[Tensor, Tensor, Tensor]]) -> ViewBatch:
    images, targets, indices = (torch.stack(column) for column in zip(*rows, strict=True))
    return ViewBatch((), targets, indices, images)


def test_a_separable_problem_is_solved_exactly(quiet_trainer: MakeTrainer) -> None:
    targets = torch.arange(64) % 4
    pixels = 0.1 * torch.rand(64, 4) + nn.functional.one_hot(targets)
    data = Pictures(pixels, targets, num_classes=4)
    classifier = LinearEvaluation.of(PixelSimCLR(), learning_rate=8.0)
    trainer = quiet_trainer(max_epochs=10)
    trainer.fit(classifier, data)
    (figures,) = trainer.test(classifier, data, verbose=False)
    assert figures["test/top1"] == 1
    assert figures["test/mean_per_class"] == 1
    assert "test/top5" not in figures  # of four classes
    assert classifier.confusion_matrix is not None
    assert torch.equal(classifier.confusion_matrix, 16 * torch.eye(4, dtype=torch.int64))


@pytest.mark.parametrize("classes", [3, 7])
def test_accuracies_are_scikit_learns_and_unlabelled_pictures_do_not_count(
    quiet_trainer: MakeTrainer, classes: int
) -> None:
    scores = torch.randn(100, classes, generator=torch.Generator().manual_seed(1))
    targets = (torch.arange(100) ** 2) % (classes - 1)  # the last class has no picture, the others different numbers
    targets[torch.tensor([0, 9, 50, 97, 98, 99])] = -1
    (found,) = quiet_trainer().test(classifier := Given(classes), Pictures(scores, targets), verbose=False)
    labelled = targets >= 0
    truth, predicted = targets[labelled].numpy(), scores[labelled].argmax(1).numpy()
    assert found["test/top1"] == pytest.approx(accuracy_score(truth, predicted))
    recalls = recall_score(truth, predicted, labels=np.unique(truth), average=None)
    assert found["test/mean_per_class"] == pytest.approx(recalls.mean())
    assert ("test/top5" in found) == (classes > 5)
    if classes > 5:
        top5 = top_k_accuracy_score(truth, scores[labelled].numpy(), k=5, labels=np.arange(classes))
        assert found["test/top5"] == pytest.approx(top5)
    expected = confusion_matrix(truth, predicted, labels=np.arange(classes))
    assert classifier.confusion_matrix is not None
    assert np.array_equal(classifier.confusion_matrix.numpy(), expected)
    loss = nn.functional.cross_entropy(scores[labelled], targets[labelled])
    assert found["test/loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_batch_without_labels_changes_nothing(quiet_trainer: MakeTrainer) -> None:
    scores, targets = torch.randn(16, 3), torch.arange(16) % 3
    targets[8:] = -1  # the whole second batch
    (found,) = quiet_trainer().test(Given(3), Pictures(scores, targets), verbose=False)
    (expected,) = quiet_trainer().test(Given(3), Pictures(scores[:8], targets[:8]), verbose=False)
    assert found == expected


def test_no_label_at_all_is_an_error(quiet_trainer: MakeTrainer) -> None:
    with pytest.raises(InputError, match="None of the test pictures has a label"):
        quiet_trainer().test(Given(3), Pictures(torch.randn(4, 3), torch.full((4,), -1)), verbose=False)


def test_every_epoch_counts_anew(quiet_trainer: MakeTrainer) -> None:
    classifier, data = Given(3), Pictures(torch.randn(30, 3), torch.arange(30) % 3)
    quiet_trainer().validate(classifier, data, verbose=False)
    quiet_trainer().test(classifier, data, verbose=False)
    assert classifier.confusion_matrix is not None
    assert classifier.confusion_matrix.sum() == 30


def test_predictions_are_features_and_scores(quiet_trainer: MakeTrainer) -> None:
    scores = torch.randn(10, 3)
    batches: Any = quiet_trainer().predict(Given(3), Pictures(scores, torch.arange(10) % 3))
    assert torch.equal(torch.cat([batch["features"] for batch in batches]), scores)
    assert torch.equal(torch.cat([batch["scores"] for batch in batches]), scores)
    assert torch.cat([batch["indices"] for batch in batches]).tolist() == list(range(10))
    unknown: Any = quiet_trainer().predict(
        LinearEvaluation.of(PixelSimCLR()), Pictures(torch.rand(2, 4), torch.ones(2))
    )
    assert "scores" not in unknown[0]


def test_number_of_classes_comes_from_the_data_and_must_fit_them(quiet_trainer: MakeTrainer) -> None:
    data = Pictures(torch.randn(8, 4), torch.arange(8) % 3, num_classes=3)
    classifier = LinearEvaluation.of(PixelSimCLR())
    with pytest.raises(RuntimeError, match="does not know the number of classes"):
        classifier(torch.randn(1, 1, 1, 4))
    quiet_trainer().validate(classifier, data, verbose=False)
    assert classifier.hparams["num_classes"] == 3
    assert classifier(torch.randn(1, 1, 1, 4)).shape == (1, 3)
    data.num_classes = 4
    with pytest.raises(InputError, match="tells 3 classes apart, the data have 4"):
        quiet_trainer().validate(classifier, data, verbose=False)
    data.num_classes = None
    with pytest.raises(InputError, match=r"--model\.num_classes"):
        quiet_trainer().validate(LinearEvaluation.of(PixelSimCLR()), data, verbose=False)
    with pytest.raises(ValueError, match="num_classes is 1"):
        LinearEvaluation.of(PixelSimCLR(), num_classes=1)


def test_pairs_of_views_are_refused_before_training(
    quiet_trainer: MakeTrainer, pretrained: Callable[..., SimCLR]
) -> None:
    with pytest.raises(InputError, match=r"serves pairs of views.*--data LabelledDataModule"):
        quiet_trainer(max_epochs=1).fit(LinearEvaluation.of(pretrained()), SimCLRDataModule())


def test_other_batches_are_refused(quiet_trainer: MakeTrainer) -> None:
    loader: DataLoader[Any] = DataLoader([(torch.rand(1, 1, 3), 0)], batch_size=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"images \(N, C, H, W\) and targets \(N,\), got a list"):
        quiet_trainer().test(Given(3), loader, verbose=False)


def test_pictures_of_other_channels_are_refused(pretrained: Callable[..., SimCLR]) -> None:
    with pytest.raises(ValueError, match="The pictures have 3 channels, the encoder was built for 1"):
        LinearEvaluation.of(pretrained(), num_classes=2)(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("action", ["fit", "test", "validate"])
def test_an_encoder_without_weights_is_neither_trained_nor_judged(
    quiet_trainer: MakeTrainer, pretrained: Callable[..., SimCLR], action: str
) -> None:
    described = LinearEvaluation.of(pretrained()).hparams["architecture"]
    classifier = LinearEvaluation(architecture=described)
    with pytest.raises(InputError, match=r"its encoder is random.*--model\.checkpoint"):
        getattr(quiet_trainer(max_epochs=1), action)(classifier, LabelledDataModule(augmentation="none"))


def test_a_run_says_what_it_trains(quiet_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture) -> None:
    data = Pictures(torch.randn(8, 4), torch.arange(8) % 3, num_classes=3)
    with caplog.at_level("INFO", logger="lightning.pytorch"):
        quiet_trainer(max_epochs=1).fit(LinearEvaluation.of(PixelSimCLR()), data)
    assert "LinearEvaluation trains 15 of 15 parameters of 3 classes. The encoder comes from a model in memory." in (
        caplog.text
    )


def test_lars_adapts_neither_the_linear_layer_nor_norms_and_sgd_has_nesterov_momentum() -> None:
    model = Supervised("resnet8", width=0.125, num_classes=3, in_channels=1)
    assert model.classifier is not None
    settings = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 1e-4}
    lars = make_optimizer(model, model.classifier, "lars", **settings)
    assert isinstance(lars, LARS)
    groups = {parameter: group for group in lars.param_groups for parameter in group["params"]}
    assert groups.keys() == set(model.parameters())
    for name, parameter in model.named_parameters():
        group = groups[parameter]
        assert group["adapt"] == (parameter.ndim > 1 and not name.startswith("classifier.")), name
        assert group["weight_decay"] == (1e-4 if parameter.ndim > 1 else 0), name
    sgd = make_optimizer(model, model.classifier, "sgd", **settings)
    assert {group["nesterov"] for group in sgd.param_groups} == {True}
    assert {parameter for group in sgd.param_groups for parameter in group["params"]} == set(model.parameters())
    with pytest.raises(ValueError, match=r"optimizer is 'adam': choose sgd, lars"):
        make_optimizer(model, model.classifier, "adam", **settings)  # type: ignore[arg-type]


def test_a_steps_loss_and_accuracy_are_those_of_the_batch(quiet_trainer: MakeTrainer) -> None:
    targets = torch.tensor([0, 0, 0, 1, 2, 2, -1, -1])
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(FineTune.of(PixelSimCLR()), Pictures(torch.randn(8, 4), targets, num_classes=3))
    # A layer of zeros finds all classes equally likely, and names the first one.
    assert trainer.callback_metrics["train/loss"] == pytest.approx(np.log(3), rel=1e-5)
    assert trainer.callback_metrics["train/top1"] == pytest.approx(3 / 6)


def test_the_sanity_check_is_no_result(quiet_trainer: MakeTrainer) -> None:
    classifier, data = FineTune.of(PixelSimCLR()), Pictures(torch.randn(8, 4), torch.arange(8) % 3, num_classes=3)
    quiet_trainer(max_epochs=1, num_sanity_val_steps=2, check_val_every_n_epoch=2).fit(classifier, data)
    assert classifier.confusion_matrix is None


def test_any_encoder_in_memory_is_trained_and_so_is_a_linear_layer_on_features(quiet_trainer: MakeTrainer) -> None:
    targets = torch.arange(64) % 4
    pixels = 0.1 * torch.rand(64, 4) + nn.functional.one_hot(targets)
    on_pictures = Classifier(Pixels(), num_classes=4, learning_rate=8.0)
    quiet_trainer(max_epochs=3).fit(on_pictures, Pictures(pixels, targets, num_classes=4))
    rows = FeatureDataset(FeatureBatch(pixels, targets, torch.arange(64)))
    batches: DataLoader[Any] = DataLoader(rows, batch_size=8, collate_fn=lambda batch: batch)
    on_features = Classifier(nn.Identity(), feature_dim=4, num_classes=4, learning_rate=8.0)
    quiet_trainer(max_epochs=3).fit(on_features, batches, batches)
    assert on_pictures.classifier is not None
    assert on_features.classifier is not None
    assert on_features.classifier.weight.any()
    assert torch.equal(on_features.classifier.weight, on_pictures.classifier.weight)
