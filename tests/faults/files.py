"""Flips bits of checkpoints, and opens files whose pickles would run code: what is found, and what was run.

    python -m tests.faults.files --flips 60 --output runs/files.json

One bit of a checkpoint that a training wrote is changed at a time: reading it must be refused, and the one before it
must be what a run goes on from. A hostile file leaves a trace where any of it is run; each is given to everything that
reads files of its kind.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from tests.checkpoints.hostile import Hostile

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.checkpoints import DurableCheckpointIO, newest_checkpoint, read_checkpoint
from simclr_lightning.console import main as simclr
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.errors import InputError

SMALL = ("--trainer.accelerator", "cpu", "--model.encoder", "resnet8", "--model.width", "0.125")
FIT = ("fit", "--config", "quickstart", *SMALL, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1")
EMBED = ("--accelerator", "cpu", "--devices", "1", "--num_workers", "0", "--eval_size", "16")
BY_COMMAND = 6
"""Of the flips, so many are tried by the command, too, which takes longer."""


def command(*words: object) -> None:
    """``simclr`` in this process."""
    sys.argv = ["simclr", *map(str, words)]
    simclr(list(sys.argv[1:]))


def ending(call: Callable[[], object]) -> str:
    """How a call ends: with nothing, a message of at most three lines, or a traceback."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            call()
    except (InputError, SystemExit) as error:
        lines = str(error).splitlines()
        return "told" if len(lines) <= 3 else f"{len(lines)} lines: {lines[0]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "taken"


def flip_bits(number: int, chance: random.Random) -> dict[str, Any]:
    """Change one bit at a time of the newest checkpoint of a run."""
    command(*FIT, "--trainer.logger.version", "run")
    last = Path("runs/quickstart/run/checkpoints/last.ckpt")
    others = [path for path in last.parent.glob("*.ckpt") if path != last]
    whole, endings, before = last.read_bytes(), list[str](), 0
    for attempt in range(number):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        last.write_bytes(damaged)
        endings.append(ending(lambda: DurableCheckpointIO().load_checkpoint(last)))
        found, broken = newest_checkpoint(last.parent)
        before += found in others and broken == [last]
        if attempt < BY_COMMAND:
            endings.append(ending(lambda: command(*FIT, "--trainer.max_epochs", "3", "--ckpt_path", last)))
    last.write_bytes(whole)
    DurableCheckpointIO().load_checkpoint(last)
    odd = sorted(set(endings) - {"told"})
    return {"flips": number, "found": endings.count("told") - min(BY_COMMAND, number), "before it used": before} | (
        {"odd": odd} if odd else {}
    )


