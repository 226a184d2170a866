"""The online kNN is that of the features which evaluation would see, and leaves the training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from simclr_lightning import LARSWarmup, OnlineKNN, SimCLR, SimCLRDataModule
from simclr_lightning.errors import InputError
from simclr_lightning.features import clean_features
from simclr_lightning.metrics import knn_predict, neighbour_consistency

SMALL: dict[str, Any] = {"encoder": "resnet8", "width": 0.125, "stem": "pooled", "in_channels": 1}


def fit(knn: OnlineKNN, data: LightningDataModule, tmp_path: Path, **settings: Any) -> tuple[SimCLR, Trainer]:
    torch.manual_seed(0)
    model = SimCLR(**SMALL)
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 2,
            "limit_val_batches": 0,
            "logger": False,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [LARSWarmup(warmup_epochs=0), knn],
            **settings,
        }
    )
    trainer.fit(model, data)
    return model, trainer


def test_accuracy_is_that_of_evaluation(tmp_path: Path) -> None:
    data = SimCLRDataModule("digits", batch_size=128)
    model, trainer = fit(OnlineKNN(k=20), data, tmp_path)
    plain = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    bank, queries = (clean_features(plain, model, data, split) for split in ("train", "val"))
    predicted = knn_predict(queries.features, bank.features, bank.targets, num_classes=10, k=20)
    expected = (predicted == queries.targets).float().mean().item()
    assert expected > 0.5
    assert trainer.callback_metrics["knn/val_top1"].item() == pytest.approx(expected, abs=1e-6)


def test_samples_are_drawn_once_and_bounded() -> None:
    data = SimCLRDataModule("digits", batch_size=50, seed=3)
    data.setup("fit")
    loaders = [data.sample_dataloader("train", 70) for _ in range(2)]
    drawn = [torch.cat([batch.indices for batch in loader or []]) for loader in loaders]
    assert drawn[0].equal(drawn[1])
    assert len(set(drawn[0].tolist())) == 70
    assert drawn[0].max() > 1000, "from all of the data set"
    assert data.sample_dataloader("val", 10**6) is not None


def test_without_validation_pictures_half_of_the_bank_is_asked(tmp_path: Path) -> None:
    data = SimCLRDataModule("digits", batch_size=128)
    data.setup("fit")
    data._splits = data.splits._replace(val=None)
    _, trainer = fit(OnlineKNN(bank=200), data, tmp_path)
    assert 0.3 < trainer.callback_metrics["knn/train_top1"] <= 1


class Views(SimCLRDataModule):
    """Keeps what it has served."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.last: Any = super().on_after_batch_transfer(batch, dataloader_idx)
        return self.last


def test_without_labels_two_views_are_compared(tmp_path: Path) -> None:
    data = Views("digits", batch_size=128)
    data.setup("fit")
    data._splits = data.splits._replace(labelled=None, val=None, num_classes=None)
    model, trainer = fit(OnlineKNN(bank=100, k=5), data, tmp_path)
    model.eval()
    with torch.no_grad():
        first, second = (model(view) for view in data.last.views[0])  # all 100 are one batch
    expected: Tensor = neighbour_consistency(first, second, k=5)
    assert 0.05 < expected < 1, "more than chance"
    assert trainer.callback_metrics["knn/consistency"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_it_is_due_every_few_epochs_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knn, due = OnlineKNN(every_n_epochs=2, bank=50), list[int]()
    votes = knn._votes

    def noted(trainer: Trainer, model: Any) -> Any:
        due.append(trainer.current_epoch)
        return votes(trainer, model)

    monkeypatch.setattr(knn, "_votes", noted)
    fit(knn, SimCLRDataModule("digits", batch_size=128), tmp_path, max_epochs=3, limit_train_batches=1)
    assert due == [1, 2]


def test_training_is_left_alone(tmp_path: Path) -> None:
    weights = []
    for knn in (OnlineKNN(every_n_epochs=1, bank=50), OnlineKNN(every_n_epochs=9, bank=50)):
        model, _ = fit(knn, SimCLRDataModule("digits", batch_size=128), tmp_path, max_epochs=2)
        weights.append(model.state_dict())
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_complaints() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    with pytest.raises(InputError, match="sample_dataloader"):
        OnlineKNN().on_fit_start(trainer, SimCLR(**SMALL))
    wrong: list[dict[str, Any]] = [{"bank": 3}, {"k": 0}, {"queries": 0}, {"every_n_epochs": 0}, {"temperature": 0.0}]
    for settings in wrong:
        with pytest.raises(InputError, match=next(iter(settings))):
            OnlineKNN(**settings)
