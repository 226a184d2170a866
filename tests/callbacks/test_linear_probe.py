"""The probe in a real Trainer, on one process and on two."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.callbacks.linear_classifier import LinearClassifier
from simclr_lightning.callbacks.linear_probe import OnlineLinearProbe
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewBatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:Found \d+ module\(s\) in eval mode"),  # the frozen one
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),  # no validation
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),  # Lightning's
]

CENTRES = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))


class Toy(LightningModule):
    """Encoder with BatchNorm and dropout, trained to shrink its projections; a frozen part stays in evaluation mode."""

    feature_dim = 32

    def __init__(self, learning_rate: float = 0.1, dropout: float = 0.0) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(32, 3)
        self.frozen = nn.BatchNorm1d(3).eval()
        self.gradients: list[dict[str, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images)
        return features

    def training_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        features = self(batch.views[0].flatten(0, 1))
        loss = self.frozen(self.head(features)).square().mean()
        self.log("toy", loss)
        return {"loss": loss, "features": features.detach()}

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        return {"features": self(batch.images)}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = {name: value.grad for name, value in self.named_parameters()}
        self.gradients.append({name: grad.clone() for name, grad in gradients.items() if grad is not None})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def batch_of(targets: Sequence[int], *, seed: int = 0, noise: float = 0.1) -> ViewBatch:
    """Pictures (N, 1, 2, 3) around one centre a class; -1: of a random class, unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(targets)
    classes = labels.where(labels >= 0, torch.randint(len(CENTRES), labels.shape, generator=generator))
    pictures = CENTRES[classes % len(CENTRES)] + noise * torch.randn(3, len(labels), 6, generator=generator)
    first, second, clean = pictures.view(3, -1, 1, 2, 3)
    return ViewBatch((torch.stack([first, second]),), labels, torch.arange(len(labels)), clean)


def labelled_batches(number: int = 4, *, classes: int = 4) -> list[ViewBatch]:
    return [batch_of([i % classes for i in range(12)], seed=seed) for seed in range(number)]


def unlabelled_batches(number: int = 4) -> list[ViewBatch]:
    return [batch_of([-1] * 12, seed=seed) for seed in range(number)]


class Data(LightningDataModule):
    """Given batches."""

    def __init__(
        self,
        train: list[ViewBatch],
        *,
        val: list[ViewBatch] | None = None,
        probe: list[ViewBatch] | None = None,
        num_classes: int | None = 4,
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.val, self.probe, self.num_classes, self.shuffle = train, val, probe, num_classes, shuffle

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=None, shuffle=self.shuffle)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return [] if self.val is None else DataLoader(self.val, batch_size=None)  # type: ignore[arg-type]

    def probe_dataloader(self) -> DataLoader[Any] | None:
        return None if self.probe is None else DataLoader(self.probe, batch_size=None, shuffle=True)  # type: ignore[arg-type]


def trainer_for(*probes: OnlineLinearProbe, max_epochs: int = 2, **arguments: Any) -> Trainer:
    settings = {"num_sanity_val_steps": 0, "log_every_n_steps": 1, "logger": False, "enable_checkpointing": False}
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=list(probes),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{**settings, **arguments},
    )


def weights(probe: OnlineLinearProbe) -> Tensor:
    head = probe.state_dict()["head"]
    return torch.cat([head["weight"].flatten(), head["bias"]])


def metrics(trainer: Trainer) -> dict[str, float]:
    return {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("probe")}


@pytest.mark.parametrize("probe_loader", [False, True])
def test_the_model_never_notices_the_probe(probe_loader: bool) -> None:
    seen = []
    for probes in ([], [OnlineLinearProbe()]):
        torch.manual_seed(0)
        model = Toy(dropout=0.3)
        probe = labelled_batches(3) if probe_loader else None
        data = Data(labelled_batches(), val=labelled_batches(1), probe=probe, shuffle=True)
        trainer_for(*probes, max_epochs=3).fit(model, data)
        assert len(model.gradients) == 12
        gradients = {
            f"{name} of step {step}": grad for step, all_ in enumerate(model.gradients) for name, grad in all_.items()
        }
        seen.append({**model.state_dict(), **gradients, "random numbers": torch.get_rng_state()})
    without, with_probe = seen
    assert without.keys() == with_probe.keys()
    for name, value in without.items():
        assert torch.equal(value, with_probe[name]), name


