"""Encoders by name: the paper's ResNets, and any torchvision or timm model that gives a pooled feature vector."""

from __future__ import annotations

import difflib
from itertools import chain
from typing import Any, cast, get_args

import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call

from simclr_lightning.errors import InputError, MissingPackageError, check_number
from simclr_lightning.models.resnet import RESNETS, ResNet, Stem, resolve_stem


def build_encoder(
    name: str,
    *,
    width: float = 1.0,
    stem: Stem = "auto",
    in_channels: int = 3,
    image_size: int | None = None,
    zero_init_residual: bool = True,
    pool_grid: int = 1,
) -> nn.Module:
    """Build an untrained encoder f of SimCLR (section 2.1): from pictures (N, C, H, W) to features h (N, F).

    The module has two int attributes: ``feature_dim``, which is F, and ``in_channels``. All of its parameters take part
    in the features. Nothing is downloaded.

    Args:
        name: ``resnet8``, ``resnet10``, ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``resnet152``; any
            other classification model of torchvision, as ``convnext_tiny`` or ``torchvision/convnext_tiny``; or a model
            of timm, as ``timm/vit_tiny_patch16_224``.
        width: ResNets only: multiplies the channels of every stage (the paper uses 1, 2 and 4; fractions are allowed).
        stem: ResNets only: ``imagenet``, ``cifar``, ``pooled`` (see :class:`~simclr_lightning.models.ResNet`), or
            ``auto``: ``cifar`` for pictures of at most 32 pixels, else ``imagenet``. Other networks keep their own.
        in_channels: channels of the pictures. Where that is not 3, the first convolution of a torchvision network other
            than these ResNets starts from torch's default initialisation.
        image_size: side of the pictures in pixels, None where it is not known. Networks made for pictures of one size
            (transformers with learnt positions) are built for this one.
        zero_init_residual: ResNets only: start the last BatchNorm gain of every block at 0.
        pool_grid: ResNets only: fields a side over which the last maps are averaged; the features are those of all of
            pool_grid x pool_grid fields (see :class:`~simclr_lightning.models.ResNet`).

    Returns:
        The encoder, in train mode.

    Example:
        >>> encoder = build_encoder("mobilenet_v3_small", in_channels=1)
        >>> encoder(torch.rand(2, 1, 64, 64)).shape, encoder.feature_dim
        (torch.Size([2, 1024]), 1024)

    Raises:
        InputError: if the name is unknown (the nearest ones are named), if an option is out of range or not one of this
            network's, or if the network cannot turn such pictures into (N, F) features.
        MissingPackageError: if a model of timm is wanted and timm is not installed.
    """
    if name.startswith(_GIVEN):
        raise InputError(
            f"The encoder was a module of Python, {name.removeprefix(_GIVEN)}, which no name tells how to build: give "
            "it again (load_from_checkpoint(path, encoder=...)), or let a subclass make it in build_encoder(), which "
            "commands can do, too."
        )
    if stem not in get_args(Stem):
        raise InputError(f"stem is {stem!r}, expected one of {', '.join(get_args(Stem))}")
    check_number("in_channels", in_channels, least=1, most=65_536)
    check_number("image_size", image_size, least=1, most=65_536)
    check_number("width", width, above=0, most=1_024)

    short = name.removeprefix("torchvision/")
    if short in RESNETS:
        return ResNet(
            *RESNETS[short],
            width=width,
            stem=resolve_stem(stem, image_size),
            in_channels=in_channels,
            zero_init_residual=zero_init_residual,
            pool_grid=pool_grid,
        )
    build = timm_network if name.startswith("timm/") else _build_torchvision
    _check_name(name)
    if (width, stem, zero_init_residual, pool_grid) != _UNTOUCHED:
        raise InputError(
            f"the encoder {name!r} has none of these options: width={width}, stem={stem!r}, "
            f"zero_init_residual={zero_init_residual}, pool_grid={pool_grid}. Leave them at 1.0, 'auto', True and 1, "
            f"or take one of the encoders that have them: {', '.join(RESNETS)}"
        )
    try:
        encoder, size = build(name.rpartition("/")[2], in_channels, image_size)
        encoder.feature_dim = _feature_dim(encoder, (1, in_channels, *size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the encoder {name!r} cannot turn pictures with in_channels={in_channels} and image_size={image_size} "
            f"into one vector of features ({error}): choose another encoder or another size of the pictures"
        ) from error
    encoder.in_channels = in_channels
    return cast("nn.Module", encoder)


_GIVEN = "module:"
_UNTOUCHED = (1.0, "auto", True, 1)  # width, stem, zero_init_residual and pool_grid


def described_encoder(encoder: nn.Module) -> str:
    """What a checkpoint tells of an encoder that was given as a module.

    Example:
        >>> described_encoder(nn.Flatten())
        'module:torch.nn.modules.flatten.Flatten'
    """
    return f"{_GIVEN}{type(encoder).__module__}.{type(encoder).__qualname__}"


def check_given(
    encoder: str | nn.Module, width: float, stem: Stem, zero_init_residual: bool, pool_grid: int
) -> nn.Module | None:
    """The encoder if it is a module, None if it is a name.

    Raises:
        InputError: if options of a ResNet are beside a module.

    Example:
        >>> check_given("resnet8", 2.0, "auto", True, 1)
        >>> check_given(nn.Flatten(), 1.0, "auto", True, 1)
        Flatten(start_dim=1, end_dim=-1)
    """
    if not isinstance(encoder, nn.Module):
        return None
    if (width, stem, zero_init_residual, pool_grid) != _UNTOUCHED:
        raise InputError(
            f"The encoder is a module, a {type(encoder).__name__}, and width={width}, stem={stem!r}, "
            f"zero_init_residual={zero_init_residual} and pool_grid={pool_grid} are for an encoder by name: leave them "
            "out."
        )
    return encoder


def check_feature_dim(encoder: nn.Module) -> None:
    """Raise TypeError unless an encoder tells the length of its features.

    Example:
        >>> check_feature_dim(build_encoder("resnet8"))
    """
    if not isinstance(getattr(encoder, "feature_dim", None), int):
        raise TypeError(
            f"The encoder {type(encoder).__name__} must have an int attribute feature_dim, the length F of the "
            "features (N, F) that it returns: set it, in build_encoder() or on the module that is given."
        )


def _check_name(name: str) -> None:
    """Raise an InputError with the nearest names if neither torchvision nor timm knows this one."""
    if name.startswith("timm/"):
        known = [f"timm/{model}" for model in _import_timm().list_models()]
        listing = "timm/ and one of timm.list_models()"
    else:
        known = sorted({*RESNETS, *torchvision.models.list_models(module=torchvision.models)})
        listing = (
            f"{', '.join(RESNETS)}, those of torchvision.models.list_models(module=torchvision.models), "
            "and timm/<name> for a model of timm"
        )
    if name.removeprefix("torchvision/") in known:
        return
    nearest = difflib.get_close_matches(name.removeprefix("torchvision/").lower(), known, n=5)
    raise InputError(
        f"unknown encoder {name!r}"
        + (f", the nearest names are {', '.join(nearest)}" if nearest else "")
        + f". All names: {listing}"
    )


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingPackageError(
            'encoders named timm/... need the package timm: pip install "simclr-lightning[timm]"'
        ) from error
    return timm


def timm_network(
    name: str, in_channels: int, image_size: int | None, *, pretrained: bool = False
) -> tuple[Any, tuple[int, int]]:
    """Return a timm model without its classifier, and the (height, width) of the pictures that it takes.

    Example:
        >>> timm_network("resnet18", 3, None)[1]
        (224, 224)
    """
    timm = _import_timm()
    config = timm.get_pretrained_cfg(name)
    # Only networks made for pictures of one size know the argument img_size.
    resized = {"img_size": image_size} if image_size is not None and config.fixed_input_size else {}
    encoder = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **resized)
    return encoder, config.input_size[1:] if image_size is None else (image_size, image_size)


