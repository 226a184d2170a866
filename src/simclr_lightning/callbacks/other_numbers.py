"""``OtherNumbers``: a run goes on with another number of processes, or another batch size, and says what changes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from simclr_lightning.errors import InputError


class OtherNumbers(Callback):
    """Lets a training go on in the middle of an epoch with another number of processes, or another batch size.

    Our loaders count pictures, Lightning counts batches: what was trained on before is told to it in batches of the new
    size, so that no picture of the epoch comes twice, and none is left out but those that fill no last batch.

    Example:
        >>> trainer = Trainer(callbacks=[OtherNumbers()], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell how many processes there are."""
        checkpoint["processes"] = trainer.world_size

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say what becomes different."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        before, now = checkpoint.get("processes"), trainer.world_size
        if before not in (None, now):
            rank_zero_warn(
                f"The checkpoint is of {before} process(es), and {now} go on. The pictures of every batch, their views "
                "and the schedule stay; sums over processes differ in their last bits, and BatchNorm sees other parts "
                "of a batch, unless it is synchronised."
            )
        data = getattr(trainer, "datamodule", None)
        batch = getattr(data, "batch_size", None)
        before = checkpoint.get("datamodule_hyper_parameters", {}).get("batch_size")
        if None not in (before, batch) and before != batch:
            rank_zero_warn(
                f"The checkpoint is of batches of {before} pictures, and those of {batch} go on: pictures have other "
                "negatives, and the learning rate is another one where it is scaled (LARSWarmup). The epoch goes on "
                "with the pictures that it has not seen."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell Lightning how many batches lie behind.

        Raises:
            InputError: if gradients are accumulated, and steps would begin elsewhere.
        """
        goes_on = getattr(trainer.train_dataloader, "goes_on_with", None)
        behind = goes_on() if callable(goes_on) else None
        if behind is None:
            return
        if behind % trainer.accumulate_grad_batches:
            raise InputError(
                f"The checkpoint is from the middle of an epoch, and {behind} batches of the present size lie behind, "
                f"of which {trainer.accumulate_grad_batches} make a step: go on from an epoch's end, or with the "
                "batch size of before",
                "data.batch_size",
            )
        current: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        in_last_hook = current.processed - current.completed  # of a batch, which Lightning then counts as completed
        current.ready = current.started = current.processed = behind
        current.completed = behind - in_last_hook
