"""A callback that logs a picture."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from simclr_lightning.callbacks import log_picture


class Portrait(Callback):
    """The first view of the last batch."""

    last: Tensor

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self.last = batch.views[0][0, 0]  # type: ignore[attr-defined]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log_picture(trainer, "portrait", to_pil_image(self.last.cpu().float()).convert("RGB"))
