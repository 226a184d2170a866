"""Between logged steps the host never waits for the device, whatever is trained and shown."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    ThroughputMonitor,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from tests.simulated.device import NAME, Record, Wait, recorded
from tests.simulated.training import Step, Steps, on_simulated_device
from torch import Tensor, nn

from simclr_lightning import (
    EmbeddingPictures,
    LabelledDataModule,
    LARSWarmup,
    OnlineLinearProbe,
    SimCLR,
    SimCLRDataModule,
    ViewGrid,
    cli,
    console,
)
from simclr_lightning.callbacks import (
    ClassReport,
    EpochLines,
    RepresentationHealth,
    RunSummary,
    Throughput,
    TrainingBar,
)
from simclr_lightning.classifiers import FineTune, LinearEvaluation, Supervised
from simclr_lightning.default_callbacks import chosen_callbacks

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),
    pytest.mark.filterwarnings("ignore:When using the `ThroughputMonitor`, you need to define a `flops_per_batch`"),
]
SMALL: dict[str, Any] = {"encoder": "resnet10", "width": 0.125, "stem": "pooled", "in_channels": 1}
EVERY = 4  # steps between two logged ones

MOST_KERNELS = 298  # of a step: views, resnet10, loss, LARS, probe, logging


def pretrain(
    folder: Path,
    *callbacks: Callback,
    model: LightningModule | None = None,
    data: LightningDataModule | None = None,
    timed: bool = True,
    **settings: Any,
) -> tuple[Trainer, Steps]:
    """Eleven steps or as many as are asked for, with everything that the command line brings by itself."""
    data = SimCLRDataModule("digits", batch_size=32, val_fraction=0.1) if data is None else data
    with recorded() as record:
        steps = Steps(record)
        usual = (
            LARSWarmup(warmup_steps=1),
            OnlineLinearProbe(),
            RunSummary(),
            ViewGrid(),
            RepresentationHealth(),
            *([Throughput()] if timed else []),
            *([] if settings.get("logger") is False else [LearningRateMonitor("step")]),
            ModelCheckpoint(save_last=True, every_n_train_steps=settings.get("log_every_n_steps", EVERY) or 50),
        )
        shows = any(isinstance(callback, ProgressBar) for callback in callbacks)
        trainer = on_simulated_device(
            **{
                "max_steps": 11,
                "log_every_n_steps": EVERY,
                "enable_progress_bar": shows,
                "default_root_dir": folder,
                "logger": CSVLogger(folder),
                "callbacks": [*usual, *callbacks, steps],
                "enable_model_summary": False,
                **settings,
            }
        )
        trainer.fit(SimCLR(**SMALL) if model is None else model, data)
    return trainer, steps


def waits(steps: Steps) -> list[Wait]:
    assert len(steps.between) >= 4
    return [wait for step in steps.between for wait in step.waits]


class Own(SimCLR):
    """Somebody's model, that shows numbers of its own."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        number = len(batch.targets)
        self.log("own/spread", outputs["projections"].std(), prog_bar=True, batch_size=number)
        self.log("own/epoch", outputs["loss"], prog_bar=True, on_step=True, on_epoch=True, batch_size=number)
        return outputs


MODELS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "micro-batches": {"micro_batch_size": 8},
    "sgd": {"optimizer": "sgd"},
    "adamw": {"optimizer": "adamw"},
    "no channels_last": {"channels_last": False},
    "linear head": {"projection_layers": 1},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "accumulation": {"accumulate_grad_batches": 2, "max_steps": 6},
    "clipping": {"gradient_clip_val": 1.0},
    "validation": {"val_check_interval": 6, "limit_val_batches": 2, "max_steps": 17},
    "no logger": {"logger": False},
    "nothing logged": {"log_every_n_steps": 0},
}


@pytest.mark.parametrize("setting", MODELS)
def test_no_wait_between_logged_steps(setting: str, tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, model=SimCLR(**{**SMALL, **MODELS[setting]}))
    assert waits(steps) == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_wait_in_any_kind_of_training(setting: str, tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, **SETTINGS[setting])
    assert waits(steps) == []


