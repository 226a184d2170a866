from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from simclr_lightning.callbacks.lars_warmup import LARSWarmup
from simclr_lightning.errors import InputError
from simclr_lightning.optim import LARS, ScalingRule, parameter_groups

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),  # Lightning's
]


class Regression(LightningModule):
    """Eight weights and a bias in two groups."""

    def __init__(self, optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] | None = None) -> None:
        super().__init__()
        self.optimizer = optimizer or (lambda groups: LARS(groups, lr=0.5))
        self.layer = nn.Linear(4, 2)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(2, 4, generator=generator))
            self.layer.bias.zero_()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizer(parameter_groups(self.layer, weight_decay=1e-2))


class Rates(Callback):
    """Records, per optimizer step, the rate of every group as it is used."""

    def __init__(self) -> None:
        self.used: list[list[float]] = []
        self.inputs: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.inputs.append(batch[0])

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.used.append([float(group["lr"]) for group in optimizer.param_groups])


def pictures(count: int) -> TensorDataset:
    return TensorDataset(torch.randn(count, 4, generator=torch.Generator().manual_seed(0)))


def loader(count: int = 32, batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(pictures(count), batch_size=batch_size)


def fit(
    warmup: LARSWarmup,
    module: LightningModule | None = None,
    data: Any = None,
    *,
    callbacks: list[Callback] | None = None,
    ckpt_path: str | Path | None = None,
    **trainer: Any,
) -> Rates:
    rates = Rates()
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **trainer,
    }
    Trainer(callbacks=[warmup, rates, *(callbacks or [])], **settings).fit(
        module or Regression(), loader() if data is None else data, ckpt_path=ckpt_path
    )
    return rates


def reference(peak: float, warmup: int, total: int) -> list[float]:
    rising = [peak * step / warmup for step in range(warmup)]
    return rising + [peak / 2 * (1 + math.cos(math.pi * s / (total - warmup))) for s in range(total - warmup)]


def assert_rates(rates: Rates, *expected: list[float]) -> None:
    assert len(rates.used) == len(expected[0])
    for group, rates_of_group in enumerate(expected):
        assert [used[group] for used in rates.used] == pytest.approx(rates_of_group, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("scaling", "factor"), [("linear", 4 / 256), ("sqrt", 2.0), ("none", 1.0)], ids=["linear", "sqrt", "none"]
)
def test_every_step_has_the_exact_rate(scaling: ScalingRule, factor: float) -> None:
    warmup = LARSWarmup(warmup_epochs=1, scaling=scaling)
    rates = fit(warmup, max_epochs=3)
    assert (warmup.total_steps_, warmup.warmup_steps_, warmup.global_batch_size_) == (24, 8, 4)
    assert warmup.base_learning_rates == [0.5, 0.5]
    assert warmup.peak_learning_rates == [0.5 * factor, 0.5 * factor]
    assert_rates(rates, *2 * [reference(0.5 * factor, 8, 24)])


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_groups_of_any_optimizer_keep_their_own_base_rate(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    def build(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        groups[1]["lr"] = 0.25
        return optimizer(groups, lr=1.0)

    warmup = LARSWarmup(warmup_steps=3)
    rates = fit(warmup, Regression(build), max_steps=10, max_epochs=-1)
    assert warmup.peak_learning_rates == [1.0 * 4 / 256, 0.25 * 4 / 256]
    assert_rates(rates, reference(4 / 256, 3, 10), reference(1 / 256, 3, 10))


def test_accumulation_makes_the_batch_larger_and_the_steps_fewer() -> None:
    warmup = LARSWarmup(warmup_epochs=1)
    rates = fit(warmup, data=loader(28), max_epochs=3, accumulate_grad_batches=2)  # 7 batches: 4 steps an epoch
    assert (warmup.total_steps_, warmup.warmup_steps_, warmup.global_batch_size_) == (12, 3, 8)
    assert_rates(rates, reference(0.5 * 8 / 256, 3, 12))


def test_processes_make_the_batch_larger() -> None:
    warmup = LARSWarmup(warmup_epochs=2)
    strategy = SingleDeviceStrategy(device=torch.device("cpu"))
    strategy.world_size = 4  # one process that counts itself four times
    rates = fit(warmup, max_epochs=3, strategy=strategy, accumulate_grad_batches=2)
    assert (warmup.total_steps_, warmup.warmup_steps_, warmup.global_batch_size_) == (12, 2, 4 * 4 * 2)
    assert_rates(rates, reference(0.5 * 32 / 256, 2, 12))


def test_batch_size_is_read_from_a_batch_sampler() -> None:
    data = pictures(32)
    warmup = LARSWarmup(warmup_epochs=1)
    fit(warmup, data=DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 8, False)), max_epochs=2)
    assert (warmup.total_steps_, warmup.warmup_steps_, warmup.global_batch_size_) == (8, 4, 8)


