"""Files are read once, without running code that is in them, and what is wrong with one is told in a few lines."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.checkpoints.hostile import Hostile

from simclr_lightning import SimCLR
from simclr_lightning.checkpoints import Checkpoint, DurableCheckpointIO, read_checkpoint, run_of, upgraded
from simclr_lightning.errors import InputError, MissingFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint."""
    model = SimCLR("resnet8", width=0.125)
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": {"dataset": "digits"},
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_a_checkpoint_tells_what_it_holds(path: Path) -> None:
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.path == path
    assert checkpoint.hyperparameters["encoder"] == "resnet8"
    assert checkpoint.state_dict.keys() == SimCLR("resnet8", width=0.125).state_dict().keys()
    assert checkpoint.data == {"dataset": "digits"}
    assert checkpoint.class_path is None
    assert checkpoint.classifier is None


def test_what_a_file_does_not_tell_is_empty(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {"weight": torch.ones(1)})
    assert (checkpoint.hyperparameters, checkpoint.data, checkpoint.class_path) == ({}, {}, None)
    assert Checkpoint(tmp_path, {"hyper_parameters": 3, "classifier": 4}).hyperparameters == {}


def test_clean_pictures_are_those_of_the_first_recipe_as_far_as_it_is_told(tmp_path: Path) -> None:
    def told(views: object, **hyperparameters: object) -> dict[str, Any]:
        content = {"hyper_parameters": hyperparameters, "datamodule_hyper_parameters": {"views": views}}
        return Checkpoint(tmp_path, content).clean_pictures

    recipe = {"size": 32, "eval_size": 24, "eval_crop": 1.0, "interpolation": "bicubic", "mean": [0.5], "std": [0.2]}
    clean = {name: recipe[name] for name in ("eval_size", "eval_crop", "interpolation", "mean", "std")}
    assert told(recipe) == told([recipe, {"eval_size": 16}]) == told(recipe, image_size=32) == clean
    assert told({"mean": None}, image_size=32) == {"mean": None, "eval_size": 32}
    assert told("theirs", image_size=32) == {"eval_size": 32}
    assert told(None, image_size=None) == told([]) == Checkpoint(tmp_path, {}).clean_pictures == {}


def test_the_class_is_that_of_the_command_line_or_of_a_classifier(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path, {"classifier": "FineTune"}).class_path == "simclr_lightning.FineTune"
    typed = {"classifier": "Mine", "hyper_parameters": {"_class_path": "my_project.Mine"}}
    assert Checkpoint(tmp_path, typed).class_path == "my_project.Mine"


def test_a_file_is_read_once_while_it_is_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    load = torch.load

    def counted(file: Path, **settings: Any) -> Any:
        reads.append(file)
        return load(file, **settings)

    monkeypatch.setattr(torch, "load", counted)
    first = read_checkpoint(path)
    monkeypatch.chdir(path.parent)
    assert read_checkpoint("last.ckpt") is first
    assert len(reads) == 1
    os.utime(path, (0, 0))
    assert read_checkpoint(path) is not first
    assert len(reads) == 2
    del first
    gc.collect()
    read_checkpoint(path)
    gc.collect()
    assert read_checkpoint(path).state_dict
    assert len(reads) == 4  # nobody held the others


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.ckpt", tmp_path):
        with pytest.raises(MissingFileError, match=f"There is no checkpoint {missing}: give the path"):
            read_checkpoint(missing)


def told(path: Path) -> str:
    """What is said of a file that cannot be read."""
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 3
    return message


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"PK\x03\x04", b"just a text", b"\x80\x02}q\x00.", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(10_000)],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    told(tmp_path / "other.ckpt")


def test_files_that_are_cut_off_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in (1, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        told(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of torch, when it reads nonsense
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused_or_read(zipped: bool, tmp_path: Path) -> None:
    content = {"weight": torch.ones(2), "names": ["a", {"b": 1.5}]}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "a.pt").read_bytes()
    generator = random.Random(0)
    refused = 0
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[generator.randrange(len(whole))] = generator.randrange(256)
        (tmp_path / f"{number}.pt").write_bytes(damaged)
        try:
            read_checkpoint(tmp_path / f"{number}.pt")
        except InputError:
            told(tmp_path / f"{number}.pt")
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_named_and_not_run(zipped: bool, tmp_path: Path) -> None:
    torch.save({"callback": Path("code")}, tmp_path / "code.ckpt", _use_new_zipfile_serialization=zipped)
    assert "objects of pathlib." in (message := told(tmp_path / "code.ckpt"))
    assert "weights_only=False" in message


def test_what_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    assert "neither a state dict of tensors nor a checkpoint" in told(tmp_path / "list.pt")


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors").state_dict["weight"].tolist() == [1, 1]
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    assert "no safetensors file" in told(tmp_path / "b.safetensors")


def test_the_loss_was_once_four_arguments() -> None:
    before = {"encoder": "resnet8", "projection_layers": 2, "temperature": 0.2, "normalize": True, "gather": False}
    loss = {
        "class_path": "simclr_lightning.losses.nt_xent.NTXentLoss",
        "init_args": {"temperature": 0.2, "normalize": True, "gather": False},
    }
    after = {"encoder": "resnet8", "projection_layers": 2, "loss": loss}
    assert upgraded(before) == after
    assert upgraded(after) == after
    assert "temperature" in before
    assert upgraded({"temperature": 1.0}) == {"temperature": 1.0}  # of something else


def test_run_is_the_folder_of_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert run_of("runs/a/checkpoints/last.ckpt") == Path("runs/a")
    assert run_of("runs/a/last.ckpt") is None
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    assert run_of("last.ckpt") == tmp_path / "run"


def test_a_checkpoint_in_pieces_tells_the_command_line_what_it_is_of(path: Path, tmp_path: Path) -> None:
    """FSDP2 writes such folders."""
    folder = tmp_path / "pieces.ckpt"
    folder.mkdir()
    path.rename(folder / "meta.pt")
    (folder / "__0_0.distcp").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"is a folder of pieces.*save_distributed_checkpoint false"):
        read_checkpoint(folder)
    assert read_checkpoint(folder, in_pieces=True).hyperparameters["encoder"] == "resnet8"


def test_a_checkpoint_is_read_from_its_address(path: Path, address: str) -> None:
    checkpoint = read_checkpoint(f"{address}/last.ckpt")
    assert checkpoint.path == f"{address}/last.ckpt"
    assert checkpoint.hyperparameters == read_checkpoint(path).hyperparameters
    assert run_of("http://example.org/run/checkpoints/last.ckpt") is None
    with pytest.raises(InputError, match=r"nowhere\.ckpt cannot be fetched .*: correct the address") as caught:
        read_checkpoint(f"{address}/nowhere.ckpt")
    assert len(str(caught.value).splitlines()) == 1


def test_code_at_an_address_is_not_run(tmp_path: Path, address: str) -> None:
    """Lightning unpickles what it fetches; and ``load_state_dict_from_url`` keeps files by their last name alone."""
    trace = tmp_path / "trace"
    torch.save({"state_dict": {}, "callbacks": Hostile(trace)}, tmp_path / "hostile.ckpt")
    for read in (read_checkpoint, DurableCheckpointIO().load_checkpoint, SimCLR.load_from_checkpoint):
        for place in (f"{address}/hostile.ckpt", str(tmp_path / "hostile.ckpt")):
            with pytest.raises(InputError, match=r"hostile\.ckpt holds objects of .*refuses them"):
                read(place)
    assert not trace.exists()
