"""Does training work? Twelve steps of ``Trainer.fit``: precisions, resuming, determinism, and no wait of the host."""

from __future__ import annotations

import math
import os
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from loader import Pictures
from torch import Tensor

from gpu.check import Check
from gpu.waits import Waits, are_seen
from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule, ViewGrid
from simclr_lightning.console import main

STEPS, RESUMED_FROM = 12, 5


def run(check: Check) -> None:
    warnings.filterwarnings("ignore")
    if check.device.type == "cuda":  # what deterministic=True wants, before the first product
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # on a CPU, 16-mixed is bf16-mixed
    precisions = ("32-true", "bf16-mixed", *check.sized(("16-mixed",), ()))
    with TemporaryDirectory() as folder:
        losses = {precision: _precision(check, Path(folder), precision) for precision in precisions}
        for precision in precisions[1:]:
            loss, reference = losses[precision], losses["32-true"]
            if loss is not None and reference is not None:
                difference = abs(loss / reference - 1)
                check.must(f"fit, {precision}: near 32-true", difference < 0.05, f"loss differs by {difference:.1%}")
        with check.guarded("a wait is seen where there is one"):
            note = "a CPU never waits" if check.rehearse else ""
            check.must("a wait is seen where there is one", check.rehearse or are_seen(check.device), note)
        for precision in precisions[1:]:
            with check.guarded(f"simclr fit, {precision}: no wait between logged steps"):
                _waits(check, Path(folder), precision)
        for precision in precisions:
            with check.guarded(f"deterministic and resumed, {precision}"):
                _repeated(check, Path(folder), precision)


def fit(
    check: Check,
    folder: Path,
    precision: str,
    *,
    saved: ModelCheckpoint | None = None,
    resumed: Path | None = None,
    deterministic: bool = False,
) -> tuple[Trainer, SimCLR]:
    """Pre-train with what the command line adds, but for the summary: schedule, probe, grid, rates, checkpoints."""
    torch.manual_seed(0)
    batch = check.sized(256, 16)
    model = SimCLR(check.sized("resnet18", "resnet8"), width=check.sized(1.0, 0.125), stem="cifar")
    # six steps an epoch, and some pictures for validation
    data = SimCLRDataModule(
        partial(Pictures, 7 * batch, as_float=False), batch_size=batch, views="cifar10", cache=True, val_fraction=1 / 7
    )
    trainer = Trainer(
        accelerator=check.sized("gpu", "cpu"),
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_steps=STEPS,
        max_epochs=-1,
        log_every_n_steps=3,
        num_sanity_val_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        logger=CSVLogger(folder, name="logs"),
        deterministic=deterministic,
        enable_checkpointing=saved is not None,
        callbacks=[
            LARSWarmup(warmup_steps=2),
            OnlineLinearProbe(),
            ViewGrid(),
            LearningRateMonitor(),
            *([] if saved is None else [saved]),
        ],
    )
    trainer.fit(model, data, ckpt_path=resumed, weights_only=True)
    return trainer, model


def _precision(check: Check, folder: Path, precision: str) -> float | None:
    with check.guarded(f"fit, {precision}"):
        trainer, _ = fit(check, folder, precision)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        wanted = {"train/loss", "val/loss", "probe/train_top1", "probe/val_top1"}
        right = trainer.global_step == STEPS and wanted <= logged.keys() and all(map(math.isfinite, logged.values()))
        note = f"{trainer.global_step} steps, loss {logged['train/loss']:.4f}"
        check.must(f"fit, {precision}", right, note, **logged)
        return logged["train/loss"]
    return None


def _repeated(check: Check, folder: Path, precision: str) -> None:
    """Two runs, and one that is resumed within an epoch, end with the same bits."""
    try:
        saved = ModelCheckpoint(folder / precision, "{step}", every_n_train_steps=RESUMED_FROM, save_top_k=-1)
        first = _bits(fit(check, folder, precision, saved=saved, deterministic=True)[1])
        second = _bits(fit(check, folder, precision, deterministic=True)[1])
        check.must(f"deterministic, {precision}: two runs are equal", _equal(first, second), _different(first, second))
        path = folder / precision / f"step={RESUMED_FROM}.ckpt"
        resumed = _bits(fit(check, folder, precision, deterministic=True, resumed=path)[1])
        name = f"deterministic, {precision}: resumed after {RESUMED_FROM} steps equals uninterrupted"
        check.must(name, _equal(first, resumed), _different(first, resumed))
    finally:
        torch.use_deterministic_algorithms(False)


def _bits(model: SimCLR) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def _different(first: dict[str, Tensor], second: dict[str, Tensor]) -> str:
    most = max(float((value.double() - second[name].double()).abs().max()) for name, value in first.items())
    return "to the last bit" if most == 0 else f"differ by {most:.0e}"


def watched_pictures(train: bool = True) -> Pictures:
    """What ``simclr fit`` below trains on."""
    return Pictures(4096 if torch.cuda.is_available() else 128, as_float=False)


def _waits(check: Check, folder: Path, precision: str) -> None:
    """``simclr fit`` as it is typed, with progress bar, probe, summary and all."""
    batch, small = check.sized(256, 8), ["--model.encoder", "resnet8", "--model.width", "0.125"]
    words = ["fit", "--model.encoder", "resnet18", "--model.stem", "cifar", *check.sized([], small)]
    words += ["--data.dataset", "gpu.training.watched_pictures", "--data.cache", "true"]
    words += ["--data.views", "cifar10", "--data.batch_size", str(batch), "--data.val_fraction", "0.1"]
    words += ["--trainer.accelerator", check.sized("gpu", "cpu"), "--trainer.devices", "1"]
    words += ["--trainer.precision", precision, "--trainer.max_steps", str(STEPS), "--trainer.max_epochs", "-1"]
    words += ["--trainer.callbacks+", "gpu.waits.Waits", "--trainer.callbacks+", "OnlineLinearProbe"]
    words += ["--trainer.logger.save_dir", str(folder), "--trainer.log_every_n_steps", "50"]
    main(words)
    watched = Waits.last_run
    assert watched is not None
    where = dict(watched.seen.most_common())
    # torch's scaler of float16 gradients reads on the host whether they have overflowed, at every step
    scaler = sum(number for line, number in where.items() if "grad_scaler.py" in line)
    waits = sum(where.values()) - scaler
    note = f"{waits} in {watched.steps} steps" + (f", beside {scaler} of torch's GradScaler" if scaler else "")
    name = f"simclr fit, {precision}: no wait between logged steps"
    check.must(name, waits == 0 and watched.steps > 0, note + " (a CPU never waits)" * check.rehearse, where=where)
