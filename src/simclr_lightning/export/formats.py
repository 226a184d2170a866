"""The formats of exported encoders: how a file is written, and the code that loads it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.models import RESNETS, ResNet
from simclr_lightning.simclr import SimCLR

Format = Literal["torchvision", "timm", "torchscript", "torch_export", "onnx"]
"""What other programs read: weights under the names of torchvision or timm, or a graph that needs no class."""


class Exporter(NamedTuple):
    """One format.

    Attributes:
        meaning: what the file is, for people.
        file: name of the file where none is asked for; other names must have its suffix.
        packages: what writing and loading need beside torch and torchvision.
        write: writes an encoder in evaluation mode; the pictures (2, C, H, W) are an example of its input.
        loading: Python that loads the file of this name as ``encoder``, a function from pictures to features. It is
            what the model card shows, and what the file is checked with; values in it are literals, see ``_literal``.

    Example:
        >>> model = SimCLR(encoder="resnet8", width=0.125, image_size=16)
        >>> FORMATS["torchscript"].loading(model, "encoder.pt").splitlines()[-1]
        'encoder = torch.jit.load("encoder.pt")'
    """

    meaning: str
    file: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path], None]
    loading: Callable[[SimCLR, str], str]


def _write_state_dict(encoder: nn.Module, images: Tensor, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}, path, {"format": "pt"})


def _write_torchscript(encoder: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # deprecated; the model card says so. A FutureWarning in torch 2.14, in older ones a DeprecationWarning.
        warnings.filterwarnings("ignore", "`torch.jit")
        torch.jit.trace(encoder, images, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]


def _write_torch_export(encoder: nn.Module, images: Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(encoder, (images,), dynamic_shapes=({0: batch},)), path)


def _write_onnx(encoder: nn.Module, images: Tensor, path: Path) -> None:
    torch.onnx.export(
        encoder,
        (images,),
        path,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,  # one file
        verbose=False,
    )


def _load_torchvision(model: SimCLR, file: str) -> str:
    name = _name_in("torchvision", model)
    whole = torchvision.models.get_model(name, weights=None).state_dict()
    classifiers = sorted({key.rpartition(".")[0] for key in whole.keys() - model.encoder.state_dict().keys()})
    network = [
        f"encoder = torchvision.models.get_model({_literal(name)}, weights=None)",
        *(f"encoder.set_submodule({_literal(layer)}, torch.nn.Identity())  # no classifier" for layer in classifiers),
    ]
    return _load_state_dict("torchvision", [*network, *_stem(model.encoder)], file)


def _load_timm(model: SimCLR, file: str) -> str:
    import timm

    name = _name_in("timm", model)
    options = ""
    if not isinstance(model.encoder, ResNet):
        options = f", in_chans={_literal(model.hparams['in_channels'])}"
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size and model.hparams["image_size"] is not None:
            options += f", img_size={_literal(model.hparams['image_size'])}"
    network = [f"encoder = timm.create_model({_literal(name)}, num_classes=0{options})"]
    return _load_state_dict("timm", [*network, *_stem(model.encoder)], file)


def _load_state_dict(library: str, network: list[str], file: str) -> str:
    imports = [*sorted([f"import {library}", "import torch"]), "from safetensors.torch import load_file"]
    return "\n".join(
        [*imports, "", *network, f"encoder.load_state_dict(load_file({_literal(file)}))", "encoder.eval()"]
    )


def _load_torchscript(model: SimCLR, file: str) -> str:
    return f"import torch\n\nencoder = torch.jit.load({_literal(file)})"


def _load_torch_export(model: SimCLR, file: str) -> str:
    return f"import torch\n\nencoder = torch.export.load({_literal(file)}).module()"


def _load_onnx(model: SimCLR, file: str) -> str:
    return f"""import onnxruntime
import torch

session = onnxruntime.InferenceSession({_literal(file)}, providers=["CPUExecutionProvider"])


def encoder(images):
    return torch.from_numpy(session.run(["features"], {{"images": images.numpy()}})[0])

"""


def _name_in(library: str, model: SimCLR) -> str:
    """What a library calls the encoder; an InputError if it has no such network."""
    full = model.hparams["encoder"]
    owner, _, name = full.rpartition("/")
    if name in RESNETS and owner != "timm":
        if name in ("resnet8", "resnet10") or model.hparams["width"] != 1:
            raise InputError(
                f"{library} has no {name} of width {model.hparams['width']}: take torch_export or onnx, whose files "
                "hold the architecture too."
            )
    elif (owner or "torchvision") != library:
        raise InputError(
            f"The encoder {full} is not one of {library}: take {owner or 'torchvision'}, or torch_export or onnx, "
            "whose files hold the architecture too."
        )
    if name not in _known(library):  # another class than SimCLR need not have looked it up
        raise InputError(
            f"{library} has no model {name!r}: take torch_export or onnx, whose files hold the architecture too."
        )
    return str(name)


def _known(library: str) -> list[str]:
    if library == "torchvision":
        return list(torchvision.models.list_models(module=torchvision.models))
    import timm

    names: list[str] = timm.list_models()
    return names


def _literal(value: str | int) -> str:
    """Python's spelling of a value: what comes from a checkpoint or is the name of a file cannot become code."""
    return json.dumps(value, ensure_ascii=False)  # JSON's escapes of rare characters are not Python's


def _stem(encoder: nn.Module) -> list[str]:
    """Code that gives a library's ResNet the first layers of ours, where they are others."""
    if not isinstance(encoder, ResNet):
        return []
    conv, lines = encoder.conv1, []
    if conv.kernel_size != (7, 7) or conv.in_channels != 3:
        arguments = f"{conv.in_channels}, {conv.out_channels}, {conv.kernel_size[0]}"
        spacing = f"stride={conv.stride[0]}, padding={conv.padding[0]}"
        lines.append(f"encoder.conv1 = torch.nn.Conv2d({arguments}, {spacing}, bias=False)")
    if isinstance(encoder.maxpool, nn.Identity):
        lines.append("encoder.maxpool = torch.nn.Identity()")
    return lines


FORMATS: dict[Format, Exporter] = {
    "torchvision": Exporter(
        "state dict with torchvision's names, in safetensors",
        "encoder.torchvision.safetensors",
        ("safetensors",),
        _write_state_dict,
        _load_torchvision,
    ),
    "timm": Exporter(
        "state dict with timm's names, in safetensors",
        "encoder.timm.safetensors",
        ("safetensors", "timm"),
        _write_state_dict,
        _load_timm,
    ),
    "torchscript": Exporter(
        "TorchScript, which torch has deprecated in favour of torch.export",
        "encoder.torchscript.pt",
        (),
        _write_torchscript,
        _load_torchscript,
    ),
    "torch_export": Exporter(
        "program of torch.export, for any batch size",
        "encoder.pt2",
        (),
        _write_torch_export,
        _load_torch_export,
    ),
    "onnx": Exporter(
        "ONNX, for any batch size",
        "encoder.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        _write_onnx,
        _load_onnx,
    ),
}
"""What an encoder can be exported as."""