@contextmanager
def served() -> Iterator[str]:
    """The present folder at an address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=os.getcwd())) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def hostile_checkpoints(trace: Path) -> Iterator[tuple[str, Path]]:
    """Files by what they claim to be, in every form in which torch writes, and as a bare pickle."""
    weights = SimCLR("resnet8", width=0.125, image_size=16).state_dict()
    peers = {name.replace("encoder.", "backbone."): value for name, value in weights.items()}
    contents = {
        "checkpoint": torch.load("runs/quickstart/run/checkpoints/last.ckpt", weights_only=True),
        "peer's checkpoint": {"state_dict": peers, "epoch": 3},
        "peer's weights": dict(peers),
    }
    for kind, content in contents.items():
        content["hostile"] = Hostile(trace)
        for form in ("zip", "legacy", "pickle"):
            path = Path(f"{kind.replace(' ', '_').replace(chr(39), '')}-{form}.ckpt")
            if form == "pickle":
                path.write_bytes(pickle.dumps(content))
            else:
                torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
            yield kind, path


def commands(place: str, pictures: Path) -> dict[str, Callable[[], object]]:
    """Those that read a checkpoint."""
    config = ("--config", "quickstart", *SMALL)
    return {
        "fit --ckpt_path": lambda: command(*FIT, "--ckpt_path", place),
        "fit --model.init_from": lambda: command(*FIT, "--model.init_from", place),
        "test": lambda: command("test", *config, "--ckpt_path", place),
        "evaluate": lambda: command("evaluate", *config, "--ckpt_path", place, "--protocols=knn"),
        "evaluate --others": lambda: command("evaluate", *config, "--others.x", place, "--protocols=knn"),
        "embed": lambda: command("embed", "--ckpt_path", place, "--output", "f.npz", "--root", pictures, *EMBED),
        "export": lambda: command("export", "--ckpt_path", place, "--format", "torchscript", "--output", "e.pt"),
    }


def functions(place: str) -> dict[str, Callable[[], object]]:
    """Those that read a checkpoint."""
    return {
        "SimCLR.load_encoder": lambda: SimCLR.load_encoder(place),
        "read_checkpoint": lambda: read_checkpoint(place),
        "SimCLR.load_from_checkpoint": lambda: SimCLR.load_from_checkpoint(place),
        "SimCLRDataModule.load_from_checkpoint": lambda: SimCLRDataModule.load_from_checkpoint(place),
        "DurableCheckpointIO": lambda: DurableCheckpointIO().load_checkpoint(place),
    }


def hostile_files(trace: Path, done: list[dict[str, str]]) -> None:
    """Give each hostile file to everything that reads its kind, and look for the trace."""
    pictures = Path("photos")
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (pictures / split / name).mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(pictures / split / name / "1.png")

    def attempt(kind: str, reader: str, call: Callable[[], object]) -> None:
        told = ending(call)
        done.append({"kind": kind, "reader": reader, "ending": told, "run": str(trace.exists())})
        trace.unlink(missing_ok=True)

    array = np.array([Hostile(trace)], dtype=object)
    for name, save in (("a.npy", np.save), ("b.npz", np.savez)):
        folder = Path(f"arrays-{name}")
        folder.mkdir()
        save(folder / name, array, allow_pickle=True)
        attempt("picture", name, lambda own=folder: _first_batch(own))  # type: ignore[misc]
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(SimCLR("resnet8", width=0.125, image_size=16))
    trainer.save_checkpoint("small.ckpt")
    words = ("embed", "--ckpt_path", "small.ckpt", "--output", "features.npz", "--root", pictures, *EMBED)
    with patch("simclr_lightning.embed.embed._finish", lambda *_: None), redirect_stderr(StringIO()):
        command(*words)  # stops before the file is put together
    for part in Path("features.npz.parts").glob("*.npz"):
        np.savez(part, features=array, allow_pickle=True)
        attempt("features", "embed", lambda: command(*words))
    if find_spec("litdata") is None:
        print("packed data: not tried, since litdata is not installed")
    else:
        packed = pack_pictures(pictures, "packed")
        for file in sorted((packed / "train").glob("*.npy")):
            whole = file.read_bytes()
            np.save(file, array, allow_pickle=True)
            attempt("packed data", file.name, lambda: SimCLRDataModule("packed", packed).setup())
            file.write_bytes(whole)
    with served() as address:
        for kind, path in hostile_checkpoints(trace):
            for reader, call in functions(str(path)).items():
                attempt(kind, reader, call)
            if "-zip" in path.name:
                for reader, call in commands(str(path), pictures).items():
                    attempt(kind, reader, call)
                place = f"{address}/{path}"
                for reader, call in (functions(place) | commands(place, pictures)).items():
                    attempt(f"address of a {kind}", reader, call)


def _first_batch(folder: Path) -> None:
    data = SimCLRDataModule("folder", folder, batch_size=1, num_workers=0)
    data.setup("fit")
    next(iter(data.clean_dataloader("train")))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the bits")
    parser.add_argument("--output", type=Path, default=Path("runs/files.json"))
    options = parser.parse_args()
    output = options.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="files") as folder:
        os.chdir(folder)
        flips = flip_bits(options.flips, random.Random(options.seed))
        print(flips, flush=True)
        hostile = list[dict[str, str]]()
        try:
            hostile_files(Path(folder, "trace"), hostile)
        finally:
            os.chdir("/")
            output.write_text(json.dumps({"flips": flips, "hostile": hostile}, indent=1))
    for kind in dict.fromkeys(own["kind"] for own in hostile):
        of_it = [own for own in hostile if own["kind"] == kind]
        endings = {
            told: sum(own["ending"] == told for own in of_it) for told in sorted({own["ending"] for own in of_it})
        }
        print(f"{kind}: {sum(own['run'] == 'True' for own in of_it)} of {len(of_it)} were run; {endings}")
    missed = flips["found"] < options.flips or flips["before it used"] < options.flips
    sys.exit(missed or any(own["run"] == "True" for own in hostile))


if __name__ == "__main__":
    main()
