"""Other packages' checkpoints become encoders that give the same features, completely or not at all.

What the packages' own classes write is in test_peers.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from tests.models.trained import trained
from torch import Tensor, nn

from simclr_lightning import SimCLR
from simclr_lightning.checkpoints import read_checkpoint
from simclr_lightning.errors import InputError
from simclr_lightning.models import ResNet, build_encoder
from simclr_lightning.models.foreign import load_foreign_weights

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def resnet18(*, cifar_padding: int | None = None) -> Any:
    network = torchvision.models.resnet18(weights=None)
    if cifar_padding is not None:
        network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=cifar_padding, bias=False)
        network.maxpool = nn.Identity()
    return trained(network)


class Peer(nn.Module):
    """Whatever another package trains: parts by name."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def load(encoder: nn.Module, path: Path) -> None:
    load_foreign_weights(encoder, read_checkpoint(path).state_dict, path)


def without_classifier(network: Any) -> Any:
    network.fc = nn.Identity()
    return network


def sequential(network: Any) -> nn.Module:
    return nn.Sequential(*list(network.children())[:-1])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(512, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def save(content: nn.Module | dict[str, Any], path: Path) -> Path:
    """A Lightning checkpoint of a module, or a dictionary as it is."""
    if isinstance(content, nn.Module):
        content = {"epoch": 3, "state_dict": content.state_dict(), "hyper_parameters": {"arch": "resnet18"}}
    torch.save(content, path)
    return path


def features(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES).flatten(1)  # type: ignore[no-any-return]


PEERS: dict[str, tuple[Callable[[Any], nn.Module], int | None]] = {
    "lightly, Sequential": (lambda n: Peer(backbone=sequential(n), projection_head=mlp()), None),
    "lightly, Sequential, CIFAR": (lambda n: Peer(backbone=sequential(n), projection_head=mlp()), 1),
    "lightly, names": (
        lambda n: Peer(backbone=without_classifier(n), projection_head=mlp(), online_classifier=nn.Linear(512, 5)),
        None,
    ),
    "bolts": (lambda n: Peer(encoder=n, projection=mlp()), None),  # its fc stays and is not used
    "bolts, CIFAR": (lambda n: Peer(encoder=n, projection=mlp()), 1),
    "solo-learn": (
        lambda n: Peer(backbone=without_classifier(n), projector=mlp(), classifier=nn.Linear(512, 10)),
        None,
    ),
    "solo-learn, CIFAR": (
        lambda n: Peer(backbone=without_classifier(n), projector=mlp(), classifier=nn.Linear(512, 10)),
        2,
    ),
    "solo-learn 1.0, CIFAR": (
        lambda n: Peer(encoder=without_classifier(n), projector=mlp(), classifier=nn.Linear(512, 10)),
        2,
    ),
}


@pytest.mark.parametrize("peer", PEERS)
def test_peers_checkpoint_gives_the_peers_features(peer: str, tmp_path: Path) -> None:
    module, padding = PEERS[peer]
    network = resnet18(cifar_padding=padding)
    path = save(module(network), tmp_path / "peer.ckpt")
    encoder: Any = SimCLR.load_encoder(path, "resnet18", stem="imagenet" if padding is None else "cifar")
    assert not encoder.training
    assert (encoder.feature_dim, encoder.in_channels) == (512, 3)
    torch.testing.assert_close(features(encoder), features(without_classifier(network)), rtol=1e-6, atol=1e-6)


def test_state_dict_of_torchvision_is_loaded_and_its_classifier_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = resnet18()
    path = save(network.state_dict(), tmp_path / "resnet18.pth")
    with caplog.at_level(logging.INFO):
        encoder = SimCLR.load_encoder(path, "resnet18")
    assert "dropped: fc." in caplog.text
    assert torch.equal(features(encoder), features(without_classifier(network)))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_classifiers_of_other_networks_are_dropped(name: str, tmp_path: Path) -> None:
    whole = torchvision.models.get_model(name, weights=None)
    encoder = build_encoder(name)
    load(encoder, save(whole.state_dict(), tmp_path / "weights.pth"))
    state = whole.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.state_dict().items())


