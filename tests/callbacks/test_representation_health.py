"""Ill runs are named within an epoch, healthy ones are not; nothing is changed by looking."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tests.callbacks.test_save_when_stopped import assert_equal
from torch import Tensor, nn

from simclr_lightning import LARSWarmup, OnlineLinearProbe, RepresentationHealth, SimCLR, SimCLRDataModule, ViewRecipe
from simclr_lightning.callbacks.divergence import LossRecord
from simclr_lightning.errors import InputError
from simclr_lightning.losses import (
    ContrastiveLoss,
    DecoupledNTXent,
    HardNegativeNTXent,
    NTXentLoss,
    SupConNTXent,
)
from simclr_lightning.losses.watch import DivergedError

SMALL: dict[str, Any] = {"encoder": "resnet8", "width": 0.25, "stem": "pooled", "in_channels": 1}
SMALL |= {"zero_init_residual": False, "optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-4}


class Plain(SimCLR):
    """A head without BatchNorm, which does not keep projections apart."""

    def build_head(self) -> nn.Module:
        width = self.feature_dim
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128))


class Constant(SimCLR):
    """A head that forgets what it is given."""

    def build_head(self) -> nn.Module:
        head = nn.Linear(self.feature_dim, 128)
        nn.init.zeros_(head.weight)
        head.weight.requires_grad_(False)
        return head


class AtFloor(ContrastiveLoss):
    """As low as it can be."""

    def forward(self, projections: Tensor) -> Tensor:
        return 1.0 + 0.0 * projections.sum()

    def expected(self, pictures: int, views: int = 2) -> tuple[float, float]:
        return 5.0, 1.0


def fit(
    model: SimCLR, tmp_path: Path, *callbacks: Callback, epochs: int = 1, **settings: Any
) -> tuple[RepresentationHealth, Trainer]:
    recipe = ViewRecipe("digits", jitter=0.8, jitter_strength=0.5)
    data = settings.pop("data", None) or SimCLRDataModule("digits", batch_size=128, views=recipe)
    health = settings.pop("health", None) or RepresentationHealth()
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": epochs,
            "limit_val_batches": 0,
            "logger": False,
            "log_every_n_steps": 5,
            "default_root_dir": tmp_path,
            "enable_checkpointing": any(isinstance(own, ModelCheckpoint) for own in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [LARSWarmup(warmup_epochs=0, scaling="none"), OnlineLinearProbe(), *callbacks, health],
            **settings,
        }
    )
    trainer.fit(model, data)
    return health, trainer


class Losses(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def test_a_collapse_whose_loss_falls_is_named_within_an_epoch(tmp_path: Path) -> None:
    losses = Losses()
    model = Plain(**{**SMALL, "optimizer": "sgd", "learning_rate": 300.0}, loss=NTXentLoss(temperature=0.02))
    with pytest.warns(UserWarning, match=r"Complete collapse .epoch 0.* lower rate"):
        health, trainer = fit(model, tmp_path, losses)
    assert losses.values[-1] < losses.values[0] - 0.2
    assert "complete collapse" in [word.name for word in health.words]
    assert trainer.callback_metrics["health/projections_cosine"] > 0.99


def test_a_constant_head_is_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Complete collapse"):
        health, _ = fit(Constant(**SMALL), tmp_path, epochs=2)
    assert [word.name for word in health.words] == ["complete collapse"], "once"


def test_a_loss_at_its_floor_is_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Loss at its floor"):
        fit(SimCLR(**SMALL, loss=AtFloor()), tmp_path, accumulate_grad_batches=2, limit_train_batches=4)


def test_a_probe_that_never_leaves_chance_is_named(tmp_path: Path) -> None:
    """Its labels are those of other pictures."""
    data = SimCLRDataModule("digits", batch_size=128)
    data.setup("fit")
    pictures = data.splits.train.pictures
    shuffled = pictures.targets[torch.randperm(len(pictures.targets))]
    part = data.splits.train._replace(pictures=pictures.relabelled(shuffled, pictures.class_names))
    data._splits = data.splits._replace(train=part)
    with pytest.warns(UserWarning, match="Probe at chance"):
        health, _ = fit(SimCLR(**SMALL), tmp_path, epochs=6, data=data, limit_train_batches=4)
    assert [word.name for word in health.words] == ["probe at chance"]


RECIPES: dict[str, Any] = {
    "nt_xent": lambda: SimCLR(**SMALL, loss=NTXentLoss(temperature=0.5)),
    "decoupled": lambda: SimCLR(**SMALL, loss=DecoupledNTXent(temperature=0.2)),
    "hard": lambda: SimCLR(**SMALL, loss=HardNegativeNTXent(beta=0.5, tau_plus=0.1)),
    "supcon": lambda: SimCLR(**SMALL, loss=SupConNTXent(temperature=0.1)),
    "lars": lambda: SimCLR(**{**SMALL, "optimizer": "lars", "learning_rate": 0.3, "zero_init_residual": True}),
    "plain head": lambda: Plain(**SMALL),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_healthy_runs_are_silent(recipe: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings(
            "ignore", ".*does not have many workers|.*smaller than the logging interval|The `srun` command"
        )
        health, trainer = fit(RECIPES[recipe](), tmp_path, epochs=6 if recipe == "nt_xent" else 2)
    assert health.words == []
    assert trainer.callback_metrics["probe/train_top1"] > 0.15
    assert trainer.callback_metrics["health/gradient_norm"] > 0


class Spoiled(SimCLR):
    """A picture is NaN in one step."""

    def __init__(self, step: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.step = step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.step:
            batch.views[0][:, 3] = torch.nan


def test_nan_names_the_pictures_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    files = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=3)
    with pytest.raises(DivergedError) as error:
        fit(Spoiled(7, **SMALL), tmp_path, files, epochs=2)
    message = str(error.value)
    assert "It is step 7, with the pictures Picture " in message
    assert f"The last good checkpoint is {tmp_path / 'last.ckpt'}" in message
    assert len(message.splitlines()) <= 3
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["global_step"] == 6
    assert all(value.isfinite().all() for value in content["state_dict"].values())


class Infinite(AtFloor):
    """A loss of somebody's own, which is not looked at."""

    def __init__(self, calls: int = 2) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, projections: Tensor) -> Tensor:
        self.calls -= 1
        return projections.square().mean() + (torch.inf if self.calls < 0 else 0.0)


