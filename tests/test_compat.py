"""What the progress bar shows on the CPU, where nobody waits for a number; metrics that go on; what is left unsaid."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from simclr_lightning import FineTune, LARSWarmup, LinearEvaluation, SimCLR, SimCLRDataModule
from simclr_lightning.compat import read_bar_at_logged_steps, without_noise


class Shown(TQDMProgressBar):
    """Remembers the bar's loss and that of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.seen.append((self.get_metrics(trainer, pl_module)["train/loss"], outputs["loss"].item()))


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_the_bar_shows_every_step_on_the_cpu_and_a_second_fit_begins_anew(tmp_path: Path) -> None:
    shown = Shown()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=5,
        log_every_n_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[LARSWarmup(warmup_steps=0), shown],
    )
    read_bar_at_logged_steps(trainer)
    results = trainer.fit_loop.epoch_loop._results
    model = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1)
    trainer.fit(model, SimCLRDataModule("digits", batch_size=32))
    assert trainer.fit_loop.epoch_loop._results is results, "the module asks for what is done already"
    assert [bar for bar, _ in shown.seen] == [loss for _, loss in shown.seen]
    assert len(shown.seen) == 5


@pytest.mark.parametrize("classifier", [None, LinearEvaluation, FineTune])
@pytest.mark.parametrize("fabric", [False, True])
def test_modules_are_set_up_in_a_loop_of_ones_own(classifier: Any, fabric: bool) -> None:
    encoder = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1)
    model: LightningModule = encoder if classifier is None else classifier.of(encoder, num_classes=10)
    if fabric:
        Fabric(accelerator="cpu", devices=1).setup(model)
    model.configure_model()
    model.setup("fit")
    model.on_fit_start()
    model.teardown("fit")


def test_a_step_of_fabric_is_trained() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1, learning_rate=0.1)
    wrapped, optimizer = fabric.setup(model, model.configure_optimizers())
    wrapped.mark_forward_method("training_step")
    data = SimCLRDataModule("digits", batch_size=32)
    data.setup()
    weight = next(model.head.parameters())
    before = weight.detach().clone()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    fabric.backward(wrapped.training_step(batch, 0)["loss"])
    optimizer.step()
    assert not before.equal(weight)


def test_advertising_is_left_out_and_complaints_are_not(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.INFO, log.name), without_noise():
        log.info("💡 Tip: For seamless cloud logging")
        log.info("Restoring states")
        warnings.warn("Total length of `list` across ranks is zero", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="mind"):
            warnings.warn("mind this", UserWarning, stacklevel=1)
    assert caplog.messages == ["Restoring states"]