def test_prefix_is_not_taken_for_a_part_of_the_network(tmp_path: Path) -> None:
    def transformer() -> nn.Module:  # torchvision's have a part named encoder of their own
        return Peer(conv_proj=nn.Conv2d(3, 4, 2), encoder=nn.Linear(4, 4))

    network, encoder = transformer(), transformer()
    load(encoder, save(network.state_dict(), tmp_path / "vit.pth"))
    state = network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_timm_safetensors_give_timms_features(name: str, tmp_path: Path) -> None:
    network: Any = trained(timm.create_model(name, num_classes=7))
    safetensors.torch.save_file(network.state_dict(), tmp_path / "model.safetensors")
    encoder = SimCLR.load_encoder(tmp_path / "model.safetensors", f"timm/{name}")
    network.reset_classifier(0)
    images = torch.rand(2, *network.pretrained_cfg["input_size"])
    with torch.no_grad():
        assert torch.equal(encoder(images), network(images))


# ---- small networks for what does not work


def small(**options: Any) -> Any:
    return build_encoder("resnet10", **{"width": 0.125, "stem": "cifar", **options})


def peer_state() -> dict[str, Tensor]:
    return Peer(backbone=sequential(small()), projection_head=nn.Linear(64, 4)).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("backbone.1.running_var"), "missing from the checkpoint: backbone.1.running_var[.]"),
        (lambda state: state.pop("backbone.4.0.conv1.weight"), "missing from the checkpoint: backbone.4.0.conv1.weigh"),
        (lambda state: state.update({"backbone.4.7.weight": torch.ones(1)}), "unknown to the model: backbone.4.7.weig"),
        (lambda state: state.update({"predictor.weight": torch.ones(1)}), "unknown to the model: predictor.weight[.]"),
        (lambda state: state.update({"conv1.weight": torch.ones(1)}), "unknown to the model: conv1.weight[.]"),
        (
            lambda state: state.update({"backbone.0.weight": torch.ones(8, 3, 7, 7)}),
            r"of another shape: backbone.0.weight \(\(8, 3, 7, 7\) instead of \(8, 3, 3, 3\)\)",
        ),
    ],
)
def test_one_wrong_tensor_is_named_and_nothing_loaded(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    encoder = small()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = peer_state()
    change(state)
    with pytest.raises(ValueError, match=message):
        load(encoder, save({"state_dict": state}, tmp_path / "peer.ckpt"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_a_layer_that_another_encoder_lacks_is_not_taken_for_a_classifier(tmp_path: Path) -> None:
    network = timm.create_model("test_convnext", num_classes=0)
    state = {**network.state_dict(), "head.norm.scale": torch.ones(1), "stages.0.extra.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"unknown to the model: head\.norm\.scale, stages\.0\.extra\.weight"):
        load(build_encoder("timm/test_convnext"), save(state, tmp_path / "weights.pth"))


def test_no_match_tells_what_was_tried(tmp_path: Path) -> None:
    path = save({f"trunk.{name}": tensor for name, tensor in small().state_dict().items()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"tried as encoder\.\*, backbone\.\*, and without a prefix, .* trunk\.bn1"):
        SimCLR.load_encoder(path, "resnet10", width=0.125)


def test_the_stem_must_be_named(tmp_path: Path) -> None:
    path = save({"state_dict": peer_state()}, tmp_path / "peer.ckpt")
    with pytest.raises(ValueError, match=r"another shape: backbone\.0\.weight .* Name encoder, stem"):
        SimCLR.load_encoder(path, "resnet10", width=0.125)


def test_a_file_of_other_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a state dict"):
        load(small(), save({"state_dict": {"names": ["a"]}}, tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="neither a state dict"):
        load(small(), save({"epoch": 1}, tmp_path / "other.pt"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ckpt"):
        load(small(), tmp_path / "nowhere.ckpt")


def test_code_in_a_file_is_named_and_not_run(tmp_path: Path) -> None:
    path = save({"state_dict": peer_state(), "config": Path("code")}, tmp_path / "peer.ckpt")
    with pytest.raises(InputError, match=r"(?s)objects of pathlib\.\w+.* weights_only=False.*'weights\.ckpt'"):
        SimCLR.load_encoder(path, "resnet10", width=0.125, stem="cifar")


def test_our_padding_stays_where_no_solo_learn_wrote(tmp_path: Path) -> None:
    encoder = small()
    load(encoder, save({"state_dict": peer_state()}, tmp_path / "peer.ckpt"))
    assert isinstance(encoder, ResNet)
    assert encoder.conv1.padding == (1, 1)