@pytest.mark.parametrize("weights_only", [False, True])
def test_an_infinite_loss_is_found_before_a_checkpoint_is_written(weights_only: bool, tmp_path: Path) -> None:
    files = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_weights_only=weights_only)
    with pytest.raises(DivergedError, match="The loss of step 2 is inf, with the pictures Picture") as error:
        fit(SimCLR(**SMALL, loss=Infinite()), tmp_path, files)
    assert "and 123 others" in str(error.value)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


@pytest.mark.parametrize("weights_only", [False, True])
def test_weights_that_are_nan_are_not_written(weights_only: bool, tmp_path: Path) -> None:
    class Breaks(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            pl_module.encoder.conv1.weight.data[0] = torch.nan

    files = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_weights_only=weights_only)
    with pytest.raises(DivergedError, match="weights are NaN") as error:
        fit(SimCLR(**SMALL), tmp_path, Breaks(), files)
    assert "There is no checkpoint" in str(error.value)
    assert not list(tmp_path.glob("*.ckpt"))


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    model = SimCLR(**SMALL)
    fit(model, tmp_path, limit_train_batches=1)
    assert "on_save_checkpoint" not in vars(model)


def test_the_step_that_began_it_is_told_where_another_was_looked_at() -> None:
    record = LossRecord()
    for step, loss in enumerate((1.0, torch.nan, torch.nan)):
        record.begin(step, torch.arange(step, step + 2))
        record.end(torch.tensor(loss))
    record.begin(3, torch.arange(9))
    told = record.told(DivergedError("The projections are NaN"), lambda rows: [f"{row}.png" for row in rows])
    assert told == "The loss of step 1 was nan already, with the pictures 1.png, 2.png. "


def test_nothing_is_changed_by_looking(tmp_path: Path) -> None:
    """Weights, random numbers, and what others log."""
    found = []
    for watched in (True, False):
        torch.manual_seed(0)
        health = RepresentationHealth() if watched else Callback()
        _, trainer = fit(SimCLR(**SMALL), tmp_path, epochs=1, health=health)
        rest = {name: float(value) for name, value in trainer.callback_metrics.items() if "health" not in name}
        found.append((rest, torch.rand(3).tolist()))
    assert found[0] == found[1]


def test_long_epochs_are_measured_within(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    health = RepresentationHealth(every_n_steps=3)
    fit(SimCLR(**SMALL), tmp_path, health=health, logger=logger, log_every_n_steps=2)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    column, step = rows[0].index("health/features_rank"), rows[0].index("step")
    assert [int(row[step]) for row in rows[1:] if row[column]] == [3, 7, 10]


def test_a_resumed_run_knows_how_it_began(tmp_path: Path) -> None:
    health, trainer = fit(SimCLR(**SMALL), tmp_path, limit_train_batches=3)
    path = tmp_path / "half.ckpt"
    trainer.save_checkpoint(path)
    other = RepresentationHealth()
    other.load_state_dict(torch.load(path, weights_only=True)["callbacks"]["RepresentationHealth"])
    assert_equal(other.state_dict(), health.state_dict())
    assert set(other.state_dict()["start"]) == {"features", "projections"}
    assert other.state_dict()["probes"]["probe"][1] == 1


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16-mixed"}, {"precision": "64-true"}, {"limit_train_batches": 1}]
)
def test_other_trainings(settings: dict[str, Any], tmp_path: Path) -> None:
    model = SimCLR(**SMALL, micro_batch_size=50)
    _, trainer = fit(model, tmp_path, health=RepresentationHealth(pictures=300), **settings)
    assert 1 < trainer.callback_metrics["health/features_rank"] <= 64


def test_more_views_local_crops_and_no_labels(tmp_path: Path) -> None:
    recipes = [ViewRecipe("digits"), ViewRecipe("digits", size=8, count=3)]
    data = SimCLRDataModule("digits", batch_size=64, views=recipes)
    data.setup("fit")
    data.splits.train.pictures.targets.fill_(-1)
    with pytest.warns(UserWarning, match="no labels to learn from|nothing to learn from"):
        _, trainer = fit(SimCLR(**SMALL), tmp_path, data=data, limit_train_batches=2)
    assert trainer.callback_metrics["health/projections_rank"] > 1


@pytest.mark.parametrize("settings", [{"pictures": 1}, {"every_n_steps": 0}])
def test_numbers_that_make_no_sense(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        RepresentationHealth(**settings)