def test_separable_pictures_are_told_apart() -> None:
    trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
    trainer.fit(Toy(learning_rate=0.0), Data(labelled_batches(), val=labelled_batches(2)))
    assert metrics(trainer)["probe/train_top1"] == 1
    assert metrics(trainer)["probe/val_top1"] == 1
    assert metrics(trainer)["probe/loss"] < 0.2


def test_views_of_other_pictures_of_a_group_are_not_learned_under_its_label() -> None:
    def mixed(seed: int, groups: Tensor | None) -> ViewBatch:
        own, other = (batch_of([(i + turn) % 4 for i in range(12)], seed=seed) for turn in (0, 1))
        return own._replace(views=(torch.stack([own.views[0][0], other.views[0][1]]),), groups=groups)

    for groups, learned in ((torch.zeros(12), True), (None, False)):
        trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
        trainer.fit(Toy(learning_rate=0.0), Data([mixed(seed, groups) for seed in range(4)]))
        assert (metrics(trainer)["probe/train_top1"] == 1) == learned


def test_unlabelled_pictures_are_judged_by_the_labelled_loader() -> None:
    model = Toy(learning_rate=0.0)
    trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
    trainer.fit(model, Data(unlabelled_batches(), val=labelled_batches(2), probe=labelled_batches(3)))
    assert metrics(trainer)["probe/train_top1"] == 1
    assert metrics(trainer)["probe/val_top1"] == 1


def test_labelled_loader_is_encoded_in_evaluation_mode() -> None:
    class Watched(Toy):
        def forward(self, images: Tensor) -> Tensor:
            modes.append([module.training for module in self.modules()])
            return super().forward(images)

    modes: list[list[bool]] = []
    model = Watched()
    trainer_for(OnlineLinearProbe(), max_epochs=1).fit(model, Data(unlabelled_batches(2), probe=labelled_batches(2)))
    training = [module is not model.frozen for module in model.modules()]
    nothing = [False] * len(training)
    assert modes == [training, nothing, training, nothing]  # both steps: training_step, then the probe
    assert model.encoder[2].num_batches_tracked == 2


