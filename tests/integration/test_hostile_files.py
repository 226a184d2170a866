"""Files of strangers: pickles in them do not run, pipes do not hang, and names that a terminal would obey are shown."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.checkpoints.hostile import Hostile

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.errors import InputError, shown

Simclr = Callable[..., None]
CLEAR = "\x1b[2J\u202e"


@pytest.fixture
def hostile(tmp_path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """An array whose pickle leaves a trace."""
    return np.array([Hostile(tmp_path / "trace")], dtype=object)


def read(folder: Path) -> None:
    data = SimCLRDataModule("folder", folder, batch_size=1, num_workers=0)
    data.setup("fit")
    next(iter(data.clean_dataloader("train")))


def test_pictures(tmp_path: Path, hostile: np.ndarray[tuple[int, ...], np.dtype[np.object_]]) -> None:
    for name, save in (("a.npy", np.save), ("b.npz", np.savez)):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        save(folder / name, hostile, allow_pickle=True)
        with pytest.raises(InputError, match=rf"None of the pictures|{name}"):
            read(folder)
    assert not (tmp_path / "trace").exists()


def test_features_that_are_not_finished(
    simclr: Simclr,
    photos: Path,
    save: Callable[..., Path],
    hostile: np.ndarray[tuple[int, ...], np.dtype[np.object_]],
) -> None:
    checkpoint = save(SimCLR("resnet8", width=0.125, image_size=16), "small.ckpt")
    parts = Path("f.npz.parts")
    words = ["embed", "--ckpt_path", checkpoint, "--output", "f.npz", "--root", photos]
    options = ["--accelerator", "cpu", "--devices", "1", "--num_workers", "0", "--eval_size", "16"]
    with pytest.MonkeyPatch.context() as patch:  # stops before the file is put together
        patch.setattr("simclr_lightning.embed.embed._finish", lambda *_: None)
        simclr(*words, *options)
    written = sorted(parts.glob("*.npz"))
    assert written
    np.savez(written[0], features=hostile, allow_pickle=True)
    with pytest.raises(InputError, match=r"npz is damaged, or of another program: delete it"):
        simclr(*words, *options)
    assert not Path("trace").exists()


@pytest.mark.parametrize("name", ["names", "sizes", "places", "targets"])
def test_packed_pictures(
    tmp_path: Path, photos: Path, name: str, hostile: np.ndarray[tuple[int, ...], np.dtype[np.object_]]
) -> None:
    pytest.importorskip("litdata")
    packed = pack_pictures(photos, tmp_path / "packed")
    file = next((packed / "train").glob(f"{name}.npy"))
    np.save(file, hostile, allow_pickle=True)
    with pytest.raises(InputError, match=rf"{name}\.npy is damaged, or no array of numbers"):
        SimCLRDataModule("packed", packed).setup()
    assert not (tmp_path / "trace").exists()


@pytest.fixture
def strange(photos: Path) -> Path:
    """Pictures, and a pipe, a socket and a device among them."""
    folder = photos / "train" / "cat"
    for name in ("pipe.jpg", "pipe"):
        os.mkfifo(folder / name)
    (folder / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as own:
        here = Path.cwd()
        os.chdir(folder)  # names of sockets are short
        own.bind("socket.jpg")
        os.chdir(here)
    return photos


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_pipe_is_refused_or_left_out(strange: Path, num_workers: int) -> None:
    def pictures(on_bad_picture: str) -> torch.Tensor:
        options = {"batch_size": 4, "num_workers": num_workers, "on_bad_picture": on_bad_picture}
        data = SimCLRDataModule("folder", strange, max_bad_share=0.5, **options)  # type: ignore[arg-type]
        data.setup("fit")
        return torch.cat([batch.indices for batch in data.clean_dataloader("train")])

    with pytest.raises(InputError, match=r"(pipe|socket|device)\.\w+: it is a pipe, a socket or a device, and no file"):
        pictures("raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(pictures("skip")) == 19


def test_a_pipe_is_described(simclr: Simclr, strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simclr("describe", strange)
    told = " ".join(capsys.readouterr().out.split())
    assert "cannot be read 3, such as" in told
    assert "without an ending: no picture" in told


def test_names_are_shown_and_not_obeyed(simclr: Simclr, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "train" / f"{CLEAR}owl").mkdir()
    Image.new("RGB", (20, 20)).save(photos / "train" / f"{CLEAR}owl" / "1.jpg")
    (photos / "train" / "cat" / f"{CLEAR}.jpg").write_bytes(b"no picture")
    simclr("describe", photos)
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert r"\x1b[2J" in told.out
    with pytest.raises(InputError) as error:
        simclr("describe", f"nowhere{CLEAR}")
    assert shown(f"nowhere{CLEAR}") in str(error.value)
    assert "\x1b" not in str(error.value)


def test_warnings_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    from simclr_lightning.compat import without_noise

    with without_noise():
        assert "\x1b" not in warnings.formatwarning(f"bad {CLEAR}", UserWarning, "a.py", 1)
    assert "\x1b" in warnings.formatwarning(f"bad {CLEAR}", UserWarning, "a.py", 1)
