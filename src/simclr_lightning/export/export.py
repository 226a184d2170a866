"""``simclr export``: a checkpoint in, a checked file and its model card out."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from simclr_lightning.checkpoints import load_model, read_checkpoint, run_of
from simclr_lightning.errors import ExistingFileError, InputError, check_number, require_packages
from simclr_lightning.export.formats import FORMATS, Format
from simclr_lightning.export.hub import CARD, metadata, notes
from simclr_lightning.export.model_card import model_card
from simclr_lightning.export.trained import Trained
from simclr_lightning.simclr import SimCLR

TOLERANCE = 1e-6
"""Largest difference of exported features, relative to the largest feature. Measured on random weights: 5e-7 in ONNX
for ResNets up to resnet152, 8e-7 for vit_base_patch16_224; the other formats are exact but for a layout of memory."""

_UNUSABLE = (AttributeError, ImportError, RuntimeError, SyntaxError, TypeError, ValueError)
"""What code that does not fit a file raises; a class that is no part of a module cannot be imported from it."""


def export_encoder(
    ckpt_path: str | Path,
    format: Format,  # noqa: A002  # the name of the option
    output: str | Path | None = None,
    image_size: int | None = None,
    model: type[SimCLR] = SimCLR,
) -> Path:
    """Write the encoder of a checkpoint as a file or folder for other programs, with a model card.

    The file is loaded again, as its model card says, and must give the features of the checkpoint's encoder on random
    pictures; otherwise no file is left. No file is overwritten.

    Args:
        ckpt_path: checkpoint of a pre-trained model.
        format: torchvision or timm (state dict with that library's names, in safetensors), torchscript, torch_export
            (a .pt2 file) or onnx. The batch size stays free. hub: a folder as the Hugging Face Hub takes it, which
            timm and transformers load where timm has the network, and ``SimCLR.from_pretrained`` always; no upload.
        output: the file; its model card gets the same name and .md. By default a file named after the format, in the
            folder of the run that the checkpoint is from. For hub the folder, with the card in it.
        image_size: side in pixels of the pictures that the encoder will be given; by default that of the clean pictures
            during pre-training. The formats torchscript, torch_export and onnx may work for this size alone.
        model: class of the model, where it is not SimCLR, as an import path: my_project.MySimCLR.

    Returns:
        The path of the file, or of the folder.

    Raises:
        ExistingFileError: if the file or its model card is there already.
        MissingFileError: if there is no such checkpoint.
        MissingPackageError: if the format needs packages that are missing.
        InputError: if the checkpoint does not fit the model, the format cannot hold this encoder, the size of the
            pictures is not known, or the file does not give the encoder's features.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from simclr_lightning import SimCLR
        >>> model = SimCLR(encoder="resnet8", width=0.125, image_size=16)
        >>> content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "global_step": 0}
        >>> with TemporaryDirectory() as folder:  # of a run, it would be there already
        ...     torch.save({**content, "pytorch-lightning_version": "2.6.0"}, f"{folder}/last.ckpt")
        ...     file = export_encoder(f"{folder}/last.ckpt", "torchscript")  # doctest: +ELLIPSIS
        Encoder: ...encoder.torchscript.pt (features within 0e+00 of the checkpoint's)
        Model card: ...encoder.torchscript.pt.md
        >>> file.name
        'encoder.torchscript.pt'
    """
    if format not in FORMATS:
        raise InputError(f"Unknown format {format!r}. There are {', '.join(FORMATS)} (--format).")
    exporter = FORMATS[format]
    require_packages(f"The format {format}", exporter.packages)
    check_number("image_size", image_size, "image_size 224", least=1, most=65_536)
    path, card = _files(ckpt_path, output, exporter.file)

    checkpoint = read_checkpoint(ckpt_path)
    trained = load_model(model, checkpoint)
    encoder = trained.eval().encoder.to(memory_format=torch.contiguous_format)
    side = image_size or checkpoint.clean_pictures.get("eval_size")
    if side is None:
        raise InputError("The checkpoint does not tell the size of its pictures: name it, as --image_size 224.")
    images = torch.rand(2, trained.hparams["in_channels"], side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(images)
    tried = Trained(checkpoint, trained, encoder, images)

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unchecked = Path(folder, path.name)
        loading = exporter.loading(tried, str(unchecked))
        exporter.write(tried, unchecked)
        difference = _difference(encoder, loading, images, format)
        if not (difference <= TOLERANCE or difference <= 2 * _rounding(encoder, images)):  # nor NaN
            raise InputError(
                f"The exported features differ from those of {ckpt_path} by {difference:.1e} of the largest one, more "
                f"than rounding explains ({TOLERANCE:.0e}): no file is left. Try another format."
            )
        text = model_card(
            path.name,
            exporter,
            exporter.loading(tried, path.name),
            checkpoint=checkpoint,
            model=trained,
            input_shape=tuple(images.shape[1:]),
            feature_dim=features.shape[1],
            difference=difference,
            notes=notes(tried, path.name) if format == "hub" else "",
        )
        if format == "hub":
            text = metadata(tried) + text
            _check_whole(trained, unchecked)
        (unchecked / CARD if format == "hub" else card).write_text(text, encoding="utf-8")
        unchecked.rename(path)
    print(f"Encoder: {path} (features within {difference:.0e} of the checkpoint's)\nModel card: {card}")
    return path


def _files(ckpt_path: str | Path, output: str | Path | None, default: str) -> tuple[Path, Path]:
    """The file to write, and its model card, neither of which exists."""
    path = (run_of(ckpt_path) or Path(ckpt_path).parent) / default if output is None else Path(output)
    folder = not Path(default).suffix
    if not folder and path.suffix != Path(default).suffix:
        raise InputError(f"The output is named {path.name}, but the suffix of this format is {Path(default).suffix}.")
    card = path / CARD if folder else path.with_name(f"{path.name}.md")
    for file in (path, card):
        if file.exists():
            raise ExistingFileError(f"{file} exists and is not overwritten: name another file (--output), or move it.")
    return path, card


def _check_whole(model: SimCLR, folder: Path) -> None:
    """Raise InputError unless a folder gives all tensors of the model, bit by bit."""
    found = type(model).from_pretrained(folder).state_dict()
    other = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, found[name])]
    if other:
        raise InputError(f"The folder gives another {other[0]} than the checkpoint: no folder is left.")


def _rounding(encoder: nn.Module, images: Tensor) -> float:
    """What float32 changes in the features, relative to the largest: in deep networks it may exceed the tolerance."""
    with torch.no_grad():
        exact = copy.deepcopy(encoder).double()(images.double())
        return float((encoder(images) - exact).abs().max() / exact.abs().max())


def _difference(encoder: nn.Module, loading: str, images: Tensor, name: str) -> float:
    """Largest difference of the features of other pictures, relative to the largest feature."""
    images = torch.cat([images.flip(-1), images[:1]])  # another batch size than the example's
    namespace: dict[str, Any] = {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # torch 2.11's own reading of its files
        expected = encoder(images)
        try:
            exec(loading, namespace)  # what the model card tells its reader to do; made by formats.py, of literals
            found = namespace["encoder"](images)
        except _UNUSABLE as error:  # it does not fit the architecture
            cause = " ".join(str(error).split()[:40])  # torch names every tensor that does not fit
            raise InputError(
                f"The {name} file could not be used as its model card says, and is not kept: {cause}\n"
                "The formats torch_export and onnx need no architecture of another package."
            ) from error
    if found.shape != expected.shape:
        raise InputError(
            f"The exported encoder gives features {tuple(found.shape)} instead of {tuple(expected.shape)}."
        )
    return float((found - expected).abs().max() / expected.abs().max())
