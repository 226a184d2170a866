"""``simclr models``: the encoders by name, how large they are, and how many features they give."""

from __future__ import annotations

import difflib
from importlib.util import find_spec
from json import dumps
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch.overrides import TorchFunctionMode

from simclr_lightning.errors import InputError, MissingPackageError
from simclr_lightning.models import RESNETS, build_encoder
from simclr_lightning.models.resnet import STEMS
from simclr_lightning.versions import version_of

_WIDTHS = (1, 2, 4)  # of the paper
_PREFIXES = ("torchvision/", "timm/")


def list_encoders(part: str = "", limit: int = 20, json: bool = False) -> dict[str, Any]:
    """List the encoders that --model.encoder takes, with their parameters and features; nothing is downloaded.

    Without a name, the ResNets of the paper by width, and where more are found. With a part of a name, what torchvision
    and timm have that is called so.

    Args:
        part: of the name, such as convnext, or timm/vit for models of timm alone.
        limit: encoders that are shown at most; 0 for all. Each is built, without its weights, to be counted.
        json: whether to print JSON instead of a table.

    Returns:
        What was found, as the JSON has it.

    Raises:
        InputError: if no encoder is called so, or the limit is negative.
        MissingPackageError: if models of timm are asked for, and it is not installed.

    Example:
        >>> found = list_encoders("squeezenet1_0", json=True)  # doctest: +ELLIPSIS
        {
        ...
        >>> [(found["name"], found["parameters"], found["features"]) for found in found["encoders"]][0]
        ('squeezenet1_0', 735424, 512)
    """
    if limit < 0:
        raise InputError(f"limit is {limit}: choose 0 (all are shown) or more (--limit 20).")
    if not part:
        content = _overview()
    else:
        names = _named(part)
        shown = names[:limit] if limit else names
        content = {"encoders": [counted(name) for name in shown], "left_out": len(names) - len(shown)}
    if json:
        print(dumps(content, indent=2))
    elif part:
        _print_named(content)
    else:
        _print_overview(content)
    return content


class _WithoutWeights(TorchFunctionMode):
    """Networks that are built inside have parameters with shapes, but without values.

    ``torch.device("meta")`` does the same to every tensor, also to those that some networks read while they are built.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def counted(name: str, width: float = 1.0, pool_grid: int = 1) -> dict[str, Any]:
    """Parameters and features of an encoder; None for a network that gives no vector of features.

    Example:
        >>> counted("resnet8", width=0.5)["features"]
        128
    """
    try:
        with _WithoutWeights():
            encoder: Any = build_encoder(name, width=width, pool_grid=pool_grid)
    except InputError:
        return {"name": name, "parameters": None, "features": None}
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return {"name": name, "parameters": parameters, "features": encoder.feature_dim}


def _overview() -> dict[str, Any]:
    own = []
    for name in RESNETS:
        widths = {width: counted(name, width) for width in _WIDTHS}
        own.append({"name": name, "widths": {width: widths[width] | {"name": name} for width in _WIDTHS}})
    others = len(set(_of_torchvision()) - set(RESNETS))
    timm = version_of("timm") if find_spec("timm") else None
    return {
        "resnets": own,
        "stems": {
            name: {"kernel": kernel, "stride": stride, "max_pool": pool}
            for name, (kernel, stride, pool) in STEMS.items()
        },
        "torchvision": {"version": torchvision.__version__, "encoders": others},
        "timm": {"installed": timm is not None, "version": timm},
    }


def _named(part: str) -> list[str]:
    """Names that a part of one is in: our ResNets and those of torchvision, then those of timm."""
    prefix = next((prefix for prefix in _PREFIXES if part.startswith(prefix)), "")
    inner = part.removeprefix(prefix).lower()
    names = [] if prefix == "timm/" else sorted({*_of_torchvision(), *RESNETS}, key=lambda name: (len(name), name))
    if prefix == "timm/" and not find_spec("timm"):
        raise MissingPackageError('encoders named timm/... need the package timm: pip install "simclr-lightning[timm]"')
    if prefix != "torchvision/" and find_spec("timm"):
        import timm

        names += [f"timm/{name}" for name in timm.list_models()]
    found = [name for name in names if inner in name.removeprefix("timm/").lower()]
    if found:
        return found
    alike = difflib.get_close_matches(f"{prefix}{inner}".removeprefix("torchvision/"), names, n=3)
    meant = f"did you mean {' or '.join(alike)}? " if alike else ""
    where = (
        "" if find_spec("timm") else ' (timm, which has more, is not installed: pip install "simclr-lightning[timm]")'
    )
    raise InputError(f"No encoder has {part!r} in its name{where}: {meant}`simclr models` tells where to look.")


def _of_torchvision() -> list[str]:
    found: list[str] = torchvision.models.list_models(module=torchvision.models)
    return found


def _print_overview(content: dict[str, Any]) -> None:
    table = Table(
        "encoder", *(f"width {width}" for width in _WIDTHS), "features", title="ResNets", title_justify="left", box=None
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for own in content["resnets"]:
        widths = own["widths"]
        features = f"{widths[1]['features']:,} x width"
        table.add_row(own["name"], *(_millions(widths[width]["parameters"]) for width in _WIDTHS), features)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        "\nParameters with the imagenet stem, without the projection head. --model.width takes fractions, too."
    )
    console.print("--model.stem auto: cifar for pictures of at most 32 pixels, else imagenet.")
    for name, stem in content["stems"].items():
        pool = ", then a max-pool" if stem["max_pool"] else ""
        console.print(f"  {name:<8}  {stem['kernel']}x{stem['kernel']} of stride {stem['stride']}{pool}")
    vision, timm = content["torchvision"], content["timm"]
    console.print(f"\ntorchvision {vision['version']}: {vision['encoders']} others. `simclr models convnext` searches.")
    if timm["installed"]:
        console.print(f"timm {timm['version']}: hundreds, named timm/... `simclr models timm/vit` searches.")
    else:
        console.print('timm is not installed: pip install "simclr-lightning[timm]", then `simclr models timm/vit`.')


def _print_named(content: dict[str, Any]) -> None:
    table = Table("encoder", "parameters", "features", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for own in content["encoders"]:
        if own["features"] is None:
            table.add_row(own["name"], "no vector of features", "")
        else:
            table.add_row(own["name"], _millions(own["parameters"]), f"{own['features']:,}")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    if content["left_out"]:
        console.print(f"\n{content['left_out']:,} more: type more of the name, or --limit 0 for all.")
    console.print(f"\nsimclr fit --config folder --data.root photos --model.encoder {content['encoders'][0]['name']}")


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.1f} M"
