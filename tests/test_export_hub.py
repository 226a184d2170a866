"""A folder for the Hub: timm, transformers and ``from_pretrained`` give the checkpoint's features, to the last bit."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.models.trained import trained
from torch import Tensor, nn

from simclr_lightning import LinearEvaluation, SimCLR
from simclr_lightning.checkpoints import read_checkpoint
from simclr_lightning.embed import embed_pictures
from simclr_lightning.errors import InputError
from simclr_lightning.export import export_encoder
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.views import ViewRecipe, centre_view

Save = Callable[..., Path]
timm: Any = pytest.importorskip("timm")  # half of it has no types
VIEWS = {"eval_size": 48, "eval_crop": 0.75, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def random(**options: Any) -> SimCLR:
    """A model whose statistics and gains are not those of any new one."""
    return trained(SimCLR(**{"projection_hidden": 8, "projection_dim": 4, **options}))


def small(**options: Any) -> SimCLR:
    return random(**{"encoder": "resnet8", "width": 0.125, "image_size": 16, "in_channels": 2, **options})


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a checkpoint into the folder of a run."""

    def write(model: SimCLR, **more: Any) -> Path:
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
        model.on_save_checkpoint(content)
        torch.save({**content, "global_step": 7, "pytorch-lightning_version": "2.6.0", **more}, path)
        return path

    return write


def features(network: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images)  # type: ignore[no-any-return]


def card_of(folder: Path) -> tuple[Any, str]:
    """Metadata and text."""
    empty, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), text


# ---- who loads it


@pytest.mark.parametrize(
    ("options", "architecture"),
    [
        ({"encoder": "resnet18", "stem": "imagenet", "in_channels": 1, "image_size": 48}, "resnet18"),
        ({"encoder": "timm/test_vit", "image_size": 48}, "test_vit"),
    ],
)
def test_timm_and_this_package_give_the_features(options: dict[str, Any], architecture: str, save: Save) -> None:
    model = random(channels_last=False, loss=NTXentLoss(temperature=0.37), **options)
    channels = model.hparams["in_channels"]
    views = {**VIEWS, "mean": [0.5] * channels, "std": [0.25] * channels}
    folder = export_encoder(save(model, datamodule_hyper_parameters={"root": "/home/me", "views": views}), "hub")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "simclr.safetensors",
    ]
    images = torch.rand(3, channels, 48, 48)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(features(theirs, images), features(model, images))
    ours = SimCLR.from_pretrained(folder)
    assert not ours.training
    assert torch.equal(features(ours, images), features(model, images))
    assert torch.equal(ours.project(features(ours, images)), model.project(features(model, images)))
    assert ours.hparams == model.hparams
    assert torch.equal(features(SimCLR.load_encoder(folder), images), features(model, images))

    told = timm.data.resolve_model_data_config(theirs)
    assert (told["input_size"], told["crop_pct"], told["interpolation"]) == ((channels, 48, 48), 0.75, "bilinear")
    assert (tuple(told["mean"]), tuple(told["std"])) == ((0.5,) * channels, (0.25,) * channels)
    to_classify = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5).eval()
    assert to_classify(images).shape == (3, 5)
    assert torch.equal(to_classify.forward_features(images), theirs.forward_features(images))

    config, (metadata, text) = json.loads((folder / "config.json").read_text()), card_of(folder)
    assert config["architecture"] == architecture
    assert "/home/me" not in str(config) + text
    assert metadata["library_name"] == "timm"
    assert "license" not in metadata
    assert "Not stated yet" in text


def test_timm_prepares_pictures_as_they_were_judged(save: Save) -> None:
    model = random(encoder="timm/test_vit", image_size=48)
    views = {**VIEWS, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic"}
    folder = export_encoder(save(model, datamodule_hyper_parameters={"views": views}), "hub")
    pixels = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), (160, 200), mode="bicubic").clamp(0, 1)[0]
    picture = (255 * pixels).to(torch.uint8)
    config = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{folder}"))
    theirs = timm.data.create_transform(**config)(Image.fromarray(picture.permute(1, 2, 0).numpy()))
    recipe = ViewRecipe("imagenet", size=48, **views)  # type: ignore[arg-type]
    ours = centre_view(picture, recipe).float() / 255
    ours = (ours - torch.tensor(views["mean"])[:, None, None]) / torch.tensor(views["std"])[:, None, None]
    assert (theirs - ours).abs().mean() < 0.02  # a pixel's crop may be rounded otherwise
    other = timm.data.create_transform(**{**config, "crop_pct": 0.875})(
        Image.fromarray(picture.permute(1, 2, 0).numpy())
    )
    assert (other - ours).abs().mean() > 0.05


