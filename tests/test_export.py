"""Exported files give the encoder's features in the programs that they are for."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from simclr_lightning import SimCLR
from simclr_lightning.export import FORMATS, export_encoder, formats
from simclr_lightning.export.trained import Trained
from simclr_lightning.losses import NTXentLoss

Save = Callable[..., Path]


def trained(**options: Any) -> SimCLR:
    """A model whose statistics and gains are not those of any new one."""
    model = SimCLR(projection_layers=0, **options)
    for name, tensor in model.encoder.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim < 2:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return model.eval()


def small(**options: Any) -> SimCLR:
    return trained(**{"encoder": "resnet10", "width": 0.125, "image_size": 16, "in_channels": 2, **options})


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a checkpoint into the folder of a run."""

    def write(model: SimCLR, **more: Any) -> Path:
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(path)
        torch.save({**torch.load(path, weights_only=True), **more}, path)
        return path

    return write


def assert_same_features(encoder: Callable[[Tensor], Tensor], model: SimCLR, tolerance: float = 1e-6) -> None:
    for pictures in (1, 5):  # any batch size
        images = torch.rand(pictures, model.hparams["in_channels"], *2 * [model.hparams["image_size"]])
        with torch.no_grad():
            expected = model(images)
            torch.testing.assert_close(encoder(images), expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize(("stem", "channels"), [("imagenet", 3), ("pooled", 1)])
def test_torchvision_and_timm_resnets_take_the_weights(stem: Any, channels: int, save: Save) -> None:
    model = trained(encoder="resnet18", stem=stem, image_size=32, in_channels=channels)
    checkpoint = save(model)
    networks: dict[Any, Any] = {
        "torchvision": torchvision.models.resnet18(weights=None),
        "timm": timm.create_model("resnet18", num_classes=0),
    }
    networks["torchvision"].fc = nn.Identity()
    for library, network in networks.items():
        if stem != "imagenet":
            network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        file = export_encoder(checkpoint, library)
        assert file == checkpoint.parents[1] / f"encoder.{library}.safetensors"
        network.load_state_dict(safetensors.torch.load_file(file))
        assert_same_features(network.eval(), model)


@pytest.mark.parametrize(
    ("library", "name", "size"),
    [("timm", "timm/test_vit", 160), ("timm", "timm/test_convnext", 64), ("torchvision", "mobilenet_v3_small", 64)],
)
def test_networks_of_the_libraries_keep_their_names(library: Any, name: str, size: int, save: Save) -> None:
    model = trained(encoder=name, image_size=size)
    file = export_encoder(save(model), library)
    names = safetensors.torch.load_file(file).keys()
    plain = name.removeprefix("timm/")
    network: Any = timm.create_model(plain, num_classes=0) if library == "timm" else torchvision.models.get_model(plain)
    if library == "torchvision":
        network.classifier[3] = nn.Identity()
    assert names == network.state_dict().keys()
    network.load_state_dict(safetensors.torch.load_file(file))
    assert_same_features(network.eval(), model)


def test_transformer_is_exported_for_any_batch(save: Save) -> None:
    model = trained(encoder="timm/test_vit", image_size=32)
    assert_same_features(torch.export.load(export_encoder(save(model), "torch_export")).module(), model)


def test_exported_weights_come_back(save: Save) -> None:
    model = trained(encoder="resnet18", image_size=32)
    file = export_encoder(save(model), "torchvision")
    assert_same_features(SimCLR.load_encoder(file, "resnet18", stem="cifar"), model)


# ---- the model card


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "hub"])  # a folder: test_export_hub.py
def test_code_of_the_model_card_gives_the_features(
    name: Any, grid: int, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"image_size": 16, "pool_grid": grid}
    model = small(**options) if name not in ("torchvision", "timm") else trained(encoder="resnet18", **options)
    file = export_encoder(save(model), name)
    card = file.with_name(f"{file.name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(file.parent)
    assert "simclr" not in code  # others need not install it
    assert ("of 2 x 2 fields" in card) == (grid == 2)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    assert namespace["features"].shape == (1, model.feature_dim)
    assert_same_features(namespace["encoder"], model)


def test_model_card_tells_that_channels_are_normalised_by_themselves(save: Save) -> None:
    views = {"eval_size": 24, "mean": None, "std": None, "normalize": "picture"}
    file = export_encoder(save(small(), datamodule_hyper_parameters={"views": views}), "torchscript")
    card = file.with_name("encoder.torchscript.pt.md").read_text(encoding="utf-8")
    assert "Each channel of each picture less its own mean, divided by its own standard deviation." in card


def test_model_card_tells_what_the_checkpoint_knows(save: Save) -> None:
    views = {"size": 16, "eval_size": 24, "mean": [0.4, 0.5], "std": [0.2, 0.3]}
    data = {"dataset": "folder", "root": "/home/someone", "batch_size": 640, "views": views}
    checkpoint = save(small(loss=NTXentLoss(temperature=0.37)), datamodule_hyper_parameters=data, global_step=4321)
    file = export_encoder(checkpoint, "torchscript")
    card = file.with_name("encoder.torchscript.pt.md").read_text(encoding="utf-8")
    for text in (
        "resnet10 of width 0.125",
        "(N, 2, 24, 24)",  # of the clean pictures
        "less the mean [0.4, 0.5], divided by the standard deviation [0.2, 0.3]",
        "features (N, 64)",
        "4321 optimizer steps",
        "temperature: 0.37",
        "batch_size: 640",
        f"torch {version('torch')}",
        "## Licence\n\nNot stated yet",
    ):
        assert text in card
    assert "someone" not in card


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "does not tell their range"),
        ({"views": {"mean": None, "std": None}}, "in [0, 1], neither"),
        ({"views": None}, "does not tell their range"),
    ],
)
def test_model_card_tells_the_range_of_the_pictures(data: dict[str, Any], text: str, save: Save) -> None:
    file = export_encoder(save(small(), datamodule_hyper_parameters=data), "torchscript")
    assert text in file.with_name("encoder.torchscript.pt.md").read_text(encoding="utf-8")


