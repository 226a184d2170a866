"""Which encoders are compared, from which checkpoints, on which pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.evaluation.candidates import Candidate, Comparison

Make = Callable[..., Any]


def small(seed: int = 0) -> SimCLR:
    torch.manual_seed(seed)
    return SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, zero_init_residual=False)


@pytest.fixture
def digits() -> SimCLRDataModule:
    data = SimCLRDataModule("digits")
    data.setup()
    return data


def saved(model: SimCLR, path: Path, trainer: Make, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    """A checkpoint, as the Trainer writes it or changed."""
    own = trainer()
    own.strategy.connect(model)
    own.save_checkpoint(path)
    if change:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
    return path


def test_other_encoders_are_compared_by_name(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    other = small(seed=1)
    path = saved(other, tmp_path / "other.ckpt", trainer)
    comparison = Comparison.prepare(trainer(), small(), digits, None, {"another": path})
    features = {candidate.name: candidate.test.features for candidate in comparison.candidates()}
    assert list(features) == ["raw pixels", "random encoder", "another"]
    images = torch.cat([digits.on_after_batch_transfer(batch, 0).images for batch in digits.clean_dataloader("test")])
    with torch.no_grad():
        expected = other.encoder.eval()(images)
    assert torch.allclose(features["another"], expected, atol=1e-5)
    assert not torch.allclose(features["random encoder"], expected, atol=1e-2)
    assert comparison.checkpoints == {"another": str(path)}
    assert "Labels that another may have been trained with" in comparison.notes[0]
    without = Comparison.prepare(trainer(), small(), digits, None, None, raw_pixels=False)
    assert [candidate.name for candidate in without.candidates()] == ["random encoder"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["state_dict"].pop("encoder.conv1.weight"), "encoder.conv1.weight"),
        (lambda content: content["state_dict"].update(extra=torch.zeros(1)), "extra"),
    ],
    ids=["missing", "extra"],
)
def test_an_other_checkpoint_is_loaded_completely_or_refused(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path, trainer: Make, digits: SimCLRDataModule
) -> None:
    path = saved(small(), tmp_path / "other.ckpt", trainer, change)
    with pytest.raises(ValueError, match=message):
        Comparison.prepare(trainer(), small(), digits, None, {"another": path})


def test_a_name_that_is_taken_is_refused(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    with pytest.raises(ValueError, match="There is an encoder 'raw pixels' already"):
        Comparison.prepare(trainer(), small(), digits, None, {"raw pixels": tmp_path / "other.ckpt"})


def test_an_encoder_of_other_channels_is_refused(tmp_path: Path, trainer: Make, digits: SimCLRDataModule) -> None:
    colour = SimCLR(encoder="resnet8", width=0.125, stem="pooled")
    path = saved(colour, tmp_path / "colour.ckpt", trainer)
    with pytest.raises(ValueError, match=r"'colour' takes 3 channel\(s\), but the pictures have 1"):
        Comparison.prepare(trainer(), small(), digits, None, {"colour": path})


def test_figures_of_a_part_of_the_pictures_are_refused(trainer: Make, digits: SimCLRDataModule) -> None:
    with pytest.raises(ValueError, match="limit_predict_batches is 1"):
        Comparison.prepare(trainer(limit_predict_batches=1), small(), digits, None, None)


def test_a_file_is_read_once_whatever_the_encoders_names_are(
    tmp_path: Path, trainer: Make, digits: SimCLRDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(small(seed=1), tmp_path / "last.ckpt", trainer)
    read: list[Path] = []
    load = torch.load

    def watching(file: IO[bytes], **settings: Any) -> Any:
        read.append(Path(file.name))
        return load(file, **settings)

    monkeypatch.setattr(torch, "load", watching)
    comparison = Comparison.prepare(trainer(), small(), digits, path, {"one": path, "other": path})
    assert read == [path]
    names = [candidate.name for candidate in comparison.candidates()]
    assert names == ["raw pixels", "random encoder", "pre-trained encoder", "one", "other"]


@pytest.mark.filterwarnings("ignore:Cannot read the picture", "ignore:1 of these 12 pictures cannot be read")
def test_labels_stay_with_their_pictures_where_one_cannot_be_read(tmp_path: Path, trainer: Make) -> None:
    for split, label in ((split, label) for split in ("train", "test") for label in range(3)):
        folder = tmp_path / split / "abc"[label]
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.full((8, 8), 80 * label + number, dtype=np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"no picture")
    data = SimCLRDataModule("folder", root=tmp_path, on_bad_picture="skip", num_workers=0, views="cifar10")
    data.setup()
    comparison = Comparison.prepare(trainer(), small(), data, None, None)
    pixels: Candidate = next(comparison.candidates())
    assert comparison.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    learned = pixels.learned(torch.tensor([0, 1, 5, 11]))
    assert learned.targets.tolist() == [0, 1, 2]
    assert (255 * learned.features.mean(1)).round().tolist() == [0, 81, 163]
    assert pixels.learned(torch.arange(11)).targets.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert pixels.learned(torch.arange(12)).targets.tolist() == [0] * 3 + [1] * 4 + [2] * 4
