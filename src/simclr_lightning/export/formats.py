"""The formats of exported encoders: how a file is written, and the code that loads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchvision
from torch import nn

from simclr_lightning.errors import InputError
from simclr_lightning.export.hub import load_hub_folder, write_hub_folder
from simclr_lightning.export.trained import Trained, literal
from simclr_lightning.models import RESNETS, ResNet
from simclr_lightning.models.resnet import FieldPool
from simclr_lightning.simclr import SimCLR

Format = Literal["torchvision", "timm", "torchscript", "torch_export", "onnx", "hub"]
"""What other programs read: weights with the names of torchvision or timm, a graph that needs no class, or a folder."""


class Exporter(NamedTuple):
    """One format.

    Attributes:
        meaning: what the file is, for people.
        file: name of the file or the folder where none is asked for; other names of files must have its suffix.
        packages: what writing and loading need beside torch and torchvision.
        write: writes an encoder.
        loading: Python that loads the file of this name as ``encoder``, a function from pictures to features. It is
            what the model card shows, and what the file is checked with; values in it are literals, see ``literal``.

    Example:
        >>> from simclr_lightning.checkpoints import Checkpoint
        >>> model = SimCLR(encoder="resnet8", width=0.125, image_size=16)
        >>> trained = Trained(Checkpoint(Path("last.ckpt"), {}), model, model.encoder, torch.rand(2, 3, 16, 16))
        >>> FORMATS["torchscript"].loading(trained, "encoder.pt").splitlines()[-1]
        'encoder = torch.jit.load("encoder.pt")'
    """

    meaning: str
    file: str
    packages: tuple[str, ...]
    write: Callable[[Trained, Path], None]
    loading: Callable[[Trained, str], str]


def _write_state_dict(trained: Trained, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in trained.encoder.state_dict().items()}, path, {"format": "pt"}
    )


def _write_torchscript(trained: Trained, path: Path) -> None:
    with warnings.catch_warnings():
        # deprecated; the model card says so. A FutureWarning in torch 2.14, in older ones a DeprecationWarning.
        warnings.filterwarnings("ignore", "`torch.jit")
        torch.jit.trace(trained.encoder, trained.images, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]


def _write_torch_export(trained: Trained, path: Path) -> None:
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(trained.encoder, (trained.images,), dynamic_shapes=({0: batch},)), path)


def _write_onnx(trained: Trained, path: Path) -> None:
    torch.onnx.export(
        trained.encoder,
        (trained.images,),
        path,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,  # one file
        verbose=False,
    )


def _load_torchvision(trained: Trained, file: str) -> str:
    model = trained.model
    name = _name_in("torchvision", model)
    whole = torchvision.models.get_model(name, weights=None).state_dict()
    classifiers = sorted({key.rpartition(".")[0] for key in whole.keys() - model.encoder.state_dict().keys()})
    network = [
        f"encoder = torchvision.models.get_model({literal(name)}, weights=None)",
        *(f"encoder.set_submodule({literal(layer)}, torch.nn.Identity())  # no classifier" for layer in classifiers),
    ]
    return _load_state_dict("torchvision", [*network, *_stem(model.encoder), *_pool(model.encoder, "avgpool")], file)


def _load_timm(trained: Trained, file: str) -> str:
    import timm

    model = trained.model
    name = _name_in("timm", model)
    options = ""
    if not isinstance(model.encoder, ResNet):
        options = f", in_chans={literal(model.hparams['in_channels'])}"
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size and model.hparams["image_size"] is not None:
            options += f", img_size={literal(model.hparams['image_size'])}"
    network = [f"encoder = timm.create_model({literal(name)}, num_classes=0{options})"]
    return _load_state_dict("timm", [*network, *_stem(model.encoder), *_pool(model.encoder, "global_pool")], file)


def _load_state_dict(library: str, network: list[str], file: str) -> str:
    imports = [*sorted([f"import {library}", "import torch"]), "from safetensors.torch import load_file"]
    return "\n".join([*imports, "", *network, f"encoder.load_state_dict(load_file({literal(file)}))", "encoder.eval()"])


def _load_torchscript(trained: Trained, file: str) -> str:
    return f"import torch\n\nencoder = torch.jit.load({literal(file)})"


def _load_torch_export(trained: Trained, file: str) -> str:
    return f"import torch\n\nencoder = torch.export.load({literal(file)}).module()"


def _load_onnx(trained: Trained, file: str) -> str:
    return f"""import onnxruntime
import torch

session = onnxruntime.InferenceSession({literal(file)}, providers=["CPUExecutionProvider"])


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


def _pool(encoder: nn.Module, layer: str) -> list[str]:
    """Code that gives a library's ResNet features of as many fields as ours has."""
    if not isinstance(encoder, ResNet) or not isinstance(encoder.avgpool, FieldPool):
        return []
    fields = f"torch.nn.AdaptiveAvgPool2d({encoder.avgpool.grid})"
    pool = f"torch.nn.Sequential({fields}, torch.nn.Flatten())" if layer == "global_pool" else fields
    return [f"encoder.{layer} = {pool}"]


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
    "hub": Exporter(
        "folder for the Hugging Face Hub: config.json, weights in safetensors, and this card",
        "hub",
        ("safetensors", "timm"),
        write_hub_folder,
        load_hub_folder,
    ),
}
"""What an encoder can be exported as."""
