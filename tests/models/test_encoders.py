from __future__ import annotations

import sys
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from simclr_lightning.models import RESNETS, ResNet, build_encoder


class DictModel(nn.Module):
    """Stands for a network that does not end in one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": self.conv(images)}


def build(name: str, **options: Any) -> Any:
    return build_encoder(name, **options)


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_are_ours_with_or_without_prefix(name: str) -> None:
    with torch.device("meta"):
        encoder, prefixed = build(name, width=0.125), build(f"torchvision/{name}", width=0.125)
    assert isinstance(encoder, ResNet)
    assert isinstance(prefixed, ResNet)
    assert [len(stage) for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)] == [
        *RESNETS[name][1]
    ]
    small = {"resnet8": 32, "resnet10": 64, "resnet18": 64, "resnet34": 64}
    assert encoder.feature_dim == prefixed.feature_dim == small.get(name, 256)


def test_every_option_reaches_the_resnet() -> None:
    encoder = build("resnet10", width=0.25, stem="pooled", in_channels=5, zero_init_residual=False, pool_grid=2)
    assert (encoder.feature_dim, encoder.in_channels, encoder.conv1.in_channels) == (512, 5, 5)
    assert encoder.conv1.kernel_size == (3, 3)
    assert isinstance(encoder.maxpool, nn.MaxPool2d)
    assert encoder.layer1[0].bn2.weight.all()
    assert encoder(torch.rand(2, 5, 32, 32)).shape == (2, 512)


@pytest.mark.parametrize(("image_size", "kernel"), [(32, 3), (33, 7), (None, 7)])
def test_auto_stem_follows_the_image_size(image_size: int | None, kernel: int) -> None:
    encoder = build("resnet10", width=0.125, image_size=image_size)
    assert encoder.conv1.kernel_size == (kernel, kernel)
    assert isinstance(encoder.maxpool, nn.Identity if kernel == 3 else nn.MaxPool2d)


# One of each family; the number is the in_features of torchvision's classifier.
FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "mnasnet0_5": 1280,
    "mobilenet_v3_small": 1024,
    "resnext50_32x4d": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_32": 768,
}


@pytest.mark.parametrize(("name", "feature_dim"), FAMILIES.items())
def test_torchvision_families_give_vectors_in_train_mode(name: str, feature_dim: int) -> None:
    with torch.device("meta"):
        encoder = build(f"torchvision/{name}", in_channels=2)
        assert encoder.training  # where an auxiliary classifier would give a second output
        assert encoder(torch.empty(2, 2, 224, 224)).shape == (2, feature_dim)
    assert (encoder.feature_dim, encoder.in_channels) == (feature_dim, 2)
    assert [key for key, parameter in encoder.named_parameters() if 1000 in parameter.shape] == []


def test_regnet_gives_vectors() -> None:
    # Not among the families above: torchvision computes its widths with tensors, which the meta device cannot.
    encoder = build("regnet_x_400mf", image_size=32)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.feature_dim) == (2, 400)


@pytest.mark.parametrize(("name", "classifier"), [("mobilenet_v3_small", "classifier.3"), ("shufflenet_v2_x0_5", "fc")])
def test_torchvisions_classifier_on_the_features_gives_its_logits(name: str, classifier: str) -> None:
    whole = torchvision.models.get_model(name, weights=None).eval()
    encoder = build(name).eval()
    state = whole.state_dict()
    encoder.load_state_dict({key: state[key] for key in state if not key.startswith(f"{classifier}.")})
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(whole.get_submodule(classifier)(encoder(images)), whole(images))


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "mobilenet_v3_small"])
def test_dropout_of_the_classifier_is_gone(name: str) -> None:
    with torch.device("meta"):
        encoder = build(name)
    assert not any(isinstance(module, nn.Dropout) for module in encoder.modules())


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v3_small", "squeezenet1_1"])
def test_gradient_reaches_every_parameter(name: str) -> None:
    encoder = build(name, image_size=64)
    encoder(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_other_channels_replace_the_first_convolution_alone() -> None:
    with torch.device("meta"):
        colour = build("mobilenet_v3_small").state_dict()
    grey = build("mobilenet_v3_small", in_channels=1)
    different = [key for key, tensor in grey.state_dict().items() if tensor.shape != colour[key].shape]
    assert different == ["features.0.0.weight"]
    weight = grey.features[0][0].weight
    assert weight.shape == (16, 1, 3, 3)
    assert weight.isfinite().all()
    assert weight.std() > 0.1  # torch's default: uniform within 1/3, so 0.19
    assert grey(torch.rand(2, 1, 32, 32)).shape == (2, 1024)


def test_transformer_is_built_for_the_image_size() -> None:
    with torch.device("meta"):
        encoder = build("vit_b_32", image_size=64)
        assert encoder.encoder.pos_embedding.shape == (1, 1 + 4, 768)
        assert encoder(torch.empty(2, 3, 64, 64)).shape == (2, 768)


def test_meta_forward_leaves_the_encoder_untouched() -> None:
    encoder = build("shufflenet_v2_x0_5")
    assert {tensor.device.type for tensor in encoder.state_dict().values()} == {"cpu"}
    batches = [tensor for key, tensor in encoder.state_dict().items() if key.endswith("num_batches_tracked")]
    assert batches
    assert not any(batches)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_timm_models_give_vectors(name: str) -> None:
    encoder = build(f"timm/{name}", in_channels=1, image_size=64)
    assert encoder.training
    assert (encoder.feature_dim, encoder.in_channels) == (encoder.num_features, 1)
    features = encoder(torch.rand(2, 1, 64, 64))
    assert features.shape == (2, encoder.feature_dim)
    features.square().sum().backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_timm_model_without_image_size_takes_its_own() -> None:
    encoder = build("timm/test_vit")
    side = encoder.pretrained_cfg["input_size"][-1]
    assert encoder(torch.rand(1, 3, side, side)).shape == (1, encoder.feature_dim)


def test_feature_dim_is_that_of_the_output_not_of_timms_last_map() -> None:
    encoder = build("timm/mobilenetv3_small_050")
    assert encoder.num_features == 288
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.feature_dim) == (2, 1024)


def test_timm_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r'pip install "simclr-lightning\[timm\]"'):
        build("timm/test_vit")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnt50", "resnet50"),
        ("ResNet18", "resnet18"),
        ("torchvision/convnext_tini", "convnext_tiny"),
        ("timm/vit_tiny_patch16_225", "timm/vit_tiny_patch16_224"),
    ],
)
def test_unknown_name_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(
        ValueError, match=rf"unknown encoder '{name}', the nearest names are .*\b{nearest}\b.*list_models"
    ):
        build(name, width=2.0)


def test_nearest_names_are_named_once() -> None:
    with pytest.raises(ValueError, match="unknown encoder") as caught:
        build("resnt50")
    nearest = str(caught.value).split("nearest names are ")[1].split(". All names")[0].split(", ")
    assert len(set(nearest)) == len(nearest) == 5


@pytest.mark.parametrize("name", ["", "zzzzzzzz", "fasterrcnn_resnet50_fpn_v2", "quantized_resnet50"])
def test_names_that_are_no_classifiers_are_unknown(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown encoder '{name}'.*resnet10, .*list_models.*timm/<name>"):
        build(name)


@pytest.mark.parametrize(
    "options", [{"width": 2.0}, {"stem": "cifar"}, {"zero_init_residual": False}, {"pool_grid": 2}]
)
@pytest.mark.parametrize("name", ["convnext_tiny", "timm/resnet18"])
def test_options_of_resnets_are_refused_for_others(name: str, options: dict[str, Any]) -> None:
    option = next(iter(options))
    with pytest.raises(ValueError, match=f"'{name}' has none of these options.*{option}={options[option]!r}.*resnet10"):
        build(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "tiny"}, "stem is 'tiny', expected one of auto, imagenet, cifar, pooled"),
        ({"in_channels": 0}, "in_channels is 0: choose a number of at least 1"),
        ({"image_size": 0}, "image_size is 0: choose a number of at least 1"),
        ({"width": 0.0}, "width is 0.0"),
        ({"pool_grid": 0}, "pool_grid is 0: choose a number of at least 1 and at most 7"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("resnet10", **options)


@pytest.mark.parametrize(
    ("name", "reason"), [("alexnet", "too small"), ("vit_h_14", "patch size"), ("maxvit_t", "not divisible")]
)
def test_network_that_cannot_take_the_pictures_says_so(name: str, reason: str) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=rf"'{name}' cannot turn .*image_size=32.*{reason}(?s:.*)choose"),
    ):
        build(name, image_size=32)


@pytest.mark.parametrize(("model", "found"), [(nn.Conv2d(3, 4, 3), r"\(1, 4, 62, 62\)"), (DictModel(), "dict")])
def test_network_without_a_pooled_vector_says_so(monkeypatch: pytest.MonkeyPatch, model: nn.Module, found: str) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: model)
    with pytest.raises(ValueError, match=rf"its output is {found} instead of \(N, features\)"):
        build("timm/test_vit", image_size=64)