def test_transformers_load_the_folder(save: Save) -> None:
    transformers = pytest.importorskip("transformers")
    model = random(encoder="timm/test_vit", image_size=48, channels_last=False)
    folder = export_encoder(save(model, datamodule_hyper_parameters={"views": VIEWS}), "hub")
    network = transformers.AutoModel.from_pretrained(folder).eval()
    images = torch.rand(2, 3, 48, 48)
    assert torch.equal(features(lambda given: network(given).pooler_output, images), features(model, images))
    prepared = transformers.AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (90, 70), (255, 0, 0)))
    assert prepared["pixel_values"].shape == (1, 3, 48, 48)
    assert prepared["pixel_values"].amax(dim=(0, 2, 3)).tolist() == [2.0, -2.0, -2.0]  # (1 - 0.5) / 0.25


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "resnet18", "stem": "imagenet"},
        {"encoder": "shufflenet_v2_x0_5", "width": 1.0, "image_size": 32},
        {"projection_layers": 0},
        {"encoder": "resnet18", "stem": "imagenet", "image_size": 64, "width": 1.0, "pool_grid": 2},
    ],
)
def test_networks_that_timm_has_not_come_back_by_this_package(
    options: dict[str, Any], save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(channels_last=False, **options)
    folder = export_encoder(save(model), "hub")
    side = model.hparams["image_size"]
    images = torch.rand(3, 2, side, side)
    assert torch.equal(features(SimCLR.from_pretrained(folder), images), features(model, images))
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    metadata, text = card_of(folder)
    assert metadata["library_name"] == "simclr-lightning"
    assert "timm has no such network" in text
    monkeypatch.chdir(folder.parent)
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        if "encoder" in namespace:
            assert torch.equal(features(namespace["encoder"], images), features(model, images))


def test_a_folder_is_as_good_as_its_checkpoint(save: Save, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for shade in (0, 100, 200):
        Image.new("RGB", (20, 24), (shade, 50, 90)).save(photos / f"{shade}.png")
    model = small(in_channels=3)
    checkpoint = save(model, datamodule_hyper_parameters={"views": {**VIEWS, "eval_size": 16}, "scale": [0.0, 255.0]})
    folder = export_encoder(checkpoint, "hub")
    assert read_checkpoint(folder).clean_pictures == read_checkpoint(checkpoint).clean_pictures
    again = export_encoder(folder, "hub", tmp_path / "again")
    assert json.loads((again / "config.json").read_text()) == json.loads((folder / "config.json").read_text())
    for name, file in (("a.npz", checkpoint), ("b.npz", folder)):
        embed_pictures(ckpt_path=str(file), root=str(photos), output=str(tmp_path / name), num_workers=0)
    one, other = (np.load(tmp_path / name)["features"] for name in ("a.npz", "b.npz"))
    assert np.array_equal(one, other)
    judged = LinearEvaluation(checkpoint=str(folder), num_classes=3)
    assert torch.equal(judged.encoder.get_parameter("conv1.weight"), model.encoder.get_parameter("conv1.weight"))
    with pytest.raises(InputError, match=r"holds no run: .*--model\.init_from .*hub\.\n.*--others\.NAME"):
        read_checkpoint(folder, in_pieces=True)  # as `simclr fit --ckpt_path` does
    begun = SimCLR(encoder="resnet8", width=0.125, image_size=16, init_from=str(folder))
    assert torch.equal(begun.encoder.get_parameter("conv1.weight"), model.encoder.get_parameter("conv1.weight"))


def test_checkpoints_of_runs_are_pretrained_models_too(save: Save) -> None:
    model = small()
    found = SimCLR.from_pretrained(save(model))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in found.state_dict().items())


class Special(SimCLR):
    """Has a weight beside encoder and head, and an argument of its own."""

    def __init__(self, degree: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.save_hyperparameters("degree")
        self.scale = nn.Parameter(torch.zeros(degree))


def test_subclasses_keep_what_is_their_own(save: Save) -> None:
    options = {"encoder": "resnet8", "width": 0.125, "image_size": 16}
    model = Special(degree=5, **options)
    model.scale.data.fill_(0.7)
    folder = export_encoder(save(model), "hub", model=Special)
    assert torch.equal(Special.from_pretrained(folder).scale, model.scale)
    assert f"from {__name__} import Special" in card_of(folder)[1]
    with pytest.raises(InputError, match=r"is a checkpoint of .*Special, not of SimCLR"):
        SimCLR.from_pretrained(folder)


# ---- what a checkpoint tells is text


def test_text_in_a_checkpoint_is_no_markup_and_no_code(save: Save) -> None:
    hostile = "\x1b[2J\n---\n```\n````\n<script>{{x}}\u202e"
    data = {"dataset": hostile, "views": {**VIEWS, "mean": hostile, "std": [hostile], "interpolation": hostile}}
    model = random(encoder="timm/test_vit", image_size=48)
    folder = export_encoder(save(model, datamodule_hyper_parameters=data, global_step=hostile), "hub")
    metadata, text = card_of(folder)
    assert set(metadata) == {"library_name", "pipeline_tag", "tags"}
    before, settings, after = re.split(r"^`{5}(?:yaml)?$", text, flags=re.MULTILINE)  # longer than any fence within
    assert "<script>" in settings
    assert not {"<script>", "````"} & set(re.findall("<script>|````", before + after))
    assert "\x1b" not in text
    assert (folder / "config.json").read_text(encoding="utf-8").isascii()
    assert "\x1b" not in (folder / "config.json").read_text(encoding="utf-8")
    told = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{folder}"))
    assert (tuple(told["mean"]), tuple(told["std"])) == ((0.0,) * 3, (1.0,) * 3)
    assert told["interpolation"] == "bicubic"


def test_nothing_is_imported_because_a_folder_names_it(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_hub.py").write_text("open('ran', 'w').close()\n\n\nclass Evil: ...\n")
    monkeypatch.chdir(tmp_path)
    folder = export_encoder(save(small()), "hub")
    told = json.loads((folder / "config.json").read_text())["simclr_lightning"]

    def tell(change: dict[str, Any]) -> None:
        (folder / "config.json").write_text(json.dumps({"simclr_lightning": {**told, **change}}))

    tell({"class_path": "evil_hub.Evil"})
    assert_refused(folder, "evil_hub")
    tell({"hyper_parameters": {**told["hyper_parameters"], "_instantiator": "evil_hub.Evil"}})
    assert_refused(folder, "evil_hub")
    tell({"hyper_parameters": {**told["hyper_parameters"], "loss": {"class_path": "evil_hub.Evil"}}})
    assert SimCLR.from_pretrained(folder).loss.config()["class_path"] == "evil_hub.Evil"  # features need none
    assert "evil_hub" not in sys.modules
    assert not (tmp_path / "ran").exists()


# ---- what is refused


def assert_refused(path: Path | str, message: str, error: type[InputError] = InputError) -> None:
    with pytest.raises(error, match=message) as raised:
        SimCLR.from_pretrained(path)
    assert len(str(raised.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("me/pictures", r"nothing is downloaded unasked.*\nhf download me/pictures --local-dir me/pictures\n"),
        ("pictures", r"There is no 'pictures': name a folder of `simclr export --format hub`"),
        ("/no/such/last.ckpt", r"There is no '/no/such/last\.ckpt'"),
        ("me/a;rm -rf b", r"There is no 'me/a;rm -rf b'"),
        ("me/\x00", "There is no 'me/"),
        ("", "not of a folder"),
    ],
)
def test_names_are_not_downloaded(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(path, message)


def test_damaged_folders_are_refused(save: Save, tmp_path: Path) -> None:
    checkpoint = save(small())
    assert_refused(checkpoint.parents[1], r"and not of a folder \(--ckpt_path .*last\.ckpt")
    folder = export_encoder(checkpoint, "hub")
    config, weights = folder / "config.json", folder / "model.safetensors"
    whole, tensors = config.read_text(), weights.read_bytes()
    for text in ("{", "[" * 100_000, "\x00"):
        config.write_text(text)
        assert_refused(folder, r"config\.json is damaged, or no JSON")
    for other in ('{"architecture": "resnet18"}', "[]", '{"simclr_lightning": []}', '{"simclr_lightning": {}}'):
        config.write_text(other)
        assert_refused(folder, r"has a config\.json, but not from `simclr export --format hub`")
    config.write_text(whole.replace('"width": 0.125', '"width": 0.25'))
    assert_refused(folder, "does not fit the model")
    config.write_text(whole)
    for broken in (b"version https://git-lfs.github.com/spec/v1\n", tensors[:-9]):
        weights.write_bytes(broken)
        assert_refused(folder, r"model\.safetensors is damaged, cut off, or no safetensors")
    weights.unlink()
    assert_refused(folder, r"has no model\.safetensors")
    weights.write_bytes(tensors)
    (folder / "simclr.safetensors").unlink()
    assert_refused(folder, "missing from the checkpoint: head")


def test_exports_that_cannot_be_leave_nothing(save: Save, tmp_path: Path) -> None:
    model = small()
    odd = save(model, hyper_parameters={**model.hparams, "odd": torch.zeros(1)})
    with pytest.raises(InputError, match=r"JSON cannot hold the hyperparameters of .*Tensor is not JSON serializable"):
        export_encoder(odd, "hub")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine exists and is not overwritten"):
        export_encoder(save(model), "hub", tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoints", "last.ckpt", "mine", "run"]
