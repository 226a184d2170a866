"""``RetrievalTable``: pictures beside those that the encoder finds most alike, as a table of W&B."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from simclr_lightning.callbacks.log_table import log_table
from simclr_lightning.callbacks.view_grid import false_colour, normalisation_of, undo_normalisation
from simclr_lightning.distributed import gather_rows
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.features import encode_batch

_SIDE = 64  # of the pictures in the table, at most


class RetrievalTable(Callback):
    """Logs ``retrieval`` at the end of a fit: a query a row, with its nearest neighbours, classes and similarities.

    Queries are validation pictures, neighbours training pictures, both drawn once; without validation pictures some of
    the training pictures are looked up among the others. Only loggers that take tables get one: without Weights &
    Biases nothing is computed.

    Args:
        queries: rows, at most.
        neighbours: of each.
        bank: training pictures to look for them in, at most.

    Raises:
        InputError: if a number is less than 1, or there are more than 1,000 neighbours.

    Example:
        >>> trainer = Trainer(callbacks=[RetrievalTable(queries=8)], accelerator="cpu", logger=False)
    """

    def __init__(self, queries: int = 16, neighbours: int = 5, bank: int = 1000) -> None:
        super().__init__()
        for name, value in (("queries", queries), ("neighbours", neighbours), ("bank", bank)):
            if value < 1:
                raise InputError(f"{name} of RetrievalTable is {value}: choose 1 or more.")
        check_number("neighbours of RetrievalTable", neighbours, "trainer.callbacks.neighbours 5", most=1000)
        self.queries, self.neighbours, self.bank = queries, neighbours, bank

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode, look up and log, where somebody takes the table."""
        data: Any = getattr(trainer, "datamodule", None)
        wanted = any(hasattr(logger, "log_table") for logger in trainer.loggers) and hasattr(data, "sample_dataloader")
        loader = data.sample_dataloader("train", self.bank) if wanted else None
        if loader is None:
            return
        bank = _looked_at(trainer, pl_module, loader)
        others = data.sample_dataloader("val", self.queries) if data.splits.val is not None else None
        asked = _looked_at(trainer, pl_module, others) if others is not None else _Looked(*(own[::7] for own in bank))
        similarities, nearest = nearest_neighbours(
            asked.features[: self.queries], bank.features, self.neighbours, without_itself=others is None
        )
        classes = getattr(data, "class_names", None)
        columns = ["query", "class of query"]
        for rank in range(1, nearest.shape[1] + 1):
            columns += [f"neighbour {rank}", f"class {rank}", f"similarity {rank}"]
        rows = []
        for query, (alike, places) in enumerate(zip(similarities.tolist(), nearest.tolist(), strict=True)):
            row: list[Any] = [asked.picture(query), asked.class_of(query, classes)]
            for similarity, place in zip(alike, places, strict=True):
                row += [bank.picture(place), bank.class_of(place, classes), round(similarity, 4)]
            rows.append(row)
        log_table(trainer, "retrieval", columns, rows)


def nearest_neighbours(queries: Tensor, bank: Tensor, k: int, *, without_itself: bool = False) -> tuple[Tensor, Tensor]:
    """The most similar rows of a bank by the cosine, the first one first.

    Args:
        queries: (Q, F).
        bank: (N, F).
        k: how many, at most N.
        without_itself: whether the most similar row is left out, because queries are rows of the bank.

    Returns:
        Cosines and positions, (Q, k) each.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> nearest_neighbours(bank[:1], bank, 1)[1], nearest_neighbours(bank[:1], bank, 1, without_itself=True)[1]
        (tensor([[0]]), tensor([[2]]))
    """
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    found, first = cosines.topk(min(k + without_itself, len(bank)), dim=1), int(without_itself)
    return found.values[:, first:], found.indices[:, first:]


class _Looked(NamedTuple):
    features: Tensor
    targets: Tensor
    pictures: Tensor

    def picture(self, place: int) -> Any:
        return to_pil_image(self.pictures[place].cpu())

    def class_of(self, place: int, names: list[str] | None) -> str:
        target = self.targets[place]
        if target.ndim or target < 0:  # several classes, or none
            return ""
        return names[int(target)] if names else str(int(target))


def _looked_at(trainer: Trainer, pl_module: LightningModule, loader: Any) -> _Looked:
    """Features, classes and small pictures of a sample, of all processes."""
    recipe = getattr(getattr(trainer, "datamodule", None), "recipes", (None,))[0]
    rows: list[tuple[Tensor, ...]] = []
    for loaded in loader:
        features, batch = encode_batch(trainer, pl_module, loaded)
        shown = undo_normalisation(batch.images[None], *normalisation_of(recipe))[0]
        shown = false_colour(shown).clamp(0, 1)
        if max(shown.shape[-2:]) > _SIDE:
            shown = F.interpolate(shown, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        small = (shown * 255).round().to(torch.uint8)
        rows.append((features.float(), batch.targets, small.to(features.device)))
    columns = [torch.cat(own) for own in zip(*rows, strict=True)]
    gathered = [gather_rows(own.flatten(1) if own.ndim > 2 else own)[0] for own in columns]
    return _Looked(gathered[0], gathered[1], gathered[2].view(-1, *columns[2].shape[1:]))