def test_batch_size_that_was_passed_wins() -> None:
    warmup = LARSWarmup(warmup_epochs=1, batch_size=16)
    rates = fit(warmup, max_epochs=2)
    assert (warmup.warmup_steps_, warmup.global_batch_size_) == (2, 16)
    assert_rates(rates, reference(0.5 * 16 / 256, 2, 16))


def test_number_of_pictures_comes_from_argument_then_data_module_then_data_set() -> None:
    class Data(LightningDataModule):
        num_pictures = 16

        def train_dataloader(self) -> DataLoader[Any]:
            return loader(32)

    for warmup, data, steps in [
        (LARSWarmup(warmup_epochs=1, num_pictures=8), Data(), 2),
        (LARSWarmup(warmup_epochs=1), Data(), 4),
        (LARSWarmup(warmup_epochs=1), loader(32), 8),
    ]:
        fit(warmup, data=data, max_epochs=2)
        assert warmup.warmup_steps_ == steps


def test_no_warm_up_starts_at_the_peak() -> None:
    for warmup in (LARSWarmup(warmup_epochs=0), LARSWarmup(warmup_steps=0)):
        assert_rates(fit(warmup, max_epochs=1), reference(0.5 * 4 / 256, 0, 8))


def test_logged_rates_are_the_rates_used(tmp_path: Path) -> None:
    monitor = LearningRateMonitor(logging_interval="step")
    rates = fit(
        LARSWarmup(warmup_epochs=1),
        callbacks=[monitor],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        max_epochs=2,
    )
    assert monitor.lrs["lr-LARS/pg1"] == [used[0] for used in rates.used]


