"""What autograd keeps, counted without computing, is what it keeps where it computes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning.models import build_encoder
from simclr_lightning.models.saved_activations import Activations, activations_of


def really_saved(module: nn.Module, images: Tensor) -> int:
    """Of a forward pass that computes."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(images)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("resnet8", 0),
        ("resnet50", 0),
        ("torchvision/mobilenet_v3_small", 0.01),
        ("torchvision/vit_b_16", 0.1),  # copies in the attention differ from device to device
    ],
)
def test_it_is_what_a_forward_pass_keeps(name: str, tolerance: float) -> None:
    side, pictures = (224, 1) if "vit" in name else (32, 3)
    encoder = build_encoder(name, in_channels=3, image_size=side)
    encoder.to(memory_format=torch.channels_last)
    encoder.train()
    images = torch.rand(pictures, 3, side, side).contiguous(memory_format=torch.channels_last)
    expected = really_saved(encoder, images)
    assert kept(encoder, images.shape) == pytest.approx(expected, rel=tolerance)


def kept(module: nn.Module, shape: Sequence[int], dtype: torch.dtype | None = None) -> int:
    found = activations_of(module, shape, dtype)
    assert found is not None
    return found.kept


def test_the_peak_is_where_the_largest_are_left() -> None:
    assert Activations.of([]) == (0, 0)
    assert Activations.of([10, 100]) == (110, 310)
    assert Activations.of([100, *[60] * 9]) == (640, 760)


def test_the_folder_recipe_needs_what_was_measured() -> None:
    """512 views of 224 pixels through ResNet-18: 10.6 GiB."""
    with torch.device("meta"):
        encoder = build_encoder("resnet18", in_channels=3, image_size=224)
    found = kept(encoder, (512, 3, 224, 224))
    assert found / 2**30 == pytest.approx(10.6, abs=0.05)
    assert kept(encoder, (128, 3, 224, 224)) == pytest.approx(found / 4, rel=0.01)
    half = kept(encoder, (512, 3, 224, 224), torch.bfloat16)
    assert half == pytest.approx(found / 2, rel=0.1)  # the places that max-pooling took are int64


def test_nothing_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(2))
    network(torch.rand(2, 3, 8, 8))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    assert kept(network, (5, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(own.grad is None for own in network.parameters())


def test_frozen_layers_keep_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network.requires_grad_(False)
    assert kept(network, (5, 3, 8, 8)) == 0


def test_other_dtypes_and_statistics_of_all_processes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    single = kept(network, (5, 1, 8, 8))
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    assert kept(shared, (5, 1, 8, 8)) == single
    assert not any("forward" in vars(own) for own in shared.modules())
    assert kept(network.double(), (5, 1, 8, 8)) == pytest.approx(2 * single, rel=0.01)


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.layer(rows) if float(rows.sum()) > 0 else rows


def test_a_network_that_looks_at_values_is_not_known() -> None:
    assert activations_of(LooksAtValues(), (4, 3)) is None
