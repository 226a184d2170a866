"""From any checkpoint to its encoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from lightning.pytorch import LightningModule
from torch import nn

from simclr_lightning.checkpoints.bolts import BoltsEncoder
from simclr_lightning.checkpoints.content import is_address
from simclr_lightning.checkpoints.file import Checkpoint
from simclr_lightning.checkpoints.loading import SafelyLoaded
from simclr_lightning.checkpoints.model import as_read, build_described, load_model, load_weights
from simclr_lightning.errors import InputError, MissingFileError, check_exists
from simclr_lightning.models import Stem, build_encoder, to_memory_format
from simclr_lightning.models.foreign import load_foreign_weights


def load_encoder(
    checkpoint: Checkpoint | str | Path,
    model_class: type[LightningModule],
    *,
    encoder: str | None = None,
    width: float = 1.0,
    stem: Stem = "auto",
    image_size: int | None = None,
    in_channels: int = 3,
) -> nn.Module:
    """Load the encoder from a checkpoint of SimCLR, of one of its classifiers, or of another package.

    Those of this package and of lightning-bolts tell their architecture. Checkpoints of lightly and solo-learn and
    state dicts of torchvision and timm do not: name what they hold by ``encoder`` and the arguments after it. Either
    all weights of the encoder are loaded, or none.

    Args:
        checkpoint: is read without running code in it.
        model_class: class of the pre-trained model: SimCLR, or a subclass.
        encoder: architecture of a checkpoint that does not tell it.
        width: of that architecture.
        stem: of that architecture; ``cifar`` and ``pooled`` have the same tensors, so the choice is not checked.
        image_size: of that architecture.
        in_channels: of that architecture.

    Returns:
        The encoder, from pictures (N, C, H, W) to features (N, F), in evaluation mode on the CPU.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it cannot be read, the architecture is not told, it is of another class, or a tensor is missing,
            unknown or of another shape.

    Example:
        >>> import torch
        >>> from simclr_lightning import SimCLR
        >>> weights = build_encoder("resnet8", width=0.125).state_dict()  # say, of another program
        >>> encoder = load_encoder(Checkpoint(Path("peer.pth"), weights), SimCLR, encoder="resnet8", width=0.125)
        >>> encoder(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """
    checkpoint = as_read(checkpoint)
    bolts = BoltsEncoder.of(checkpoint)
    if encoder is None and bolts is not None and stem == "auto":
        encoder, stem = bolts.name, bolts.stem
    if encoder is not None:
        network = build_encoder(encoder, width=width, stem=stem, image_size=image_size, in_channels=in_channels)
        if bolts is not None:
            bolts.check(checkpoint.path, encoder, stem, image_size)
        load_foreign_weights(network, checkpoint.state_dict, checkpoint.path)
        if bolts is not None:
            bolts.finish(network)
        return network.eval()
    if (width, stem, image_size, in_channels) != (1.0, "auto", None, 3):
        raise InputError("width, stem, image_size and in_channels describe an encoder: name it (encoder='resnet50').")
    if checkpoint.classifier is None:
        found: Any = load_model(model_class, checkpoint)
        return found.encoder.eval()  # type: ignore[no-any-return]
    return _encoder_of_classifier(checkpoint, model_class).eval()


class LoadsEncoder(SafelyLoaded):
    """Base of ``SimCLR``, of whose checkpoints the encoder is what lasts.

    Example:
        >>> from simclr_lightning import SimCLR
        >>> issubclass(SimCLR, LoadsEncoder)
        True
    """

    @classmethod
    def load_encoder(
        cls,
        path: str | Path,
        encoder: str | None = None,
        *,
        width: float = 1.0,
        stem: Stem = "auto",
        image_size: int | None = None,
        in_channels: int = 3,
    ) -> nn.Module:
        """Load the encoder alone, in evaluation mode on the CPU, for whoever wants features.

        Checkpoints of this class, of the classifiers and of lightning-bolts tell their architecture, others do not.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> import torch
            >>> from simclr_lightning import SimCLR
            >>> with TemporaryDirectory() as folder:
            ...     torch.save(build_encoder("resnet8").state_dict(), f"{folder}/peer.pth")  # say, of another package
            ...     encoder = SimCLR.load_encoder(f"{folder}/peer.pth", "resnet8")

        Args:
            path: the checkpoint, which is read without running code in it, or a ``.safetensors`` file.
            encoder: architecture of a checkpoint that does not tell it; what follows describes it, as in ``SimCLR``.
            width: of its stages.
            stem: ``cifar`` and ``pooled`` have the same tensors, so the choice is not checked.
            image_size: decides ``auto``.
            in_channels: of the pictures.

        Raises:
            InputError: if it is not there, cannot be read, or does not fit completely.
        """
        told = {"width": width, "stem": stem, "image_size": image_size, "in_channels": in_channels}
        return load_encoder(path, cls, encoder=encoder, **told)  # type: ignore[arg-type]

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Load a whole model, encoder and projection head, in evaluation mode on the CPU.

        Nothing is downloaded, and nothing in the files is run.

        Example:
            >>> from simclr_lightning import SimCLR
            >>> SimCLR.from_pretrained("me/pictures")
            Traceback (most recent call last):
            simclr_lightning.errors.MissingFileError: There is no folder me/pictures here, and nothing is downloaded \
unasked. If it is on the Hugging Face Hub:
            hf download me/pictures --local-dir me/pictures
            and load it by SimCLR.from_pretrained('me/pictures') again.

        Args:
            path: a folder of ``simclr export --format hub``, or the ``.ckpt`` file of a run.

        Raises:
            MissingFileError: if it is not there.
            InputError: if it cannot be read, is of another class, or does not fit completely.
        """
        if not is_address(path):
            _check_there(path, cls.__name__)
        return load_model(cls, path).eval()


def _check_there(path: str | Path, name: str) -> None:
    """Raise MissingFileError unless there is a file or a folder, and say how to get what seems to be on the Hub."""
    try:
        check_exists("path", path)
    except MissingFileError as error:
        if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", str(path), re.ASCII):
            raise MissingFileError(
                f"There is no folder {path} here, and nothing is downloaded unasked. If it is on the Hugging Face Hub:"
                f"\nhf download {path} --local-dir {path}\nand load it by {name}.from_pretrained({str(path)!r}) again."
            ) from error
        raise MissingFileError(
            f"There is no {str(path)!r}: name a folder of `simclr export --format hub`, or the .ckpt file of a run."
        ) from error


def _encoder_of_classifier(checkpoint: Checkpoint, model_class: type[LightningModule]) -> nn.Module:
    path, told = checkpoint.path, checkpoint.hyperparameters
    encoder: nn.Module
    match checkpoint.classifier:
        case "LinearEvaluation" | "FineTune":
            model: Any = build_described(model_class, told["architecture"])
            encoder = model.encoder
        case "Supervised":
            named = ("width", "stem", "in_channels", "image_size", "zero_init_residual", "pool_grid")
            options = {name: told[name] for name in named if name in told}  # older files have no pool_grid
            encoder = build_encoder(told["encoder"], **options)
            encoder = to_memory_format(encoder, channels_last=told["channels_last"])
        case wrote:
            raise InputError(
                f"{path} is a checkpoint of {wrote}, none of the package's own classes: load it in Python, "
                f"{wrote}.load_from_checkpoint({str(path)!r}).encoder."
            )
    weights = {name: tensor for name, tensor in checkpoint.state_dict.items() if name.startswith("encoder.")}
    problems = load_weights(nn.ModuleDict({"encoder": encoder}), weights)
    if problems:
        wrote = checkpoint.classifier
        raise InputError(f"The checkpoint {path} does not fit the encoder of the {wrote} that it describes. {problems}")
    return encoder
