"""``RepresentationHealth``: whether the training is well, in numbers, and in words where it is not."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from simclr_lightning.callbacks.divergence import LossRecord, ask_of_weights_alone, names_of_pictures
from simclr_lightning.callbacks.expected_loss import expected_loss
from simclr_lightning.callbacks.kept_outputs import KeptOutputs, packed, unpacked
from simclr_lightning.callbacks.linear_probe import OnlineLinearProbe
from simclr_lightning.distributed import all_reduce_sum, gather_rows, world_size
from simclr_lightning.errors import check_number
from simclr_lightning.losses.watch import DivergedError, raise_together
from simclr_lightning.metrics.health import HealthMetrics, health_metrics
from simclr_lightning.metrics.health_words import Word, collapse_word, floor_word, probe_word


class RepresentationHealth(Callback):
    """Measures what the encoder makes of views, and says in words what is wrong; it says nothing where nothing is.

    At the end of every epoch, and every ``every_n_steps`` in longer ones, it takes a sample of the features and
    projections that ``training_step`` returned for the last batches, of all processes: the same as on one. It logs
    ``health/features_...`` and ``health/projections_...`` with the fields of
    :class:`~simclr_lightning.metrics.HealthMetrics`, ``health/loss_above_floor``, and, at logged steps,
    ``health/gradient_norm``, before clipping.

    The words are warnings, each said once: complete collapse, dimensional collapse, loss at its floor, probe at chance.
    The bounds, and the runs they come from, are in :mod:`simclr_lightning.metrics.health_words`. A loss that is NaN or
    infinite ends the run, in all processes: the message names the step, its pictures and the last good checkpoint, and
    no checkpoint with such weights is written, also none of weights alone.

    Between these moments a step costs nothing, and no host waits for its device. All of it was 1.7 % of the CPU time of
    experiments/quickstart.yaml, whose epochs have eleven short steps (one core).

    Example:
        >>> trainer = Trainer(callbacks=[RepresentationHealth()], accelerator="cpu", logger=False)

    Args:
        pictures: of the sample, two views of each.
        every_n_steps: in longer epochs, and where data never end; it happens at logged steps.
        seed: of the sample.

    Attributes:
        words: said so far.

    Raises:
        InputError: if a number is out of range.
    """

    def __init__(self, pictures: int = 256, every_n_steps: int = 1000, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("pictures", pictures, 2), ("every_n_steps", every_n_steps, 1), ("seed", seed, 0)):
            check_number(f"{name} of RepresentationHealth", value, least=least, below=2**63)
        self.pictures, self.every_n_steps, self.seed = pictures, every_n_steps, seed
        self.words: list[Word] = []
        self._end_asking: Callable[[], None] = _nothing
        self._loaded: dict[str, Any] | None = None
        self._forget()

    def _forget(self) -> None:
        self._taken: deque[KeptOutputs] = deque()
        self._record = LossRecord()
        self._start: dict[str, float] = {}
        self._probes: dict[str, tuple[float, int]] = {}
        self._measured = 0

    def state_dict(self) -> dict[str, Any]:
        """How far features were apart at the start, the best of each probe, and the last batches' features."""
        if self._loaded is not None:  # saved again before it trains
            return self._loaded
        probes = {name: list(best) for name, best in self._probes.items()}
        kept = {"measured": self._measured, "taken": packed(self._taken)}
        return {"start": dict(self._start), "probes": probes, **kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._loaded = {"measured": None, "taken": [], **state_dict}  # older checkpoints have not all

    # --- what is kept of a step ---

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier fit; a resumed one keeps its start."""
        loaded, self._loaded = self._loaded, None
        start, probes = (self._start, self._probes) if trainer.global_step else ({}, {})
        self._forget()
        self._start, self._probes, self._measured = start, probes, trainer.global_step
        if loaded is not None:
            self._start = dict(loaded["start"])
            self._probes = {name: (best, epochs) for name, (best, epochs) in loaded["probes"].items()}
            self._measured = trainer.global_step if loaded["measured"] is None else loaded["measured"]
            self._taken.extend(unpacked(loaded["taken"], pl_module.device))
        self._end_asking()  # of a fit that failed
        self._end_asking = ask_of_weights_alone(pl_module, partial(self.on_save_checkpoint, trainer, pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._end_asking()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember the pictures."""
        self._record.begin(trainer.global_step, getattr(batch, "indices", None))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm of the gradient, at logged steps."""
        if _is_logged(trainer, trainer.global_step + 1):
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            pl_module.log("health/gradient_norm", _norm(gradients), on_step=True, on_epoch=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what was computed anyway; look at it where the host waits anyway."""
        if isinstance(outputs.get("loss") if isinstance(outputs, dict) else None, Tensor):
            self._record.end(outputs["loss"])
        taken = _take(outputs, batch)  # training_step may return None to leave out a step
        if taken is not None:
            self._keep(taken)
        if _is_logged(trainer, trainer.global_step):
            self._check(trainer)  # by all processes, whatever each has of this batch
            if self._taken and trainer.global_step - self._measured >= self.every_n_steps:
                values = self._measure(trainer, pl_module)
                for logger in trainer.loggers:  # by self.log they would come again at every logged step
                    logger.log_metrics(values, trainer.global_step - 1)  # as Lightning counts

    def _keep(self, taken: KeptOutputs) -> None:
        self._taken.append(taken)
        spare = sum(len(own.indices) for own in self._taken) - -(-self.pictures // world_size())
        while len(self._taken) > 1 and spare >= len(self._taken[0].indices):
            spare -= len(self._taken.popleft().indices)
        if not self._start:
            self._start = {space: _spread(*found) for space, found in self._metrics().items()}

    # --- when it is looked at ---

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and judge the probes.

        Raises:
            DivergedError: if a loss was not finite.
        """
        self._check(trainer)
        if self._taken:
            # Equal on all processes already; Lightning warns of sync_dist=False.
            pl_module.log_dict(self._measure(trainer, pl_module), on_step=False, on_epoch=True, sync_dist=True)
            self._judge_probes(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let no weights be written that are NaN or infinite: the file before stays what it was.

        Raises:
            DivergedError: if they are, or the loss was.
        """
        self._check(trainer)
        weights = [value for value in checkpoint["state_dict"].values() if value.is_floating_point() and value.numel()]
        bad = bool(weights) and not math.isfinite(_norm(weights, math.inf))
        error = DivergedError("The weights are NaN or infinite, so no checkpoint is written") if bad else None
        raise_together(error, "the weights", trainer.strategy.root_device)  # one process may have them all

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add to what says that training has diverged: the pictures, and the last good checkpoint."""
        if isinstance(exception, DivergedError):
            told = self._record.told(exception, partial(names_of_pictures, trainer))
            exception.args = (f"{exception.args[0]}\n{told}{_last_checkpoint(trainer)}",)

    # --- how ---

    def _check(self, trainer: Trainer) -> None:
        self._record.check(partial(names_of_pictures, trainer), trainer.strategy.root_device)

    def _sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (2, N, F) and projections (2, N, D) of the sample, on the CPU, and the targets (N,)."""
        columns: list[list[Tensor]] = [[], [], []]
        for number, own in enumerate(self._taken):
            pictures = len(own.indices)
            places = torch.stack([torch.full((pictures,), number), own.indices.cpu(), own.targets.cpu()], 1)
            columns[2].append(places)
            for column, rows in zip(columns[:2], (own.features, own.projections), strict=True):
                column.append(torch.unflatten(rows, 0, (-1, pictures))[:2].transpose(0, 1).flatten(1).float().cpu())
        device = self._taken[0].features.device  # where processes talk
        features, projections, places = (gather_rows(torch.cat(own).to(device))[0].cpu() for own in columns)
        order = places[:, 1].argsort(stable=True)
        order = order[places[order, 0].argsort(stable=True)]  # batch by batch, whoever had the picture
        chosen = torch.randperm(len(order), generator=torch.Generator().manual_seed(self.seed))[: self.pictures]
        order = order[chosen.sort().values]
        features, projections = (
            torch.unflatten(rows[order], 1, (2, -1)).transpose(0, 1) for rows in (features, projections)
        )
        return features, projections, places[order, 2]

    def _metrics(self) -> dict[str, tuple[HealthMetrics, int, int]]:
        """What was found in features and projections, with the numbers of dimensions and rows."""
        *spaces, self._targets = self._sample()
        return {
            name: (health_metrics(views), views.shape[2], 2 * views.shape[1])
            for name, views in zip(("features", "projections"), spaces, strict=True)
        }

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        self._measured = trainer.global_step
        values: dict[str, float] = {}
        for space, found in self._metrics().items():
            metrics, dimensions, rows = found
            values |= {f"health/{space}_{name}": value.item() for name, value in metrics._asdict().items()}
            spread = (metrics.std.item(), metrics.rank.item(), dimensions, rows)
            self._say(trainer, collapse_word(space, *spread, self._start.get(space, math.inf)))
        expected = expected_loss(trainer, pl_module)
        if expected is not None and expected.bounds is not None:
            losses = torch.stack([own.loss.float() for own in self._taken])
            losses = losses * trainer.accumulate_grad_batches  # by which Lightning has divided them
            loss = (all_reduce_sum(losses.mean()) / world_size()).item()
            values["health/loss_above_floor"] = loss - expected.bounds[1]
            self._say(trainer, floor_word(loss, *expected.bounds))
        return values

    def _judge_probes(self, trainer: Trainer) -> None:
        known = self._targets[self._targets >= 0]
        if not len(known):
            return
        chance = known.bincount().amax().item() / len(known)
        for probe in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(probe, OnlineLinearProbe):
                told = [trainer.callback_metrics.get(f"{probe.name}/{split}_top1") for split in ("train", "val")]
                found = [float(value) for value in told if value is not None]
                if found:
                    best, epochs = self._probes.get(probe.name, (0.0, 0))
                    self._probes[probe.name] = best, epochs = max(best, *found), epochs + 1
                    self._say(trainer, probe_word(probe.name, best, chance, epochs))

    def _say(self, trainer: Trainer, word: Word | None) -> None:
        if word is not None and not any(said.name == word.name for said in self.words):
            self.words.append(word)
            when = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
            rank_zero_warn(f"{word.name[0].upper()}{word.name[1:]} ({when}): {word.text}")


def _nothing() -> None:
    pass


def _take(outputs: Any, batch: Any) -> KeptOutputs | None:
    """None where a module returns something else than SimCLR does, or there is one view, or one picture."""
    told: list[Any] = [
        outputs.get(name) if isinstance(outputs, dict) else None for name in ("features", "projections", "loss")
    ]
    told += [getattr(batch, name, None) for name in ("indices", "targets")]
    if not all(isinstance(value, Tensor) for value in told):
        return None
    features, projections, loss, indices, targets = told
    if len(indices) < 2 or len(features) < 2 * len(indices) or len(features) % len(indices):
        return None
    return KeptOutputs(features, projections, indices, targets, loss)


def _norm(tensors: list[Tensor], kind: float = 2.0) -> Tensor:
    norm: Any = get_total_norm(tensors, norm_type=kind)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of parts, under FSDP2
    return whole


def _spread(found: HealthMetrics, dimensions: int, rows: int) -> float:
    return found.std.item() * math.sqrt(dimensions)


def _is_logged(trainer: Trainer, step: int) -> bool:
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
    return every > 0 and step % every == 0


def _last_checkpoint(trainer: Trainer) -> str:
    """Where the newest checkpoint is, none of which holds such weights."""
    names = [
        getattr(own, name, "")
        for own in trainer.checkpoint_callbacks
        for name in ("last_model_path", "best_model_path")
    ]
    there = [Path(name) for name in names if name and Path(name).exists()]
    if not there:
        return "There is no checkpoint of this run yet."
    newest = max(there, key=lambda path: path.stat().st_mtime)
    return f"The last good checkpoint is {newest}: go on from it with a lower rate (--ckpt_path {newest})."
