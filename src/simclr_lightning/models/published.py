"""The weights that torchvision and timm publish, and a first convolution that takes pictures of other channels."""

from __future__ import annotations

import difflib

import torch
import torchvision
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.models.encoders import timm_network


def published_weights(library: str, encoder: str, image_size: int | None = None) -> dict[str, Tensor]:
    """The state dict that torchvision (``DEFAULT``) or timm (its pre-trained one) has of an encoder, for 3 channels.

    It is downloaded unless it is in the library's cache.

    Args:
        library: ``torchvision`` or ``timm``.
        encoder: its name, with or without ``torchvision/``; ``timm/NAME`` for timm.
        image_size: side of the pictures in pixels, to which timm fits learnt positions.

    Raises:
        InputError: if the encoder is none of the library's, has no such weights, or these cannot be downloaded.

    Example:
        >>> published_weights("timm", "resnet50")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: init_from is 'timm', but the encoder 'resnet50' is none of timm: ...
    """
    name = encoder.removeprefix(f"{library}/")
    known = torchvision.models.list_models(module=torchvision.models)
    if (library == "timm" and name == encoder) or (library == "torchvision" and name not in known):
        near = difflib.get_close_matches(name.rpartition("/")[2], known, n=3) if library == "torchvision" else []
        raise InputError(
            f"init_from is {library!r}, but the encoder {encoder!r} is none of {library}: name one",
            f"model.encoder {library}/{near[0] if near else 'resnet50'}",
        )
    try:
        if library == "torchvision":
            published = torchvision.models.get_model_weights(name).DEFAULT
            return dict(published.get_state_dict(check_hash=True, weights_only=True))
        network, _ = timm_network(name, 3, image_size, pretrained=True)
        return dict(network.state_dict())
    except (OSError, RuntimeError, ValueError) as error:  # no network, a broken download, no such weights
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"The weights that {library} has of {name!r} cannot be had ({reason}): try again online, or name a file",
            "model.init_from weights.safetensors",
        ) from error


def first_convolution(encoder: nn.Module) -> str | None:
    """Name of the weight of the first convolution, where it sees all channels of the pictures at once; else None.

    Example:
        >>> first_convolution(nn.Sequential(nn.Identity(), nn.Conv2d(3, 8, 3)))
        '1.weight'
    """
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Conv2d):
            return f"{name}.weight".removeprefix(".") if layer.groups == 1 else None
    return None


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (O, C, K, K) for another number of channels; what it answers to grey pictures stays.

    For fewer channels, each gets the average over all, times the number that it stands for: one channel alone answers
    as the others did to its repetition. For more, the channels are repeated in their order, and divided by the number
    of repetitions.

    Args:
        weight: (O, C, K, K).
        channels: how many the result has.

    Returns:
        (O, ``channels``, K, K).

    Example:
        >>> weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
        >>> for_channels(weight, 1).flatten().tolist(), for_channels(weight, 4).flatten().tolist()
        ([9.0], [0.5, 2.0, 6.0, 0.5])
    """
    known = weight.shape[1]
    if channels < known:
        return (weight.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1)
    source = torch.arange(channels) % known
    return weight[:, source] / torch.bincount(source)[source].to(weight).reshape(1, -1, 1, 1)
