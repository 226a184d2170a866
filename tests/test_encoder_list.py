"""What `simclr models` tells of encoders is what they are."""

from __future__ import annotations

import json

import pytest

from simclr_lightning import encoder_list
from simclr_lightning.console import main
from simclr_lightning.encoder_list import list_encoders
from simclr_lightning.errors import InputError, MissingPackageError
from simclr_lightning.models import RESNETS, build_encoder


def test_the_paper_s_networks_and_where_more_are(capsys: pytest.CaptureFixture[str]) -> None:
    found = list_encoders()
    assert [own["name"] for own in found["resnets"]] == list(RESNETS)
    wide = found["resnets"][0]["widths"][2]
    built = build_encoder("resnet8", width=2)
    assert wide["parameters"] == sum(parameter.numel() for parameter in built.parameters())
    assert wide["features"] == built.feature_dim
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 120
    for line in ("resnet50", "23.5 M", "375.4 M", "2,048 x width", "cifar ", "`simclr models timm/vit`"):
        assert line in told


def test_a_part_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    # regnet reads tensors while it is built, and has real parameters here
    main(["models", "torchvision/regnet_x_400", "--json"])
    told = json.loads(capsys.readouterr().out)
    real = build_encoder("regnet_x_400mf")
    parameters = sum(parameter.numel() for parameter in real.parameters())
    assert told == {
        "encoders": [{"name": "regnet_x_400mf", "parameters": parameters, "features": real.feature_dim}],
        "left_out": 0,
    }


def test_many_are_not_built(capsys: pytest.CaptureFixture[str]) -> None:
    found = list_encoders("torchvision/resnet", limit=1)
    assert [own["name"] for own in found["encoders"]] == ["resnet8"]
    assert found["left_out"] >= len(RESNETS) - 1
    assert f"{found['left_out']} more: type more of the name, or --limit 0" in capsys.readouterr().out


def test_models_of_timm() -> None:
    pytest.importorskip("timm")
    found = list_encoders("timm/vit_tiny_patch16_224", limit=1, json=True)["encoders"]
    assert found == [{"name": "timm/vit_tiny_patch16_224", "parameters": 5_524_416, "features": 192}]


def test_without_timm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(encoder_list, "find_spec", lambda name: None)
    monkeypatch.setattr(encoder_list, "RESNETS", {"resnet8": RESNETS["resnet8"]})
    assert list_encoders()["timm"] == {"installed": False, "version": None}
    assert 'pip install "simclr-lightning[timm]"' in capsys.readouterr().out
    with pytest.raises(MissingPackageError, match="timm"):
        list_encoders("timm/vit")
    with pytest.raises(
        InputError, match=r"No encoder has 'resnet51' in its name \(timm, which .*did you mean resnet50"
    ):
        list_encoders("resnet51")


def test_bad_input() -> None:
    with pytest.raises(InputError, match="limit is -1: choose 0"):
        list_encoders(limit=-1)