def test_no_wait_for_lines_of_a_log_file(tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, EpochLines(minutes=0))
    assert waits(steps) == []


def test_no_wait_for_pictures_of_the_embedding(tmp_path: Path) -> None:
    pictures = EmbeddingPictures(every_n_epochs=1, pictures=32, queries=2)
    _, steps = pretrain(tmp_path, pictures, max_steps=-1, max_epochs=2, limit_train_batches=7, limit_val_batches=0)
    assert waits(steps) == []
    assert len(list(tmp_path.rglob("embedding-*/*.png"))) == 2 * 3


@pytest.mark.parametrize("bar", [TrainingBar, TQDMProgressBar])
def test_no_wait_for_a_progress_bar(bar: type[Callback], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, steps = pretrain(tmp_path, bar(), model=Own(**SMALL))
    assert waits(steps) == []
    shown = capsys.readouterr()
    for name in ("train/loss", "own/spread", "own/epoch_step"):
        assert name in shown.out + shown.err


def test_a_step_costs_a_bounded_number_of_kernels(tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path)
    assert max(step.kernels for step in steps.between) <= MOST_KERNELS, [step.kernels for step in steps.between]


def test_float16_waits_for_its_scaler_alone(tmp_path: Path) -> None:
    """Torch's GradScaler asks after every step whether it overflowed; bf16-mixed has none."""
    _, steps = pretrain(tmp_path, precision="16-mixed")
    assert {wait.where.partition(":")[0] for wait in waits(steps)} <= {"lightning/pytorch/plugins/precision/amp.py"}


def test_no_wait_with_labelled_pictures_beside_a_folder_of_any(tmp_path: Path) -> None:
    for name in ("unlabelled", "labelled/cat", "labelled/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 5, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = SimCLRDataModule(
        "folder", root=tmp_path / "unlabelled", probe=tmp_path / "labelled", batch_size=4, num_workers=1
    )
    _, steps = pretrain(tmp_path, model=SimCLR(**{**SMALL, "in_channels": 3}), data=data, max_epochs=2)
    assert waits(steps) == []


class Linear(LightningModule):
    """A module that knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layer(batch.views[0][0].flatten(1)), batch.targets)
        self.log("theirs", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


@pytest.mark.filterwarnings("ignore")  # much code that is not ours
@pytest.mark.parametrize("model", ["SimCLR", "Supervised", f"{__name__}.Linear"])
def test_the_command_trains_without_waiting(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its default callbacks, among them the Rich bar."""
    monkeypatch.chdir(tmp_path)
    chosen = chosen_callbacks
    with recorded() as record, contextlib.redirect_stdout(io.StringIO()):
        steps = Steps(record)
        monkeypatch.setattr(cli, "chosen_callbacks", lambda *given, **options: [*chosen(*given, **options), steps])
        small = ["--model.encoder", "resnet10", "--model.width", "0.125"] if not model.endswith("Linear") else []
        data = "LabelledDataModule" if model == "Supervised" else "SimCLRDataModule"
        command = f"fit --model {model} --data {data} --data.batch_size 64 --trainer.max_steps 14"
        device = f"--trainer.accelerator {NAME} --trainer.strategy single_{NAME} --trainer.log_every_n_steps {EVERY}"
        probe = ["--trainer.callbacks+=OnlineLinearProbe"] if model == "SimCLR" else []
        monkeypatch.setattr(sys, "argv", ["simclr", *command.split(), *small, *device.split(), *probe])
        console.main()
    assert waits(steps) == []


@pytest.mark.parametrize("kind", [LinearEvaluation, FineTune, Supervised])
@pytest.mark.parametrize("augmentation", ["crop_flip", "none"])
def test_classifiers_do_not_wait(kind: type[Any], augmentation: Any, tmp_path: Path) -> None:
    classifier = Supervised(**SMALL) if kind is Supervised else kind.of(SimCLR(**SMALL))
    data = LabelledDataModule("digits", batch_size=64, augmentation=augmentation, val_fraction=0.1)
    with recorded() as record:
        steps = Steps(record)
        trainer = on_simulated_device(
            max_epochs=1,
            log_every_n_steps=EVERY,
            default_root_dir=tmp_path,
            logger=CSVLogger(tmp_path),
            callbacks=[LARSWarmup(warmup_epochs=0), ClassReport(), TQDMProgressBar(), steps],
            enable_model_summary=False,
        )
        trainer.fit(classifier, data)
    assert waits(steps) == []
    assert trainer.callback_metrics["val/top1"] >= 0


class Batches(Callback):
    """Waits of each validation batch."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record, self.waits, self.start = record, list[list[Wait]](), 0

    def on_validation_batch_start(self, *_: Any) -> None:
        self.start = len(self.record.waits)

    def on_validation_batch_end(self, *_: Any) -> None:
        self.waits.append(self.record.waits[self.start :])


@pytest.mark.parametrize("classifies", [False, True])
def test_validation_waits_in_its_first_batch_alone(classifies: bool, tmp_path: Path) -> None:
    with recorded() as record:
        batches = Batches(record)
        data = (LabelledDataModule if classifies else SimCLRDataModule)("digits", batch_size=32, val_fraction=0.2)
        trainer = on_simulated_device(
            callbacks=[OnlineLinearProbe(), batches], logger=False, default_root_dir=tmp_path, enable_progress_bar=False
        )
        trainer.validate(Supervised(**SMALL) if classifies else SimCLR(**SMALL), data, verbose=False)
    assert len(batches.waits) > 3
    assert [found for found in batches.waits[1:] if found] == []


def test_it_computes_what_the_cpu_computes(tmp_path: Path) -> None:
    """The device is simulated, the numbers are not."""
    losses = []
    for accelerator in (NAME, "cpu"):
        torch.manual_seed(0)
        data = SimCLRDataModule("digits", batch_size=32)
        short: dict[str, Any] = {
            "max_steps": 3,
            "log_every_n_steps": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [LARSWarmup(warmup_steps=1), OnlineLinearProbe()],
        }
        trainer = on_simulated_device(**short) if accelerator == NAME else Trainer(accelerator="cpu", **short)
        trainer.fit(SimCLR(**SMALL), data)
        losses.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert losses[0].keys() == losses[1].keys()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("accelerator", "settings", "advise", "recommended"),
    [
        (NAME, {}, True, True),
        (NAME, {}, False, False),  # somebody chose float32
        (NAME, {"precision": "bf16-mixed"}, True, False),
        ("cpu", {}, True, False),
    ],
)
def test_bfloat16_is_recommended_where_the_device_has_it(
    accelerator: str,
    settings: dict[str, Any],
    advise: bool,
    recommended: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short: dict[str, Any] = {
        "max_steps": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
        "callbacks": [LARSWarmup(warmup_steps=0), RunSummary(advise)],
        **settings,
    }
    trainer = on_simulated_device(**short) if accelerator == NAME else Trainer(accelerator=accelerator, **short)
    trainer.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32))
    assert ("--trainer.precision bf16-mixed" in " ".join(capsys.readouterr().out.split())) == recommended


def test_the_bar_shows_the_first_loss_and_then_those_of_logged_steps(tmp_path: Path) -> None:
    shown = Shown()
    pretrain(tmp_path, shown, model=Own(**SMALL))
    assert len(set(shown.values[: EVERY - 1])) == 1, "the first one, until a step is logged"
    assert shown.values[0] == shown.losses[0]
    assert shown.values[EVERY - 1] == shown.losses[EVERY - 1]
    assert len(set(shown.values[EVERY - 1 : 2 * EVERY - 1])) == 1
    assert shown.values[2 * EVERY - 1] == shown.losses[2 * EVERY - 1]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint")
def test_a_resumed_run_waits_as_little_and_shows_its_first_loss(tmp_path: Path) -> None:
    trainer, _ = pretrain(tmp_path, max_steps=6)
    path = tmp_path / "half.ckpt"
    trainer.save_checkpoint(path)
    shown = Shown()
    with recorded() as record:
        steps = Steps(record)
        resumed = on_simulated_device(
            max_steps=17,
            log_every_n_steps=EVERY,
            logger=False,
            default_root_dir=tmp_path,
            enable_model_summary=False,
            callbacks=[LARSWarmup(warmup_steps=1), OnlineLinearProbe(), TQDMProgressBar(), steps],
        )
        resumed.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32, val_fraction=0.1), ckpt_path=path)
    assert resumed.global_step == 17
    assert waits(steps) == []
    pretrain(tmp_path, shown, max_steps=3)
    assert shown.values == [shown.losses[0]] * 3


class Shown(TQDMProgressBar):
    """What somebody's bar shows after each step, and the loss of that step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.values.append(self.get_metrics(trainer, pl_module)["train/loss"])
        self.losses.append(outputs["loss"].item())


def test_a_wait_that_a_callback_brings_is_found(tmp_path: Path) -> None:
    """The test of the tests above: they would not pass if anything waited."""

    class Impatient(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            outputs["loss"].item()

    _, steps = pretrain(tmp_path, Impatient())
    assert {wait.what for wait in waits(steps)} == {"item"}
    assert all("test_training.py" in wait.where for wait in waits(steps))
    assert all(len(step.waits) == 1 for step in steps.between)
    assert isinstance(steps.steps[0], Step)


def test_throughput_is_monitored_without_a_wait(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(batch_size_fn=lambda batch: len(batch.targets), window_size=4)
    _, steps = pretrain(tmp_path, monitor)
    assert waits(steps) == []


def test_where_the_time_goes_is_measured_without_a_wait_or_a_kernel(tmp_path: Path) -> None:
    short: dict[str, Any] = {"max_steps": -1, "max_epochs": 2, "limit_train_batches": 12}
    (_, plain), (trainer, timed) = (pretrain(tmp_path, timed=own, **short) for own in (False, True))
    assert len(timed.record.waits) == len(plain.record.waits)
    assert [step.waits for step in timed.between] == [[] for _ in plain.between]
    assert [step.kernels for step in timed.steps] == [step.kernels for step in plain.steps]
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (throughput,) = (own for own in callbacks if isinstance(own, Throughput))
    assert all(share > 0 for share in throughput.shares.values())
    assert sum(throughput.shares.values()) == pytest.approx(1)
    assert trainer.callback_metrics["time/data"].device.type == "cpu", "no logger waits for it"


def test_an_epoch_of_which_nothing_has_passed_is_waited_for(tmp_path: Path) -> None:
    """Where nobody else waits at its end."""
    throughput = Throughput()
    with recorded() as record:
        trainer = on_simulated_device(
            max_epochs=1,
            limit_train_batches=1,
            limit_val_batches=0,
            log_every_n_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[throughput],
        )
        trainer.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32))
    assert throughput.pictures_per_second
    assert [wait.what for wait in record.waits].count("synchronize an event") <= 1


class LastShown(TQDMProgressBar):
    """Remembers the bar's loss at the end of each epoch, and that of the epoch's last step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, float]] = []
        self._loss = torch.zeros(())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._loss = outputs["loss"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.seen.append((self.get_metrics(trainer, pl_module)["train/loss"], self._loss.item()))


@pytest.mark.parametrize("every", [0, 50])
def test_the_bar_shows_the_last_step_of_an_epoch_that_is_shorter_than_the_time_between_logged_ones(
    tmp_path: Path, every: int
) -> None:
    bar = LastShown()
    pretrain(tmp_path, bar, max_steps=-1, max_epochs=2, limit_train_batches=3, log_every_n_steps=every)
    assert [shown for shown, _ in bar.seen] == [last for _, last in bar.seen]
    assert len(bar.seen) == 2
