"""The memory format of encoders, and the convolutions that oneDNN computes wrongly (docs/onednn.md)."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from simclr_lightning import SimCLR, Supervised
from simclr_lightning.models import SubsampledConv2d, TrimmedConv2d, build_encoder, to_memory_format

SCRIPT = """
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader
from simclr_lightning import SimCLR, ViewBatch
from simclr_lightning.models import to_memory_format

for channels in (2, 3, 4, 5, 6, 7, 12, 15):  # the layer alone
    layer = to_memory_format(nn.Sequential(nn.Conv2d(channels, 16, 1, stride=2)), channels_last=True)
    for size in (16, 64):
        for _ in range(5):
            images = torch.randn(3, channels, size, size).contiguous(memory_format=torch.channels_last)
            layer(images).square().sum().backward()

model = SimCLR(encoder="resnet18", width=1 / 16, image_size=32)
batches = [ViewBatch.of(*torch.rand(2, 16, 3, 32, 32)) for _ in range(4)]
trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
trainer.fit(model, DataLoader(batches, batch_size=None))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "DEFAULT"])
def test_narrow_encoders_train_with_all_instructions(instructions: str) -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("stride", [2, 3, (1, 2), (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_subsampled_convolution_is_the_strided_one(stride: Any, bias: bool) -> None:
    layer = nn.Conv2d(5, 7, 1, stride=stride, bias=bias, dtype=torch.float64)
    images = torch.randn(3, 5, 9, 12, dtype=torch.float64)
    results = []
    for convolution in (layer, SubsampledConv2d.of(layer)):
        inputs = images.clone().requires_grad_()
        output = convolution(inputs)
        results.append([output, *torch.autograd.grad(output.square().sum(), [inputs, *layer.parameters()])])
    assert len(results[0]) == 3 + bias
    for value, truth in zip(*results, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)


def test_parameters_stay_the_same_ones_and_no_random_numbers_are_drawn() -> None:
    encoder = build_encoder("resnet18", width=1 / 16)
    stem = encoder.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)
    expected = dict(encoder.named_parameters())
    state = torch.random.get_rng_state()
    assert to_memory_format(encoder, channels_last=True) is encoder
    found = dict(encoder.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(found) == list(expected)
    assert all(found[name] is expected[name] for name in expected)
    assert [name for name, layer in encoder.named_modules() if isinstance(layer, SubsampledConv2d)] == [
        "layer2.0.downsample.0",
        "layer3.0.downsample.0",
    ]  # 4 and 8 channels; those of layer4 have 16
    assert stem.weight.is_contiguous(memory_format=torch.channels_last)
    to_memory_format(encoder, channels_last=False)
    assert stem.weight.is_contiguous()


class Other(nn.Conv2d):
    """May compute something else."""


@pytest.mark.parametrize(
    ("layer", "replaced"),
    [
        (nn.Conv2d(2, 8, 1, stride=2), True),
        (nn.Conv2d(15, 8, 1, stride=(1, 2)), True),
        (nn.Conv2d(15, 8, 1, stride=3, padding="valid"), True),
        (nn.Conv2d(16, 8, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, stride=2), False),
        (nn.Conv2d(4, 8, 1, stride=2, padding=1), False),
        (nn.Conv2d(4, 8, 1, stride=2, groups=2), False),
        (Other(4, 8, 1, stride=2), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_only_dangerous_layers_are_replaced(layer: nn.Conv2d, replaced: bool, channels_last: bool) -> None:
    encoder = to_memory_format(nn.Sequential(nn.Sequential(layer)), channels_last=channels_last)
    (found,) = encoder.get_submodule("0").children()
    assert isinstance(found, SubsampledConv2d) == replaced
    assert (found is layer) != replaced


def test_a_layer_in_two_places_stays_one() -> None:
    layer = nn.Conv2d(4, 4, 1, stride=2)
    encoder = to_memory_format(nn.Sequential(layer, nn.ReLU(), layer), channels_last=True)
    assert len(list(encoder.parameters())) == 2
    assert all(isinstance(encoder.get_submodule(place), SubsampledConv2d) for place in "02")


@pytest.mark.parametrize("kind", [SimCLR, Supervised])
def test_models_replace_them_in_every_encoder(kind: type[SimCLR | Supervised]) -> None:
    model = kind(encoder="resnet10", width=1 / 16, image_size=32)
    assert any(isinstance(layer, SubsampledConv2d) for layer in copy.deepcopy(model).encoder.modules())
    wide = kind(encoder="resnet10", width=1 / 4, image_size=32)
    assert not any(isinstance(layer, SubsampledConv2d) for layer in wide.encoder.modules())


def leave_nan_in_memory() -> None:
    """What is allocated next, and not written, is NaN."""
    for numbers in (2**exponent for exponent in range(8, 21, 2)):
        blocks = [torch.full((numbers,), float("nan")) for _ in range(8)]
        del blocks


@pytest.mark.parametrize("width", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(32, 16, 3, stride=2, padding=1),
        nn.Conv2d(32, 16, 7, stride=2, padding=3, bias=False),
        nn.Conv2d(32, 16, 7, stride=4, padding=3),
        nn.Conv2d(32, 16, 5, stride=(1, 4), padding=2, groups=2),
        nn.Conv2d(32, 16, 2, stride=2, padding=1),
        nn.Conv2d(32, 16, (1, 4), stride=3, padding=(0, 2)),
    ],
    ids=str,
)
def test_trimmed_convolution_has_the_gradient_of_a_slow_one(layer: nn.Conv2d, width: int) -> None:
    trimmed = TrimmedConv2d.of(layer)
    generator = torch.Generator().manual_seed(width)
    images = torch.randn(8, 32, 4, width, generator=generator).bfloat16().float()
    layer.weight.data = layer.weight.data.bfloat16().float()
    slow = copy.deepcopy(layer).double()
    expected = slow(images.double())
    weights = torch.randn(expected.shape, generator=generator).bfloat16()
    truth = torch.autograd.grad(expected, list(slow.parameters()), weights.double())
    for _ in range(5):
        inputs = images.clone().requires_grad_()
        leave_nan_in_memory()
        with torch.autocast("cpu", torch.bfloat16):
            output = trimmed(inputs)
        found = torch.autograd.grad(output, list(trimmed.parameters()), weights)
        torch.testing.assert_close(output.double(), expected, rtol=0.02, atol=0.02)
        for value, exact in zip(found, truth, strict=True):
            torch.testing.assert_close(value.double(), exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))
    with torch.no_grad():
        assert torch.equal(trimmed(images), layer(images))  # without bfloat16 it is the layer itself
    assert torch.equal(trimmed(images), layer(images))


def test_too_small_a_map_is_told_by_torch() -> None:
    layer = TrimmedConv2d.of(nn.Conv2d(4, 8, 7, stride=2, padding=2).bfloat16())
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        layer(torch.rand(1, 4, 9, 2).bfloat16())


def test_small_views_have_gradients_in_bfloat16() -> None:
    """Of 8 pixels the last stage has maps of one; in 37 of 400 first steps a gradient was NaN."""
    model = SimCLR("resnet10", width=1 / 8, stem="pooled", image_size=8, in_channels=1)
    for seed in range(20):
        model.zero_grad()
        leave_nan_in_memory()
        with torch.autocast("cpu", torch.bfloat16):
            features = model.encoder(torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))
            features.square().sum().backward()
        assert all(
            bool(weight.grad.isfinite().all()) for weight in model.encoder.parameters() if weight.grad is not None
        )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(4, 8, 3, stride=2, padding="valid"),
        nn.Conv2d(4, 8, 3, stride=2, padding=2),
        nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, stride=2, padding=1, padding_mode="reflect"),
        Other(4, 8, 3, stride=2, padding=1),
    ],
    ids=str,
)
def test_other_layers_stay(layer: nn.Conv2d) -> None:
    assert to_memory_format(nn.Sequential(layer), channels_last=True)[0] is layer  # type: ignore[index]