def test_text_in_a_checkpoint_is_no_markup_of_the_model_card(save: Save) -> None:
    hostile = "\x1b[2J\n```\n````\n<script>"
    data = {"dataset": hostile, "views": {"mean": hostile, "std": hostile}}
    file = export_encoder(save(small(), datamodule_hyper_parameters=data, global_step=hostile), "torchscript")
    card = file.with_name("encoder.torchscript.pt.md").read_text(encoding="utf-8")
    assert "\x1b" not in card
    before, settings, after = re.split(r"^`{5}(?:yaml)?$", card, flags=re.MULTILINE)  # longer than any fence within
    assert "<script>" in settings
    assert "<script>" not in before + after
    assert "````" not in before + after


# ---- what is refused, and leaves nothing behind


@pytest.mark.parametrize(
    ("options", "library", "message"),
    [
        ({}, "torchvision", "torchvision has no resnet10 of width 0.125: take torch_export or onnx"),
        ({"encoder": "resnet18"}, "timm", "timm has no resnet18 of width 0.125"),
        (
            {"encoder": "timm/test_vit", "width": 1.0},
            "torchvision",
            "timm/test_vit is not one of torchvision: take timm",
        ),
        ({"encoder": "mobilenet_v3_small", "width": 1.0}, "timm", "is not one of timm: take torchvision"),
        (
            {"encoder": "mobilenet_v3_small", "width": 1.0, "in_channels": 2},
            "torchvision",
            r"(?s)is not kept: .*size mismatch for features\.0\.0\.weight",
        ),
    ],
)
def test_what_a_library_does_not_have_is_refused(
    options: dict[str, Any], library: Any, message: str, save: Save
) -> None:
    checkpoint = save(small(**options))
    with pytest.raises(ValueError, match=message):
        export_encoder(checkpoint, library)
    assert [path.name for path in checkpoint.parents[1].iterdir()] == ["checkpoints"]


