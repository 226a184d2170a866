"""The encoders that are compared: the columns of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from simclr_lightning.checkpoints import fitting_weights, load_encoder, plain_scale, read_checkpoint
from simclr_lightning.command_line import typed_command
from simclr_lightning.data import PictureDataModule
from simclr_lightning.errors import InputError
from simclr_lightning.evaluation.labelled_data import TestSplit, dataset_name, labels_to_learn_from, set_up
from simclr_lightning.features import Features, RawPixels, clean_features
from simclr_lightning.simclr import SimCLR

RAW_PIXELS, RANDOM, AS_IT_IS, PRETRAINED = "raw pixels", "random encoder", "model as it is", "pre-trained encoder"


@dataclass
class Candidate:
    """An encoder, or the pixels themselves, with the pictures that it is judged on.

    Attributes:
        name: its column in the table.
        model: gives the features, see ``clean_features``.
        encoder: the network; None for raw pixels, and for a model without an attribute ``encoder``.
        trainer: its accelerator and precision are used.
        datamodule: is set up.
        split: which pictures are classified.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule("digits")
        >>> data.setup()
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> Candidate("raw pixels", RawPixels(), None, trainer, data, "test").test.features.shape
        torch.Size([360, 256])
    """

    name: str
    model: nn.Module
    encoder: nn.Module | None
    trainer: Trainer
    datamodule: LightningDataModule
    split: TestSplit

    @property
    def device(self) -> torch.device:
        """On which classifiers of its features learn."""
        return self.trainer.strategy.root_device

    @cached_property
    def train(self) -> Features:
        """Features of the pictures whose labels may be learned from, but for those that cannot be read."""
        return self.features("train")

    @cached_property
    def test(self) -> Features:
        """Features of the pictures that are classified."""
        return self.features(self.split)

    def learned(self, positions: Tensor) -> Features:
        """Features of some of those pictures: (n,) int64, ascending, which of ``Comparison.targets``."""
        indices, chosen = torch.arange(len(self.train.targets)), positions
        if isinstance(self.datamodule, PictureDataModule) and self.train.indices is not None:
            labelled = self.datamodule.splits.labelled
            assert labelled is not None  # since the features were computed
            indices, chosen = self.train.indices, labelled.positions[positions]
        learned = torch.isin(indices, chosen)
        return self.train if learned.all() else self.train.take(learned)

    def features(self, split: str) -> Features:
        """Features of the labelled, clean pictures of a split, computed anew at each call."""
        return clean_features(self.trainer, self.model, self.datamodule, split)


@dataclass
class Comparison:
    """Raw pixels, the model as it was built, with the weights of its checkpoint, and other encoders.

    Attributes:
        trainer: of one device.
        datamodule: is set up.
        split: which pictures are classified.
        targets: (N,) int64 of the labelled training pictures; (N, C) where a picture may show several classes.
        model: holds the checkpoint's weights after the candidates.
        weights: of the checkpoint, None without one.
        others: encoders by name.
        checkpoints: paths by name.
        raw_pixels: whether the pixels themselves are compared, too.
        notes: what a reader of the figures must know. The candidates add to them.
    """

    trainer: Trainer
    datamodule: LightningDataModule
    split: TestSplit
    targets: Tensor
    model: LightningModule
    weights: dict[str, Tensor] | None
    others: dict[str, nn.Module]
    checkpoints: dict[str, str]
    raw_pixels: bool
    notes: list[str] = field(default_factory=list)

    @classmethod
    def prepare(
        cls,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        ckpt_path: str | Path | None,
        others: Mapping[str, str | Path] | None,
        *,
        raw_pixels: bool = True,
    ) -> Comparison:
        """Load every checkpoint, completely, then set up the data.

        Args:
            trainer: its accelerator and precision are used.
            model: as it was built.
            datamodule: has labelled pictures, by ``clean_dataloader(split)``.
            ckpt_path: checkpoint of the model.
            others: checkpoints of other encoders, by name.
            raw_pixels: whether the pixels themselves are compared, too.

        Raises:
            MissingFileError: if there is no such checkpoint.
            InputError: if a checkpoint does not fit, a name is taken, there are several devices, or no suitable data.
        """
        if trainer.world_size > 1:
            raise InputError(f"Encoders are compared on one device, not on {trainer.world_size}: --trainer.devices 1.")
        limit = trainer.limit_predict_batches
        if limit != 1.0 or isinstance(limit, int):  # the integer 1 is one batch
            raise InputError(
                f"trainer.limit_predict_batches is {limit}: figures of some of the pictures would pass for those of "
                "all. Leave it out (and fast_dev_run, which sets it)."
            )
        if datamodule is None:
            raise InputError("Features are judged on labelled pictures: pass a datamodule (--data SimCLRDataModule).")
        paths = {name: str(path) for name, path in (others or {}).items()}
        taken = paths.keys() & {RAW_PIXELS, RANDOM, AS_IT_IS, PRETRAINED}
        if taken:
            raise InputError(f"There is an encoder {min(taken)!r} already: choose another name (--others.NAME PATH).")
        own = {} if ckpt_path is None else {PRETRAINED: str(ckpt_path)}
        read = {name: read_checkpoint(path) for name, path in (own | paths).items()}  # once each, whatever their names
        weights = fitting_weights(model, read[PRETRAINED]) if own else None
        kind = type(model) if isinstance(model, SimCLR) else SimCLR
        encoders = {name: load_encoder(read[name], kind) for name in paths}
        notes = []
        if paths:
            notes.append(f"Labels that {', '.join(paths)} may have been trained with come on top of those listed here.")
        adopt = getattr(datamodule, "adopt_scale", None)
        if own and adopt is not None:
            adopt(plain_scale(read[PRETRAINED].data))
        split = set_up(datamodule, notes)
        for name, encoder in encoders.items():
            _check_channels(name, encoder, datamodule)
        targets = labels_to_learn_from(trainer, datamodule)
        return cls(trainer, datamodule, split, targets, model, weights, encoders, own | paths, raw_pixels, notes)

    def candidates(self) -> Iterator[Candidate]:
        """One after the other. Each must have been used when the next one is asked for, which changes the model."""
        if self.raw_pixels:
            pixels = self._candidate(RAW_PIXELS, RawPixels(), None)
            if pixels.test.features.shape[1]:
                yield pixels
            else:
                self.notes.append(f"No {RAW_PIXELS}: pictures are too large for a classifier on all of their pixels.")
        encoder = getattr(self.model, "encoder", None)
        norms = [module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        seen = self.trainer.global_step > 0 or any(bool(norm.num_batches_tracked) for norm in norms)
        if not seen and any(norm.affine and not norm.weight.any() for norm in norms):
            self.notes.append(
                "The random encoder's residual branches start at zero (zero_init_residual), so it is a weak baseline."
            )
        yield self._candidate(AS_IT_IS if seen else RANDOM, self.model, encoder)
        if self.weights is not None:
            self.model.load_state_dict(self.weights, strict=True)
            yield self._candidate(PRETRAINED, self.model, encoder)
        elif not seen:
            self.notes.append("No pre-trained encoder: name its checkpoint with --ckpt_path (a .ckpt file of its run).")
        for name, other in self.others.items():
            yield self._candidate(name, other, other)

    def asked(self, command: str) -> dict[str, Any]:
        """What tells this comparison from others, besides the settings of the protocols."""
        return {
            "command": typed_command(command),
            "dataset": dataset_name(self.datamodule),
            "split": self.split,
            "checkpoints": self.checkpoints,
            "raw_pixels": self.raw_pixels,
        }

    def _candidate(self, name: str, model: nn.Module, encoder: nn.Module | None) -> Candidate:
        return Candidate(name, model, encoder, self.trainer, self.datamodule, self.split)


def _check_channels(name: str, encoder: nn.Module, datamodule: LightningDataModule) -> None:
    expected, given = (getattr(owner, "in_channels", None) for owner in (encoder, datamodule))
    if None not in (expected, given) and expected != given:
        raise InputError(f"The encoder {name!r} takes {expected} channel(s), but the pictures have {given}.")
