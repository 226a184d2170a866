"""What is asked of a run that goes on is checked against how it began, before anything is trained."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from simclr_lightning.errors import InputError

Simclr = Callable[..., None]

TINY = ["--model.encoder", "resnet8", "--model.width", "0.125", "--data.batch_size", "4", "--data.views.size", "16"]
SHORT = ["--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "2", "--data.num_workers", "0"]
FIT = ["fit", *TINY, *SHORT, "--data.root", "photos", "--trainer.logger.version", "one", "--trainer.max_epochs"]
LAST = "runs/simclr/one/checkpoints/last.ckpt"


def told(simclr: Simclr, *words: str) -> str:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        simclr(*words)
    texts = [str(warning.message) for warning in found]
    return " ".join(text for text in texts if "goes on otherwise" in text)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_goes_on(simclr: Simclr, photos: Path) -> None:
    simclr(*FIT, "1")
    written = Path(LAST).stat().st_mtime_ns
    before = files(Path("runs"))

    finished = (
        f"the run of {LAST} is finished, with 1 of 1 epochs. To train it further, type more (--trainer.max_epochs 2)"
    )
    with pytest.raises(InputError, match=re.escape(f"There is nothing to do: {finished}")):
        simclr(*FIT, "1", "--ckpt_path", "last")
    with pytest.raises(InputError, match=r"nothing to do: .* 2 of 2 steps"):
        simclr(*FIT, "-1", "--trainer.max_steps", "2", "--ckpt_path", LAST)
    simclr(*FIT, "1", "--auto_resume", "true")  # a job that was requeued too often ends well
    assert Path(LAST).stat().st_mtime_ns == written
    Path(LAST).write_bytes(b"of the epoch before")  # killed between the two files of its end
    os.utime(LAST, ns=(0, 0))
    simclr(*FIT, "1", "--auto_resume", "true")
    (newest,) = Path(LAST).parent.glob("epoch=*.ckpt")
    assert Path(LAST).read_bytes() == newest.read_bytes()
    Path(LAST).write_bytes(before["simclr/one/checkpoints/last.ckpt"])

    with pytest.raises(InputError, match=r"stem is 'pooled', and the training of .* began with 'auto'"):
        simclr(*FIT, "2", "--ckpt_path", LAST, "--model.stem", "pooled")
    with pytest.raises(InputError, match=r"pool_grid is 2, and the training of .* began with 1"):
        simclr(*FIT, "2", "--ckpt_path", LAST, "--model.pool_grid", "2")

    (photos / "train" / "cat" / "0.jpg").rename(photos / "0.jpg")
    with pytest.raises(InputError, match="began with 16 training pictures, and there are 15 now: the order"):
        simclr(*FIT, "2", "--ckpt_path", LAST)
    (photos / "0.jpg").rename(photos / "train" / "cat" / "0.jpg")
    for split in ("train", "val", "test"):
        (photos / split / "dog").rename(photos / split / "owl")
    with pytest.raises(InputError, match=r"began with 2 classes, and there are 2 now \(dog, owl\)"):
        simclr(*FIT, "2", "--ckpt_path", LAST)
    for split in ("train", "val", "test"):
        (photos / split / "owl").rename(photos / split / "dog")
    assert files(Path("runs")) == before  # whoever is refused leaves nothing

    changes = told(simclr, *FIT, "2", "--ckpt_path", LAST, "--model.learning_rate", "0.5", "--data.on_device", "false")
    assert "model.learning_rate 0.5 (was 0.3)" in changes
    assert "trainer.max_epochs 2 (was 1)" in changes
    assert "Of no matter: data.on_device False (was None)" in changes
    shutil.rmtree("runs")


def test_the_number_of_a_picture_that_is_added_is_told_before_a_step(simclr: Simclr, photos: Path) -> None:
    simclr(*FIT, "1")
    Image.new("RGB", (20, 20)).save(photos / "train" / "dog" / "more.jpg")
    with pytest.raises(InputError, match="there are 17 now"):
        simclr(*FIT, "2", "--ckpt_path", "last")


def test_steps_that_would_begin_elsewhere(simclr: Simclr, photos: Path) -> None:
    """Refused when all is restored, just before the first step."""
    limit = FIT.index("--trainer.limit_train_batches")
    whole = [*FIT[:limit], *FIT[limit + 2 :], "1"]
    often = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps", "1"]
    simclr(*whole, *often, "--trainer.callbacks.save_top_k", "-1", "--trainer.log_every_n_steps", "1")
    before, first = files(Path("runs")), "runs/simclr/one/checkpoints/epoch=0-step=1.ckpt"
    others = ["--data.batch_size", "2", "--trainer.accumulate_grad_batches", "3"]
    with pytest.raises(InputError, match="2 batches of the present size lie behind, of which 3 make a step"):
        simclr(*whole, "--ckpt_path", first, *others)
    assert files(Path("runs")) == before