def test_top5_is_logged_where_there_are_more_than_five_classes() -> None:
    for classes, names in ((5, {"top1"}), (6, {"top1", "top5"})):
        trainer = trainer_for(OnlineLinearProbe(classes), max_epochs=1)
        batches = labelled_batches(classes=classes)
        trainer.fit(Toy(), DataLoader(batches, batch_size=None), DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        logged = {f"probe/{stage}_{name}" for stage in ("train", "val") for name in names}
        assert metrics(trainer).keys() == {"probe/loss"} | logged


def test_logged_shares_are_those_of_the_labelled_pictures() -> None:
    # Two of the three labelled validation pictures carry the label that their neighbours have in training.
    val = [
        batch_of([0, 1], seed=7),
        batch_of([-1, -1], seed=8),
        batch_of([2], seed=9)._replace(targets=torch.tensor([3])),
    ]
    trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
    trainer.fit(Toy(learning_rate=0.0), Data(labelled_batches(), val=val))
    assert metrics(trainer)["probe/val_top1"] == pytest.approx(2 / 3)


def test_each_validation_counts_from_zero() -> None:
    right = labelled_batches(1)
    wrong = [batch._replace(targets=3 - batch.targets) for batch in right]
    model = Toy(learning_rate=0.0)
    trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
    trainer.fit(model, Data(labelled_batches(), val=right))
    assert metrics(trainer)["probe/val_top1"] == 1
    trainer.validate(model, Data([], val=wrong), verbose=False)
    assert metrics(trainer)["probe/val_top1"] == 0


def test_of_several_validation_loaders_the_first_counts() -> None:
    right = labelled_batches(1)
    wrong = [batch._replace(targets=3 - batch.targets) for batch in right]
    trainer = trainer_for(OnlineLinearProbe(4, learning_rate=0.1), max_epochs=8)
    loaders: list[DataLoader[Any]] = [
        DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        for batches in (labelled_batches(), right, wrong)
    ]
    trainer.fit(SeveralLoaders(learning_rate=0.0), loaders[0], loaders[1:])
    assert metrics(trainer)["probe/val_top1"] == 1


class SeveralLoaders(Toy):
    def validation_step(self, batch: ViewBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return super().validation_step(batch, batch_idx)


def test_sanity_checking_leaves_no_trace() -> None:
    class Watched(Toy):
        def on_train_start(self) -> None:
            assert metrics(self.trainer) == {}

    results = []
    for steps in (0, 1):
        torch.manual_seed(0)
        probe = OnlineLinearProbe()
        data = Data(labelled_batches(), val=[batch_of([0, 0, 1], seed=3), batch_of([2, 3], seed=4)])
        model = Watched()
        for _ in range(2):  # the second time, the probe has something to say before training starts
            trainer = trainer_for(probe, num_sanity_val_steps=steps)
            trainer.fit(model, data)
        results.append((metrics(trainer), weights(probe).tolist()))
    assert results[0] == results[1]
    assert "probe/val_top1" in results[0][0]


def test_numbers_are_read_and_logged_at_logged_steps_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    check_labels = LinearClassifier.check_labels

    def recorded(classifier: LinearClassifier) -> None:
        reads.append(trainer.global_step)
        check_labels(classifier)

    monkeypatch.setattr(LinearClassifier, "check_labels", recorded)
    trainer = trainer_for(OnlineLinearProbe(), log_every_n_steps=3, logger=CSVLogger(tmp_path))
    trainer.fit(Toy(), Data(labelled_batches()))
    assert reads == [1, 3, 4, 6, 8]  # the first, every third, and at the end of both epochs
    with (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["toy"]]
    assert [row["step"] for row in rows] == ["2", "5"]  # as Lightning numbers the third and the sixth
    assert all(float(row["probe/loss"]) > 0 for row in rows)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    for probe_batches in (None, labelled_batches(3)):  # 3 does not divide the 8 steps before the interruption
        data = Data(labelled_batches(), probe=probe_batches)
        whole, first, resumed = OnlineLinearProbe(), OnlineLinearProbe(), OnlineLinearProbe()
        torch.manual_seed(0)
        uninterrupted = trainer_for(whole, max_epochs=4)
        uninterrupted.fit(Toy(), data)

        torch.manual_seed(0)
        interrupted = trainer_for(first, max_epochs=2)
        interrupted.fit(Toy(), data)
        interrupted.save_checkpoint(tmp_path / "half.ckpt")
        torch.manual_seed(1)
        trainer = trainer_for(resumed, max_epochs=4)
        trainer.fit(Toy(), data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
        assert torch.equal(weights(resumed), weights(whole))
        assert not torch.equal(weights(first), weights(whole))
        assert metrics(trainer) == metrics(uninterrupted)


def test_a_second_fit_continues() -> None:
    data = Data(labelled_batches())
    torch.manual_seed(0)
    whole, twice = OnlineLinearProbe(), OnlineLinearProbe()
    trainer_for(whole, max_epochs=4).fit(Toy(learning_rate=0.0), data)
    torch.manual_seed(0)
    model = Toy(learning_rate=0.0)
    for _ in range(2):
        trainer_for(twice, max_epochs=2).fit(model, data)
    assert torch.equal(weights(twice), weights(whole))


def test_validation_takes_the_probe_from_the_checkpoint(tmp_path: Path) -> None:
    data = Data(labelled_batches(), val=labelled_batches(2))
    trainer = trainer_for(OnlineLinearProbe(), max_epochs=5)
    trainer.fit(Toy(), data)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    expected = metrics(trainer)["probe/val_top1"]
    validation = trainer_for(OnlineLinearProbe())
    validation.validate(Toy(), data, ckpt_path=tmp_path / "end.ckpt", weights_only=True, verbose=False)
    assert metrics(validation) == {"probe/val_top1": expected}
    untrained = trainer_for(OnlineLinearProbe())
    untrained.validate(Toy(), data, verbose=False)
    assert metrics(untrained) == {}


def test_probes_of_different_names_live_side_by_side(tmp_path: Path) -> None:
    slow, fast = OnlineLinearProbe(learning_rate=1e-3), OnlineLinearProbe(name="fast", learning_rate=1e-1)
    trainer = trainer_for(slow, fast)
    trainer.fit(Toy(), Data(labelled_batches()))
    trainer.save_checkpoint(tmp_path / "both.ckpt")
    assert {"probe/train_top1", "fast/train_top1"} <= trainer.callback_metrics.keys()
    saved = torch.load(tmp_path / "both.ckpt", weights_only=True)["callbacks"]
    assert torch.equal(saved[slow.state_key]["head"]["weight"].flatten(), weights(slow)[:-4])
    assert torch.equal(saved[fast.state_key]["head"]["weight"].flatten(), weights(fast)[:-4])
    assert not torch.equal(weights(slow), weights(fast))


def test_there_is_no_state_before_the_first_fit() -> None:
    assert OnlineLinearProbe().state_dict() == {}


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path) -> None:
    trainer = trainer_for(OnlineLinearProbe())
    trainer.fit(Toy(), Data(labelled_batches()))
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    again = trainer_for(OnlineLinearProbe(num_classes=9), max_epochs=4)
    with pytest.raises(InputError, match=r"tells 4 classes apart .* this run has 9 classes"):
        again.fit(Toy(), Data(labelled_batches()), ckpt_path=tmp_path / "four.ckpt", weights_only=True)


@pytest.mark.parametrize("num_classes", [None, 4])
def test_unlabelled_pictures_give_one_message_and_no_number(num_classes: int | None) -> None:
    trainer = trainer_for(OnlineLinearProbe())
    data = Data(unlabelled_batches(), val=unlabelled_batches(1) + labelled_batches(1), num_classes=num_classes)
    with pytest.warns(UserWarning, match="labels? to learn from|nothing to learn from") as warnings:
        trainer.fit(Toy(), data)
    messages = [str(warning.message) for warning in warnings if "OnlineLinearProbe" in str(warning.message)]
    assert len(messages) == 1
    assert "--data.probe FOLDER" in messages[0]
    assert metrics(trainer) == {}


def test_labels_that_come_late_are_learned() -> None:
    trainer = trainer_for(OnlineLinearProbe(learning_rate=0.1), max_epochs=8)
    with pytest.warns(UserWarning, match="No picture of the first batch has a label"):
        trainer.fit(Toy(learning_rate=0.0), Data(unlabelled_batches(1) + labelled_batches(), val=labelled_batches(1)))
    assert metrics(trainer)["probe/val_top1"] == 1
    assert all(torch.isfinite(value) for value in trainer.callback_metrics.values())


@pytest.mark.parametrize("place", ["first batch", "last batch", "validation", "labelled loader"])
def test_too_large_label_is_named(place: str) -> None:
    good, bad = labelled_batches(1), [batch_of([0, 7])]
    data = {
        "first batch": Data(bad + good),
        "last batch": Data(good + bad),
        "validation": Data(good, val=bad),
        "labelled loader": Data(good, probe=bad),
    }[place]
    with pytest.raises(InputError, match=r"label 7, .* 4 classes, labels 0 to 3.*num_classes=8"):
        trainer_for(OnlineLinearProbe(), log_every_n_steps=50).fit(Toy(), data)


def test_unknown_number_of_classes_is_an_error() -> None:
    loader: DataLoader[Any] = DataLoader(labelled_batches(), batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"number of classes.*OnlineLinearProbe\(num_classes=10\)"):
        trainer_for(OnlineLinearProbe()).fit(Toy(), loader, loader)
    with pytest.raises(ValueError, match="num_classes is 0"):
        OnlineLinearProbe(num_classes=0)


class NoFeatureDim(Toy):
    feature_dim = None  # type: ignore[assignment]


class NoFeatures(Toy):
    def training_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": super().training_step(batch, batch_idx)["loss"]}


class PooledTooLate(Toy):
    def training_step(self, batch: ViewBatch, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        return {**outputs, "features": outputs["features"][1:]}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (NoFeatureDim, "give NoFeatureDim an integer attribute `feature_dim`"),
        (
            NoFeatures,
            r"needs `features` .* training_step returns.*found the keys \['loss'\] and a batch",
        ),
        (PooledTooLate, r"features \(V N, F\) or \(N, F\).*training_step returned \(23, 32\) for 12 targets"),
    ],
)
def test_what_a_module_must_offer_is_said(model: type[Toy], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer_for(OnlineLinearProbe()).fit(model(), Data(labelled_batches()))


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_was_left_out_is_left_out() -> None:
    class Skips(Toy):
        def training_step(self, batch: ViewBatch, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    skipping, without = OnlineLinearProbe(), OnlineLinearProbe()
    batches = labelled_batches(3)
    torch.manual_seed(0)
    trainer_for(skipping, max_epochs=1).fit(Skips(), Data(batches))
    torch.manual_seed(0)
    trainer_for(without, max_epochs=1).fit(Toy(), Data([batches[0], batches[2]]))
    assert torch.equal(weights(skipping), weights(without))


# --- several processes ---

# Classes of the pictures of each step, and after the bar those of the second process: it has other pictures, and other
# numbers of labels. In the third step only it has one, in the fourth nobody.
STEPS = ["0 1 2 3 4 | 5 - 5", "6 6 - 1 | 2 0 - 5", "- - | 3 - -", "- - | - -", "2 3 - | 4 4 1 0"]


def batches_for(steps: list[str], rank: int, processes: int) -> list[ViewBatch]:
    result = []
    for step, text in enumerate(steps):
        whole = batch_of(
            [-1 if word == "-" else int(word) for word in text.replace("|", " ").split()], seed=step, noise=1.0
        )
        first = len(text.split("|")[0].split())
        part = slice(None) if processes == 1 else (slice(None, first), slice(first, None))[rank]
        assert whole.images is not None
        result.append(
            ViewBatch((whole.views[0][:, part],), whole.targets[part], whole.indices[part], whole.images[part])
        )
    return result


def trainings() -> dict[bool, tuple[Tensor, dict[str, float]]]:
    """With the labels of the batches, and with those of a loader of their own."""
    processes = world_size()
    strategy = {"strategy": "ddp" if processes > 1 else "auto", "devices": processes, "use_distributed_sampler": False}
    torch.manual_seed(0)
    model = Toy(learning_rate=0.0).eval()  # evaluation mode: BatchNorm would mix the pictures of a process
    train, val = batches_for(STEPS, rank(), processes), batches_for(STEPS[:2], rank(), processes)
    results = {}
    for probe_loader in (False, True):
        probe = OnlineLinearProbe()
        trainer = trainer_for(probe, max_epochs=2, **strategy)
        data = Data(unlabelled_batches(), val=val, probe=train, num_classes=8)
        trainer.fit(model, data if probe_loader else Data(train, val=val, num_classes=8))
        results[probe_loader] = weights(probe), metrics(trainer)
    return results


def test_two_processes_with_different_labels_equal_one() -> None:
    (one,), (first, second) = run_in_processes(trainings, 1), run_in_processes(trainings, 2)
    for probe_loader in (False, True):
        expected_weights, expected_metrics = one[probe_loader]
        accuracies = {f"probe/{stage}_top{k}" for stage in ("train", "val") for k in (1, 5)}
        assert expected_metrics.keys() == {"probe/loss"} | accuracies
        for other_weights, other_metrics in (first[probe_loader], second[probe_loader]):
            assert torch.allclose(other_weights, expected_weights, atol=1e-6)
            assert other_metrics == pytest.approx(expected_metrics, rel=1e-5)
        assert torch.equal(first[probe_loader][0], second[probe_loader][0])
