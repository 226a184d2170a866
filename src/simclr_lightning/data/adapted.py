"""Data modules of other packages, whose own transforms make the views."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from simclr_lightning.errors import InputError, check_number
from simclr_lightning.views import ViewBatch


class AdaptedDataModule(LightningDataModule):
    """Feeds ``SimCLR`` by a data module of lightning-bolts, lightly or your own.

    Its loaders give ``[views, targets, ...]``, with a list of pictures (N, C, H, W) for the views, as data sets do
    whose transform returns several views; or pairs of such batches, of which the first is without labels (STL-10 of
    lightning-bolts). It may be of another release of Lightning, or of no Lightning at all: its methods are called, and
    nothing else of it is used.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader
        >>> class Theirs:
        ...     def train_dataloader(self):
        ...         return DataLoader([((torch.rand(3, 8, 8), torch.rand(3, 8, 8)), target) for target in range(4)], 2)
        >>> data = AdaptedDataModule(Theirs())
        >>> batch = data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
        >>> batch.views[0].shape, batch.targets
        (torch.Size([2, 2, 3, 8, 8]), tensor([0, 1]))

    Args:
        datamodule: has ``train_dataloader()``, and where they are wanted ``val_dataloader()``, ``test_dataloader()``,
            ``prepare_data()`` and ``setup(stage)``.
        views: how many views its transform makes. One picture more is the clean one: that of the online evaluation, of
            lightning-bolts.

    Raises:
        InputError: if ``views`` is out of range, or later if a batch has not so many.
    """

    def __init__(self, datamodule: Any, views: int = 2) -> None:
        super().__init__()
        check_number("views", views, "views 2", least=2, most=100)
        self.datamodule = datamodule
        self.views = views

    def prepare_data(self) -> None:
        """Let it fetch its pictures."""
        if hasattr(self.datamodule, "prepare_data"):
            self.datamodule.prepare_data()

    def setup(self, stage: str) -> None:
        """Let it make its data sets."""
        if hasattr(self.datamodule, "setup"):
            self.datamodule.setup(stage)

    def train_dataloader(self) -> Any:
        """Its training loader."""
        return self.datamodule.train_dataloader()

    def val_dataloader(self) -> Any:
        """Its validation loader, if it has one."""
        return self.datamodule.val_dataloader() if hasattr(self.datamodule, "val_dataloader") else []

    def test_dataloader(self) -> Any:
        """Its test loader, if it has one."""
        return self.datamodule.test_dataloader() if hasattr(self.datamodule, "test_dataloader") else []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> ViewBatch:
        """Its batch as views (V, N, C, H, W), targets (N,), and clean pictures (N, C, H, W) where it has them.

        Raises:
            InputError: if it has not so many views of equally many pictures.
        """
        if isinstance(batch, ViewBatch):
            return batch
        found = batch
        while _is_list(found) and found and _is_list(found[0]) and found[0] and _is_list(found[0][0]):
            found = found[0]  # the batch without labels
        pictures: Any = found[0] if _is_list(found) and found else None
        if not _is_list(pictures) or len(pictures) not in (self.views, self.views + 1):
            raise InputError(
                f"The loader gives {_described(batch)}, and [views, targets] with a list of {self.views} views, or of "
                "one picture more, was expected: tell how many its transform makes, AdaptedDataModule(..., views=2)."
            )
        targets = found[1] if len(found) > 1 and isinstance(found[1], Tensor) and found[1].ndim == 1 else None
        made = ViewBatch.of(*pictures[: self.views], targets=targets)
        return made._replace(images=pictures[self.views]) if len(pictures) > self.views else made


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _described(value: Any, depth: int = 0) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if not _is_list(value) or depth > 2:
        return f"a {type(value).__name__}"
    return f"[{', '.join(_described(own, depth + 1) for own in value[:4])}{', ...' * (len(value) > 4)}]"
