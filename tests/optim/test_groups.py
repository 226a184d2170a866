from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.layers.norm import LayerNorm2d, RmsNorm
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from simclr_lightning.optim import LARS, parameter_groups


def names(module: nn.Module, group: dict[str, Any]) -> set[str]:
    chosen = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in module.named_parameters() if id(parameter) in chosen}


def tiny_vit() -> nn.Module:
    vit: nn.Module = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    )
    return vit


def tiny_convnext() -> nn.Module:
    convnext: nn.Module = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=3)
    return convnext


@pytest.mark.parametrize(
    "build", [torchvision.models.resnet50, tiny_vit, tiny_convnext], ids=["resnet50", "vit", "convnext"]
)
def test_every_parameter_appears_once(build: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        module = build()
    groups = parameter_groups(module, weight_decay=1e-6)
    chosen = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(chosen) == len(set(chosen))
    assert set(chosen) == {id(parameter) for parameter in module.parameters()}


def test_resnet_weights_are_its_convolutions_and_linear_layers() -> None:
    with torch.device("meta"):
        module = torchvision.models.resnet50()
    weights, others = parameter_groups(module, weight_decay=1e-6)
    expected = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert names(module, weights) == expected
    assert len(expected) == 54
    assert {"layer1.0.downsample.1.weight", "layer1.0.downsample.1.bias", "fc.bias"} <= names(module, others)
    assert len(others["params"]) == 2 * 53 + 1


def test_transformer_tokens_and_projections_are_weights_and_gains_are_not() -> None:
    module = tiny_vit()
    weights, others = parameter_groups(module, weight_decay=1e-6)
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert {"class_token", "encoder.pos_embedding", f"{attention}.in_proj_weight"} <= names(module, weights)
    assert {f"{attention}.in_proj_bias", "encoder.ln.weight", "encoder.ln.bias"} <= names(module, others)
    module = tiny_convnext()
    weights, others = parameter_groups(module, weight_decay=1e-6)
    assert {"stages.0.blocks.0.gamma", "stem.1.weight", "head.fc.bias"} <= names(module, others)
    assert "stages.0.blocks.0.conv_dw.weight" in names(module, weights)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.LayerNorm((4, 3, 3)),  # its gain has three dimensions
        nn.RMSNorm((4, 3)),
        BatchNormAct2d(4),
        LayerNorm2d(4),
        RmsNorm(4),  # derives from none of torch's
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_normalisation_is_recognised_by_type(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), norm)
    weights, others = parameter_groups(module, weight_decay=0.1)
    assert weights["params"] == [module[0].weight]
    assert len(others["params"]) == len(list(norm.parameters()))


def test_groups_carry_decay_and_adaptation() -> None:
    weights, others = parameter_groups(nn.Linear(3, 1), weight_decay=0.1)
    assert (weights["weight_decay"], weights["adapt"]) == (0.1, True)
    assert (others["weight_decay"], others["adapt"]) == (0.0, False)
    assert weights["params"][0].shape == (1, 3)


def test_bias_of_any_shape_is_no_weight() -> None:
    module = nn.Module()
    module.bias = nn.Parameter(torch.zeros(1, 4, 1, 1))
    module.temperature = nn.Parameter(torch.zeros(()))
    weights, others = parameter_groups(module, weight_decay=0.1)
    assert weights["params"] == []
    assert others["params"] == [module.bias, module.temperature]


def test_shared_parameters_are_taken_once_and_frozen_ones_not_at_all() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    module[2].requires_grad_(False)
    weights, others = parameter_groups(module, weight_decay=0.1)
    assert names(module, weights) == {"0.weight"}
    assert names(module, others) == {"0.bias", "1.bias"}


def test_wholly_frozen_module_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Linear has no trainable parameter. Set requires_grad=True"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), weight_decay=0.1)


@pytest.mark.parametrize("optimizer", [LARS, torch.optim.SGD, torch.optim.AdamW])
def test_any_optimizer_takes_the_groups(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    module = nn.Linear(3, 2)
    groups = optimizer(parameter_groups(module, weight_decay=0.1), lr=0.1).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