@pytest.mark.parametrize("optimizer", [LARS, torch.optim.SGD])
def test_rate_that_is_a_tensor_is_changed_in_place(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    rate = torch.tensor(0.5)
    fit(LARSWarmup(warmup_steps=2), Regression(lambda groups: optimizer(groups, lr=rate)), max_epochs=1)
    assert rate.item() == pytest.approx(reference(0.5 * 4 / 256, 2, 8)[-1])


def test_second_fit_starts_anew() -> None:
    warmup = LARSWarmup(warmup_epochs=1)
    fit(warmup, max_epochs=2)
    rates = fit(warmup, Regression(lambda groups: torch.optim.SGD(groups, lr=1.0)), max_epochs=3)
    assert_rates(rates, reference(4 / 256, 8, 24))


class Save(Callback):
    """Saves a checkpoint after one of the steps."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, rate: float | Tensor) -> None:
    whole, resumed = (Regression(lambda groups: LARS(groups, lr=copy.deepcopy(rate))) for _ in range(2))
    save = Save(tmp_path / "middle.ckpt", step=16)
    rates = fit(LARSWarmup(warmup_epochs=1), whole, callbacks=[save], max_epochs=4)
    rest = fit(LARSWarmup(warmup_epochs=1), resumed, max_epochs=4, ckpt_path=save.path)
    assert rest.used == rates.used[16:]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole.layer.weight, Regression().layer.weight)


def test_rate_and_length_typed_at_resume_are_followed(tmp_path: Path) -> None:
    save = Save(tmp_path / "middle.ckpt", step=16)
    fit(LARSWarmup(warmup_epochs=1), callbacks=[save], max_epochs=4)
    module = Regression(lambda groups: LARS(groups, lr=2.0))
    warmup = LARSWarmup(warmup_epochs=1)
    rates = fit(warmup, module, max_epochs=5, ckpt_path=save.path)
    assert warmup.base_learning_rates == [2.0, 2.0]
    assert_rates(rates, reference(2.0 * 4 / 256, 8, 40)[16:])


class StatefulLoader(DataLoader[Any]):
    """Continues an interrupted epoch where it was."""

    position = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = list(super().__iter__())
        while self.position < len(batches):
            self.position += 1
            yield batches[self.position - 1]
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def test_loader_with_a_state_gets_it_back_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole, resumed = Regression(), Regression()
    save = Save(tmp_path / "middle.ckpt", step=3)
    data = StatefulLoader(pictures(32), batch_size=4)
    rates = fit(LARSWarmup(warmup_steps=4), whole, data, callbacks=[save], max_epochs=2)
    data = StatefulLoader(pictures(32), batch_size=4)
    rest = fit(LARSWarmup(warmup_steps=4), resumed, data, max_epochs=2, ckpt_path=save.path)
    assert torch.equal(torch.stack(rest.inputs), torch.stack(rates.inputs[3:]))
    assert rest.used == rates.used[3:]
    assert torch.equal(whole.layer.weight, resumed.layer.weight)


def test_second_scheduler_is_an_error_that_says_what_to_remove() -> None:
    class Scheduled(Regression):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)]

    with pytest.raises(InputError, match=r"CosineAnnealingLR. Remove LARSWarmup .* Scheduled.config"):
        fit(LARSWarmup(), Scheduled(), max_epochs=1)


def test_manual_optimisation_is_an_error() -> None:
    module = Regression()
    module.automatic_optimization = False
    with pytest.raises(InputError, match="Regression optimises manually"):
        fit(LARSWarmup(), module, max_epochs=1)


def test_accumulation_that_changes_is_an_error() -> None:
    with pytest.raises(InputError, match=r"Trainer\(accumulate_grad_batches=...\)"):
        fit(LARSWarmup(), callbacks=[GradientAccumulationScheduler({0: 2})], max_epochs=1)


def test_parameter_groups_that_appear_later_are_an_error() -> None:
    class Unfreeze(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.optimizers[0].add_param_group({"params": [nn.Parameter(torch.zeros(1))]})

    with pytest.raises(InputError, match="had 2 parameter groups when fitting started and has 3 now"):
        fit(LARSWarmup(warmup_steps=0), callbacks=[Unfreeze()], max_epochs=1)


@pytest.mark.filterwarnings("ignore:`max_epochs` was not set")
def test_endless_run_is_an_error() -> None:
    with pytest.raises(InputError, match="Set max_steps, or max_epochs"):
        fit(LARSWarmup(), max_epochs=-1)


class Stream(IterableDataset[list[Tensor]]):
    def __iter__(self) -> Iterator[list[Tensor]]:
        yield from ([torch.ones(4)] for _ in range(100))


def test_stream_without_a_number_of_steps_is_an_error() -> None:
    with pytest.raises(InputError, match="Set max_steps, or max_epochs"):
        fit(LARSWarmup(), data=DataLoader(Stream(), batch_size=4), max_epochs=2)


def test_stream_needs_the_number_of_pictures_or_of_steps() -> None:
    data = DataLoader(Stream(), batch_size=4)
    with pytest.raises(InputError, match=r"LARSWarmup\(num_pictures=...\) or LARSWarmup\(warmup_steps"):
        fit(LARSWarmup(), data=data, max_epochs=-1, max_steps=6)
    expected = reference(0.5 * 4 / 256, 2, 6)
    for warmup in (LARSWarmup(warmup_steps=2), LARSWarmup(warmup_epochs=1, num_pictures=8)):
        assert_rates(fit(warmup, data=data, max_epochs=-1, max_steps=6), expected)


@pytest.mark.parametrize(
    ("data", "kind"),
    [([loader(), loader()], "list"), (DataLoader(Stream(), batch_size=None), "DataLoader")],
    ids=["several loaders", "loader of whole batches"],
)
def test_unknown_batch_size_is_an_error_that_says_what_to_pass(data: Any, kind: str) -> None:
    with pytest.raises(InputError, match=rf"loader \({kind}\). Pass LARSWarmup\(batch_size=...\)"):
        fit(LARSWarmup(warmup_steps=1), data=data, max_epochs=-1, max_steps=4)


def test_epochs_of_warm_up_beyond_the_run_are_cut_with_a_warning() -> None:
    warmup = LARSWarmup(warmup_epochs=10)
    with pytest.warns(UserWarning, match=r"80 steps \(warmup_epochs=10\) is longer .* 40 steps. It is cut to 4 steps"):
        rates = fit(warmup, max_epochs=5)
    assert warmup.warmup_steps_ == 4
    assert_rates(rates, reference(0.5 * 4 / 256, 4, 40))


def test_steps_of_warm_up_beyond_the_run_are_an_error() -> None:
    with pytest.raises(InputError, match="17 steps is longer than the whole run of 16 steps"):
        fit(LARSWarmup(warmup_steps=17), max_epochs=2)


@pytest.mark.parametrize("warmup", [LARSWarmup(), LARSWarmup(warmup_steps=100)], ids=["epochs", "steps"])
@pytest.mark.filterwarnings("ignore:LARSWarmup. the warm-up of .* is longer")
def test_fast_dev_run_passes_with_any_warm_up(warmup: LARSWarmup) -> None:
    assert_rates(fit(warmup, fast_dev_run=True), [0.5 * 4 / 256])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_epochs": -1}, "warmup_epochs must be finite and at least 0, got -1"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"scaling": cast("ScalingRule", "cubic")}, "'cubic': choose 'linear', 'sqrt' or 'none'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_pictures": 0}, "num_pictures must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_errors_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LARSWarmup(**arguments)


def test_a_stream_is_warmed_up_for_a_tenth_of_the_run() -> None:
    class Endless(LightningDataModule):
        num_pictures = None

        def train_dataloader(self) -> Any:
            return DataLoader(range(40), batch_size=4)  # type: ignore[arg-type]

    callback = LARSWarmup(warmup_epochs=3)
    trainer = SimpleNamespace(datamodule=Endless())
    callback.total_steps_, callback.global_batch_size_ = 50, 4
    with pytest.warns(UserWarning, match=r"a stream has no epochs .* takes 5 steps, a tenth of the run"):
        assert callback._resolve_warmup_steps(cast("Any", trainer)) == 5
