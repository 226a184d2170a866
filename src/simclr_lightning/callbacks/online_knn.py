"""``OnlineKNN``: what the nearest neighbours of pictures tell while features are learned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.callbacks.sampled_rows import in_order, is_due
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.features import encode, encode_batch, finished_batch
from simclr_lightning.metrics import knn_predict, neighbour_consistency, top1


class _Encoded(NamedTuple):
    features: Tensor
    targets: Tensor


class OnlineKNN(Callback):
    """Classifies pictures by their nearest neighbours, on clean, current features, every few epochs.

    A bank of training pictures and a sample of validation pictures, both drawn once, are encoded in evaluation mode,
    and the weighted votes of :func:`~simclr_lightning.metrics.knn_predict` logged as ``knn/val_top1``. Where there are
    no validation pictures, half of the bank takes their place (``knn/train_top1``). Where nothing is labelled,
    ``knn/consistency`` is logged instead: how many of the nearest neighbours of a picture are the same for two random
    views of it. Nothing is trained, and the model is left as it was. Several processes share the pictures, with the
    result of one.

    Every picture costs a forward pass. Where the bank is all of a small data set, as of the 1,437 digits, one look took
    3.2 % of the CPU time of five epochs; of a larger one it takes less.

    Example:
        >>> trainer = Trainer(callbacks=[OnlineKNN(every_n_epochs=1)], accelerator="cpu", logger=False)

    Args:
        every_n_epochs: after which epochs; the last one always counts.
        bank: training pictures to look for neighbours in, at most.
        queries: validation pictures, at most.
        k: neighbours that vote, or are compared; at most a tenth of the bank.
        temperature: of the votes.

    Raises:
        InputError: if a number is out of range; when fitting starts, if the data module cannot serve a sample.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        bank: int = 5000,
        queries: int = 1000,
        k: int = 200,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("every_n_epochs", every_n_epochs, 1),
            ("bank", bank, 20),
            ("queries", queries, 1),
            ("k", k, 1),
        ):
            if value < least:
                raise InputError(f"{name} of OnlineKNN is {value}: choose {least} or more.")
        check_number("temperature of OnlineKNN", temperature, above=0)
        self.every_n_epochs, self.bank, self.queries = every_n_epochs, bank, queries
        self.k, self.temperature = k, temperature
        self._loaders: dict[str, Iterable[Any]] = {}
        self._labelled = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures.

        Raises:
            InputError: if the data module has no ``sample_dataloader``.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "sample_dataloader"):
            raise InputError(
                "OnlineKNN needs a data module with `sample_dataloader(split, pictures, views=...)`, as "
                f"SimCLRDataModule has; got {type(data).__name__}. Remove OnlineKNN from trainer.callbacks."
            )
        self._labelled = data.num_classes is not None
        if self._labelled:
            found = {"train": data.sample_dataloader("train", self.bank)}
            if data.splits.val is not None:
                found["val"] = data.sample_dataloader("val", self.queries)
        else:
            found = {"train": data.sample_dataloader("train", self.bank, views=True)}
        self._loaders = {split: loader for split, loader in found.items() if loader is not None}
        if "train" not in self._loaders:
            rank_zero_warn("OnlineKNN has no pictures to look for neighbours in (a stream has no sample): it is idle.")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode and vote, where it is due."""
        if "train" not in self._loaders or not is_due(trainer, self.every_n_epochs):
            return
        name, value = self._votes(trainer, pl_module) if self._labelled else self._consistency(trainer, pl_module)
        # Equal on all processes already; Lightning warns of sync_dist=False.
        pl_module.log(f"knn/{name}", value, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True)

    def _votes(self, trainer: Trainer, pl_module: LightningModule) -> tuple[str, float]:
        bank = self._encoded(trainer, pl_module, "train")
        if "val" in self._loaders:
            name, queries = "val_top1", self._encoded(trainer, pl_module, "val")
        else:  # a sample is in the order of the data set: every other picture, of all classes
            name, queries = "train_top1", _Encoded(*(rows[1::2] for rows in bank))
            bank = _Encoded(*(rows[::2] for rows in bank))
        classes = int(max(bank.targets.max(), queries.targets.max())) + 1
        k, temperature = self._neighbours(len(bank.targets)), self.temperature
        predicted = knn_predict(
            queries.features, bank.features, bank.targets, num_classes=classes, k=k, temperature=temperature
        )
        return name, top1(predicted, queries.targets)

    def _consistency(self, trainer: Trainer, pl_module: LightningModule) -> tuple[str, float]:
        rows, indices = [], []
        for loaded in self._loaders["train"]:
            batch = finished_batch(trainer, pl_module, trainer.datamodule, loaded)  # type: ignore[attr-defined]
            context = trainer.precision_plugin.forward_context
            both = [encode(pl_module, view, precision=context()).float() for view in batch.views[0][:2]]
            rows.append(torch.stack(both, 1).flatten(1))
            indices.append(batch.indices[:, None])
        together, _ = in_order(torch.cat(rows), torch.cat(indices))
        first, second = torch.unflatten(together, 1, (2, -1)).unbind(1)
        return "consistency", neighbour_consistency(first, second, k=self._neighbours(len(first))).item()

    def _encoded(self, trainer: Trainer, pl_module: LightningModule, split: str) -> _Encoded:
        """The labelled pictures of a sample, of all processes, in the order of the data set."""
        rows, places = [], []
        for loaded in self._loaders[split]:
            features, batch = encode_batch(trainer, pl_module, loaded)
            rows.append(features.float())
            places.append(torch.stack([batch.indices, batch.targets], 1))
        features, found = in_order(torch.cat(rows), torch.cat(places))
        labelled = found[:, 1] >= 0
        return _Encoded(features[labelled], found[labelled, 1])

    def _neighbours(self, bank: int) -> int:
        return max(1, min(self.k, bank // 10))