def _build_torchvision(name: str, in_channels: int, image_size: int | None) -> tuple[Any, tuple[int, int]]:
    """Return a torchvision model without its classifier, and the (height, width) of the pictures that it takes."""
    side = image_size or 224
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": side}
    elif name == "maxvit_t":
        options = {"input_size": (side, side)}
    elif name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}  # no auxiliary classifiers
    encoder = torchvision.models.get_model(name, weights=None, **options)

    # The last layer of weights is the classifier's (a Linear; in SqueezeNet a 1x1 convolution). Dropout in front of it
    # is the classifier's too, whether it sits in the same child or beside it.
    last = [path for path, module in encoder.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    encoder.set_submodule(last, nn.Identity())
    classifier = last.partition(".")[0]
    for path, module in list(encoder.named_modules()):
        if isinstance(module, nn.Dropout) and ("." not in path or path.startswith(f"{classifier}.")):
            encoder.set_submodule(path, nn.Identity())

    if in_channels != 3:
        conv = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
        conv.in_channels = in_channels
        conv.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, in_channels, *conv.kernel_size))
        conv.reset_parameters()
    return encoder, (side, side)


def _feature_dim(encoder: Any, shape: tuple[int, ...]) -> int:
    """Number of features that a picture batch of this shape leads to, from a forward pass on the meta device.

    Meta tensors have shapes but no values, so this costs neither memory nor arithmetic, however large the encoder.
    """
    state = {
        key: tensor.detach().to("meta") for key, tensor in chain(encoder.named_parameters(), encoder.named_buffers())
    }
    encoder.eval()
    with torch.no_grad():
        features = functional_call(encoder, state, torch.empty(shape, device="meta"))
    encoder.train()
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"its output is {found} instead of (N, features)")
    return features.shape[1]
