from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from simclr_lightning.models import RESNETS, ResNet, resolve_stem
from simclr_lightning.models.resnet import FieldPool

IN_TORCHVISION = [name for name in RESNETS if name not in ("resnet8", "resnet10")]


def tiny(**options: object) -> ResNet:
    return ResNet(BasicBlock, (2, 1, 1, 1), **{"width": 0.125, "stem": "cifar", **options})  # type: ignore[arg-type]


def last_norms(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    blocks = [block for block in encoder.modules() if isinstance(block, BasicBlock | Bottleneck)]
    return [block.bn2 if isinstance(block, BasicBlock) else block.bn3 for block in blocks]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_state_dict_is_torchvisions_without_fc(name: str) -> None:
    with torch.device("meta"):
        encoder = ResNet(*RESNETS[name])
        theirs = shapes(torchvision.models.get_model(name, weights=None))
    assert theirs.pop("fc.weight")[1] == encoder.feature_dim
    del theirs["fc.bias"]
    assert shapes(encoder) == theirs


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_are_torchvisions_with_the_same_weights(name: str) -> None:
    theirs = torchvision.models.get_model(name, weights=None)
    theirs.fc = nn.Identity()
    encoder = ResNet(*RESNETS[name])
    encoder.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder(images), theirs(images))
        assert torch.equal(encoder.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize(("width", "millions"), [(1, 24), (2, 94), (4, 375)])
def test_resnet50_has_the_parameters_of_the_papers_table_6(width: int, millions: int) -> None:
    with torch.device("meta"):
        encoder = ResNet(*RESNETS["resnet50"], width=width)
    assert round(sum(parameter.numel() for parameter in encoder.parameters()) / 1e6) == millions
    assert encoder.feature_dim == 2048 * width


def test_resnet10_has_one_basic_block_a_stage() -> None:
    with torch.device("meta"):
        encoder = ResNet(*RESNETS["resnet10"])
    stem = 3 * 64 * 49 + 2 * 64
    first = 2 * (64 * 64 * 9 + 2 * 64)
    others = sum(c * 2 * c * 9 + 2 * c * 2 * c * 9 + c * 2 * c + 3 * 2 * 2 * c for c in (64, 128, 256))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == stem + first + others
    assert encoder.feature_dim == 512


def test_resnet8_is_resnet10_without_its_last_stage() -> None:
    with torch.device("meta"):
        shorter, longer = ResNet(*RESNETS["resnet8"]), ResNet(*RESNETS["resnet10"])
    shared = {key: value.shape for key, value in longer.state_dict().items() if not key.startswith("layer4")}
    assert {key: value.shape for key, value in shorter.state_dict().items()} == shared
    assert shorter.feature_dim == 256


@pytest.mark.parametrize(
    ("name", "width", "channels"),
    [
        ("resnet18", 0.5, [32, 64, 128, 256]),
        ("resnet18", 0.02, [1, 3, 5, 10]),
        ("resnet18", 3, [192, 384, 768, 1536]),
        ("resnet50", 0.5, [32, 64, 128, 256]),
    ],
)
def test_width_multiplies_stem_and_every_stage(name: str, width: float, channels: list[int]) -> None:
    block, layers = RESNETS[name]
    with torch.device("meta"):
        encoder = ResNet(block, layers, width=width)
        stages = [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
        assert encoder.conv1.out_channels == channels[0]
        assert [stage[0].conv1.out_channels for stage in stages] == channels
        assert encoder.feature_dim == channels[-1] * block.expansion
        assert encoder(torch.empty(2, 3, 64, 64)).shape == (2, encoder.feature_dim)


@pytest.mark.parametrize("width", [0.0, -1.0, 0.007, float("nan"), float("inf")])
def test_width_without_channels_is_an_error(width: float) -> None:
    with pytest.raises(ValueError, match=f"width is {width}.*0.5, 1, 2 or 4"):
        tiny(width=width)


@pytest.mark.parametrize(
    ("stem", "size", "first_side", "last_side"),
    [
        ("imagenet", 224, 56, 7),
        ("imagenet", 32, 8, 1),
        ("cifar", 32, 32, 4),
        ("cifar", 224, 224, 28),
        ("pooled", 32, 16, 2),
    ],
)
def test_stem_decides_the_side_of_the_feature_maps(stem: str, size: int, first_side: int, last_side: int) -> None:
    sides: list[int] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert output.shape[2] == output.shape[3]
        sides.append(output.shape[2])

    with torch.device("meta"):
        encoder = tiny(stem=stem)
        encoder.layer1.register_forward_hook(record)
        encoder.layer4.register_forward_hook(record)
        assert encoder(torch.empty(2, 3, size, size)).shape == (2, 64)
    assert sides == [first_side, last_side]


def test_cifar_stem_is_3x3_of_stride_1_without_pooling_or_bias() -> None:
    encoder = tiny(stem="cifar")
    conv = encoder.conv1
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert isinstance(encoder.maxpool, nn.Identity)
    images = torch.rand(2, 3, 16, 16)
    features = encoder.relu(encoder.bn1(conv(images)))
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        features = stage(features)
    torch.testing.assert_close(encoder(images), features.mean((2, 3)))


@pytest.mark.parametrize(
    ("stem", "image_size", "expected"),
    [
        ("auto", 8, "cifar"),
        ("auto", 32, "cifar"),
        ("auto", 33, "imagenet"),
        ("auto", None, "imagenet"),
        ("imagenet", 32, "imagenet"),
        ("cifar", 224, "cifar"),
        ("pooled", 32, "pooled"),
    ],
)
def test_auto_stem_follows_the_official_rule(stem: str, image_size: int | None, expected: str) -> None:
    assert resolve_stem(stem, image_size) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_init_touches_the_last_norm_of_each_block_alone(name: str) -> None:
    encoder = ResNet(*RESNETS[name], width=0.125)
    last = last_norms(encoder)
    assert len(last) == sum(RESNETS[name][1])
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            gain = 0.0 if any(norm is other for other in last) else 1.0
            assert torch.equal(norm.weight, torch.full_like(norm.weight, gain))
            assert torch.equal(norm.bias, torch.zeros_like(norm.bias))


def test_zero_init_makes_blocks_begin_as_their_shortcut() -> None:
    maps = torch.rand(2, 8, 6, 6)
    assert torch.equal(tiny().layer1(maps), maps)
    assert not torch.equal(tiny(zero_init_residual=False).layer1(maps), maps)


def test_convolutions_start_kaiming_normal_over_fan_out() -> None:
    torch.manual_seed(0)
    encoder = tiny(width=1)
    for conv in (encoder.conv1, encoder.layer2[0].conv1):
        expected = (2 / (conv.out_channels * 9)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert conv.weight.mean().item() == pytest.approx(0, abs=expected / 20)


@pytest.mark.parametrize("stem", ["imagenet", "cifar", "pooled"])
def test_gradient_reaches_every_parameter(stem: str) -> None:
    torch.manual_seed(0)
    encoder = tiny(stem=stem, zero_init_residual=False, in_channels=2)
    features = encoder(torch.rand(4, 2, 32, 32))
    (features * torch.randn_like(features)).sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_no_parameter_is_left_without_gradient_at_the_default_start() -> None:
    encoder = tiny()
    encoder(torch.rand(2, 3, 16, 16)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_channels_last_gives_the_same_features() -> None:
    encoder = tiny(zero_init_residual=False).double().eval()
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64)
    expected = encoder(images)
    encoder.to(memory_format=torch.channels_last)
    assert encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(images.contiguous(memory_format=torch.channels_last)), expected)


def test_unknown_stem_of_the_class_is_an_error() -> None:
    with pytest.raises(KeyError, match="auto"):
        tiny(stem="auto")


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 3), (4, 7), (5, 4), (9, 8)])
def test_four_fields_are_torchs(height: int, width: int) -> None:
    maps = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    found, expected = FieldPool(2)(maps), F.adaptive_avg_pool2d(maps, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(found)
    (own,), (theirs,) = (torch.autograd.grad(pooled, maps, weights) for pooled in (found, expected))
    torch.testing.assert_close(own, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_fields_are_of_one_size_and_leave_no_pixel_out(grid: int) -> None:
    for side in range(grid, 3 * grid + 1):
        maps = torch.ones(1, 1, side, side + 1, requires_grad=True)
        fields = FieldPool(grid)(maps)
        assert fields.shape == (1, 1, grid, grid)
        torch.testing.assert_close(fields, torch.ones_like(fields))
        (gradient,) = torch.autograd.grad(fields.sum(), maps)
        assert (gradient > 0).all()
        torch.testing.assert_close(gradient.sum(), torch.tensor(float(grid**2)))


@pytest.mark.parametrize("name", ["resnet8", "resnet50"])
def test_the_mean_of_the_fields_is_the_feature_of_the_picture(name: str) -> None:
    whole, fields = (ResNet(*RESNETS[name], width=0.125, stem="cifar", pool_grid=grid).eval() for grid in (1, 2))
    assert fields.feature_dim == 4 * whole.feature_dim
    fields.load_state_dict(whole.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = fields(images)
        assert features.shape == (2, fields.feature_dim)
        # torch's order: the fields of a channel lie beside each other
        torch.testing.assert_close(features.unflatten(1, (whole.feature_dim, 4)).mean(-1), whole(images))


def test_pictures_of_too_few_pixels_for_the_fields_are_an_error() -> None:
    encoder = ResNet(*RESNETS["resnet18"], width=0.125, pool_grid=2)
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 256)
    with pytest.raises(ValueError, match=r"pool_grid is 2, .* 1 x 1 pixels: take larger views, a stem .* pool_grid 1"):
        encoder(torch.rand(2, 3, 32, 32))