class Named(SimCLR):
    """Builds the same encoder, whatever a checkpoint says of it."""

    def build_encoder(self) -> nn.Module:
        return small().encoder


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize(
    "hostile",
    [
        {"encoder": '{}/resnet18", num_classes=0); open("ran", "w").close() #'},
        {"encoder": "{}/resnet18\nopen('ran', 'w').close()"},
        {"encoder": "{}/vit_base_patch16_224", "image_size": "224); open('ran', 'w').close() #"},
    ],
)
def test_text_in_a_checkpoint_is_not_run(
    library: Any, hostile: dict[str, str], save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {name: value.format(library) for name, value in hostile.items()}
    checkpoint = save(Named(projection_layers=0, in_channels=2, **options))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"has no model|is not kept"):
        export_encoder(checkpoint, library, image_size=16, model=Named)
    assert not Path("ran").exists()


class Doubled(nn.Module):
    """The encoder, but for twice its features."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.encoder(images)  # type: ignore[no-any-return]


def test_a_file_with_other_features_is_not_kept(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(trained: Trained, path: Path) -> None:
        formats._write_torchscript(replace(trained, encoder=Doubled(trained.encoder).eval()), path)

    checkpoint = save(small())
    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"]._replace(write=write))
    with pytest.raises(ValueError, match=r"differ from those of .* by 1\.0e\+00"):
        export_encoder(checkpoint, "torchscript")
    assert [path.name for path in checkpoint.parents[1].iterdir()] == ["checkpoints"]


class Rounding(nn.Module):
    """Pixels as features, with an error in float32 if the offset is large."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.feature_dim, self.in_channels = 2 * 16 * 16, 2
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) + self.offset - self.offset


class Rounded(SimCLR):
    def build_encoder(self) -> nn.Module:
        return Rounding(1000.0)


@pytest.mark.parametrize(("offset", "kept"), [(0.0, True), (3000.0, False)])  # 1000 rounds by 3e-5, 3000 by 1e-4
def test_other_arithmetic_may_differ_as_much_as_rounding_does(
    offset: float, kept: bool, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(trained: Trained, path: Path) -> None:
        formats._write_torchscript(replace(trained, encoder=Rounding(offset).eval()), path)

    checkpoint = save(Rounded(projection_layers=0, in_channels=2, image_size=16))
    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"]._replace(write=write))
    with nullcontext() if kept else pytest.raises(ValueError, match="more than rounding explains"):
        assert export_encoder(checkpoint, "torchscript", model=Rounded).exists()


def test_an_encoder_that_diverged_is_not_exported(save: Save) -> None:
    for value, message in ((torch.nan, "holds NaN in"), (1e38, "by nan of the largest")):
        model = small()
        next(model.encoder.parameters()).data.fill_(value)
        with pytest.raises(ValueError, match=message):
            export_encoder(save(model), "torchscript")


@pytest.mark.parametrize("existing", ["mine.pt", "mine.pt.md"])
def test_files_are_not_overwritten(existing: str, save: Save, tmp_path: Path) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(FileExistsError, match=rf"{existing} exists"):
        export_encoder(save(small()), "torchscript", tmp_path / "mine.pt")
    assert (tmp_path / existing).read_text() == "precious"


def test_mistakes_are_named(save: Save, tmp_path: Path) -> None:
    checkpoint = save(small(image_size=None))
    with pytest.raises(ValueError, match=r"Unknown format 'onyx'\. There are torchvision, timm"):
        export_encoder(checkpoint, "onyx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"named mine\.onnx, but the suffix of this format is \.pt"):
        export_encoder(checkpoint, "torchscript", tmp_path / "mine.onnx")
    with pytest.raises(ValueError, match="--image_size 224"):
        export_encoder(checkpoint, "torchscript")
    with pytest.raises(ValueError, match="image_size is 0: "):
        export_encoder(checkpoint, "torchscript", image_size=0)
    file = export_encoder(checkpoint, "torchscript", tmp_path / "new" / "mine 😀.pt", image_size=20)
    assert "(N, 2, 20, 20)" in file.with_name("mine 😀.pt.md").read_text(encoding="utf-8")


def test_missing_packages_are_named(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        FORMATS, "onnx", FORMATS["onnx"]._replace(packages=("torch", "no_such_package", "nor_this_one"))
    )
    with pytest.raises(ImportError, match=r"needs no_such_package, nor_this_one: pip install no_such_package nor_this"):
        export_encoder(save(small()), "onnx")
