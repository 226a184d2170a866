"""The map is what the encoder pools, of any network, laid out as the picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.models import build_encoder, feature_map, feature_maps

SIDE = 64


def pooled(encoder: Any, found: Tensor) -> Tensor:
    """What the network itself makes of its map."""
    mean = found.mean((2, 3))
    if isinstance(encoder, torchvision.models.ConvNeXt):
        mean = encoder.classifier(mean[:, :, None, None])
    return mean


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("resnet8", 4), ("resnet18", 2), ("convnext_tiny", 2), ("efficientnet_b0", 2), ("mobilenet_v2", 2),
        ("regnet_y_400mf", 2), ("shufflenet_v2_x0_5", 2), ("mnasnet0_5", 2), ("swin_t", 2),
    ],
)  # fmt: skip
def test_the_mean_of_torchvisions_maps_is_the_vector(name: str, cells: int) -> None:
    encoder: Any = build_encoder(name, image_size=SIDE).eval()
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        found, expected = feature_map(encoder, images), encoder(images)
        assert found.shape == (2, found.shape[1], cells, cells)
        torch.testing.assert_close(pooled(encoder, found), expected, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [("timm/test_resnet", 64, 2), ("timm/test_vit", 64, 4), ("timm/swin_tiny_patch4_window7_224", 224, 7)],
)
def test_the_mean_of_timms_maps_is_the_vector(name: str, size: int, cells: int) -> None:
    pytest.importorskip("timm")
    encoder: Any = build_encoder(name, image_size=size).eval()
    images = torch.rand(1, 3, size, size)
    with torch.no_grad():
        found = feature_map(encoder, images)
        assert found.shape[2:] == (cells, cells)
        if name == "timm/test_vit":  # which pools its class token
            tokens = encoder.forward_features(images)
            expected: Tensor = tokens[:, encoder.num_prefix_tokens :].mean(1)
        else:
            expected = encoder(images)
        torch.testing.assert_close(found.mean((2, 3)), expected, rtol=1e-4, atol=1e-5)


def test_the_tokens_of_torchvisions_vit_lie_like_the_patches() -> None:
    """Attention aside: each patch is then encoded by itself."""
    encoder: Any = build_encoder("vit_b_32", image_size=SIDE).eval()
    for layer in encoder.encoder.layers:
        layer.self_attention = NoAttention()
    encoder.encoder.pos_embedding.data.zero_()
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[:, :, 32:, :32] = 1
    with torch.no_grad():
        last = feature_map(encoder, images)
        inner = feature_map(encoder, images, "encoder.layers.encoder_layer_3")
    for found in (last, inner):
        assert found.shape == (1, 768, 2, 2)
        others = found[0, :, [0, 0, 1], [0, 1, 1]]
        torch.testing.assert_close(others[:, :1].expand(-1, 3), others)
        assert not torch.allclose(found[0, :, 1, 0], others[:, 0])


class NoAttention(nn.Module):
    def forward(self, query: Tensor, *_: Tensor, **options: Any) -> tuple[Tensor, None]:
        return torch.zeros_like(query), None


def test_maps_of_other_shapes_and_stages_in_one_pass_with_their_gradient() -> None:
    encoder = build_encoder("resnet18", width=0.25)
    images = torch.rand(2, 3, 64, 160)
    maps = feature_maps(encoder, images, ["layer2", "layer4"])
    assert [tuple(own.shape) for own in maps.values()] == [(2, 32, 8, 20), (2, 128, 2, 5)]
    maps["layer2"].square().sum().backward()  # type: ignore[no-untyped-call]
    assert encoder.get_parameter("conv1.weight").grad is not None
    assert encoder.get_parameter("layer4.0.conv1.weight").grad is None


def test_a_map_stays_as_the_stage_gave_it() -> None:
    """DenseNet goes on in place."""
    encoder: Any = build_encoder("densenet121", image_size=32).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(feature_map(encoder, images), encoder.features(images))


def test_channels_behind_the_pixels_are_brought_in_front() -> None:
    class Behind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.permute(0, 2, 3, 1)

    images = torch.rand(2, 3, 8, 12)
    assert torch.equal(feature_map(nn.Sequential(Behind(), nn.Flatten()), images, "0"), images)


def test_a_receptive_field_is_centred_where_the_docstring_says() -> None:
    encoder = build_encoder("resnet10", width=0.125, zero_init_residual=False).eval()
    for name, parameter in encoder.named_parameters():
        if name.endswith("weight"):
            parameter.data.abs_()  # so that no gradient is lost
    images = torch.rand(1, 3, 512, 512, requires_grad=True)
    feature_map(encoder, images)[0, :, 8, 7].sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    weight = images.grad[0].sum(0)
    for axis, cell in ((0, 8), (1, 7)):
        centre = (weight.sum(1 - axis) * torch.arange(512)).sum() / weight.sum()
        assert abs(centre - 32 * cell) < 1


def test_no_map_is_refused() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (7, 1)))
    images = torch.rand(2, 3, 16, 16)
    for stage, message in (
        (None, r"Sequential gives its last map is not known: name one \(stage, --stage\)\. It has 0, 1, 2, 3\."),
        ("9", r"has no stage '9': choose one of 0, 1, 2, 3"),
        ("", r"has no stage ''"),
        ("2", r"The stage 2 of the encoder Sequential gives no map .* but \(2, 7\): name another one"),
        ("3", r"no tokens that lie like the pixels of 16 x 16, but \(2, 7, 1\)"),
    ):
        with pytest.raises(InputError, match=message):
            feature_map(encoder, images, stage)
    assert feature_map(encoder, images, "0").shape == (2, 7, 14, 14)
