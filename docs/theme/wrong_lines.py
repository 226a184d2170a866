"""Renews the messages in docs/command_line.md, by running its wrong command lines: python docs/theme/wrong_lines.py.

With ``--check N`` every N-th of them is run, and those that say something else are printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[1] / "command_line.md"
_LINE = re.compile(r"^\$ simclr (.+)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


def lines(page: str) -> Iterator[tuple[str, str]]:
    """What is typed after ``simclr``, and the message that the page has."""
    for found in _LINE.finditer(page):
        yield found[1], found[2].rstrip("\n")


def make_place(folder: Path) -> None:
    """What there is where the commands are typed: labelled photos, a checkpoint, a run and configurations."""
    import torch
    from PIL import Image

    from simclr_lightning import SimCLR

    for number, part in enumerate(f"{split}/{name}" for split in ("train", "val", "test") for name in ("cat", "dog")):
        (folder / "photos" / part).mkdir(parents=True)
        for index in range(4):
            colour = (40 * number, 60 * index, 90)
            Image.new("RGB", (20 + index, 24), colour).save(folder / "photos" / part / f"{index}.jpg")
    model = SimCLR("resnet8", width=0.125, stem="cifar", image_size=16, in_channels=1)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save({**content, "pytorch-lightning_version": "2.6.0"}, folder / "small.ckpt")
    run = folder / "runs" / "simclr" / "one"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(folder / "small.ckpt", run / "checkpoints" / "last.ckpt")
    (run / "metrics.csv").write_text("epoch,step\n0,1\n")
    (folder / "twice.yaml").write_text("trainer: {max_epochs: 3}\ntrainer: {max_steps: 3}\n")
    (folder / "typing.yaml").write_text("model:\n  temprature: 0.1\n")


def message_of(typed: str) -> str:
    """What the command says, in this process and the current folder; it must be refused."""
    from simclr_lightning.console import main
    from simclr_lightning.errors import InputError

    try:
        main(shlex.split(typed))
    except InputError as error:
        return str(error)
    raise AssertionError(f"simclr {typed} was accepted")


def messages_of(typed: list[str]) -> dict[str, str]:
    """What the command says to each of these lines, typed in a folder that is made for them."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        make_place(Path(folder))
        os.chdir(folder)
        try:
            return {line: message_of(line) for line in typed}
        finally:
            os.chdir(here)


def main() -> None:
    """Write the page anew, or look at it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=int, metavar="N", help="write nothing: run every N-th line, and look at it")
    step = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    written = dict(lines(page))
    told = messages_of(list(written)[::step])
    if step:
        other = [f"$ simclr {typed}\n{told[typed]}" for typed in told if told[typed] != written[typed]]
        sys.exit("\n".join(other) or 0)
    renewed = _LINE.sub(lambda found: f"$ simclr {found[1]}\n{told[found[1]]}\n\n", page)
    PAGE.write_text(re.sub(r"\n\n```$", "\n```", renewed, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
