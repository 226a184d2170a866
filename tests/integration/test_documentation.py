"""Every command and every Python block of README and docs runs as written, scaled down by overrides."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from simclr_lightning.data import SOURCES

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.md")])
INDEX = ROOT / "experiments" / "README.md"  # whose commands test_experiments.py runs
OPTIONAL = ("faiss", "fiftyone", "pl_bolts")  # a block that imports one runs where it is installed
EXTRAS = (("TensorBoardLogger", "tensorboard"), ("MLFlowLogger", "mlflow"))
SCALED_DOWN = {
    "describe": "",
    "doctor": "",
    "init": "",
    "embed": "--num_workers 0 --accelerator cpu",
    "export": "",
    "pack": "",
    "report": "",
    "ablate": "--epochs 1 --batch_size 8 --width 0.125 --views.size 16 --operations crop,colour --accelerator cpu",
    "fit": "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1 --data.batch_size 8 "
    "--data.num_workers 0 --data.views.size 24 --trainer.accelerator cpu --trainer.devices 1",
    "evaluate": "--data.num_workers 0 --trainer.accelerator cpu --draws 2 --finetune.epochs 1 --finetune.draws 1 "
    "--picture false",
    "label_curve": "--data.num_workers 0 --trainer.accelerator cpu --draws 2 --counts [1]",
}


@pytest.fixture
def workplace(
    tmp_path: Path,
    photos: Path,
    fashion_mnist: Path,
    write_pictures: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A folder that looks like a clone with some photos, CIFAR-10 and Fashion-MNIST in it."""
    write_pictures("cifar10", ["train/cat", "train/dog", "test/cat", "test/dog"], smallest=32, largest=32)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    registered = dict(SOURCES)
    yield tmp_path
    SOURCES.clear()
    SOURCES.update(registered)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != INDEX], ids=lambda page: str(page.relative_to(ROOT))
)
def test_page_runs(page: Path, workplace: Path, simclr: Callable[..., None]) -> None:
    for language, block in re.findall(r"^```(python|bash|yaml)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        if language == "python":
            run_python(block, workplace)
        elif language == "yaml":
            (name,) = re.findall(r"\A# (\w+\.yaml)\n", block)
            (workplace / name).write_text(block)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run_command(shlex.split(line, comments=True), simclr)


def run_python(block: str, workplace: Path) -> None:
    """Blocks that begin with the name of a file are modules; the others are scripts."""
    if any(re.search(rf"^(import|from) {name}\b", block, re.MULTILINE) and not find_spec(name) for name in OPTIONAL):
        return
    module = re.match(r"# (\w+\.py)\n", block)
    if module:
        (workplace / module[1]).write_text(block)
    exec(compile(block, "block", "exec"), {"__name__": "__main__"})


def run_command(words: list[str], simclr: Callable[..., None]) -> None:
    match words:
        case []:
            pass
        case ["simclr", *_] if any(logger in word and not find_spec(name) for word in words for logger, name in EXTRAS):
            pass  # of a package that make test does not install
        case ["simclr", subcommand, *rest]:
            asks_for_help = any("help" in word for word in rest)
            simclr(subcommand, *rest, *([] if asks_for_help else scaled_down(subcommand, rest)))
        case ["python", script, kind, output] if script.endswith("make_pictures.py"):
            subprocess.run([sys.executable, script, kind, output, "--number", "32"], check=True)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["cp", source, "."]:
            shutil.copy(source, ".")
        case ["pip", "install", *_]:
            pass  # make test has installed the package
        case _:
            pytest.fail(f"do not know how to run {shlex.join(words)}")


def scaled_down(subcommand: str, words: list[str]) -> list[str]:
    """What is added to a command."""
    added = SCALED_DOWN[subcommand].split()
    if "two_sizes.yaml" in words:  # a list of recipes has no size of its own
        place = added.index("--data.views.size")
        del added[place : place + 2]
    if subcommand == "fit" and "--ckpt_path" in words:  # a run that is finished does not go on
        added[added.index("--trainer.max_epochs") + 1] = "2"
    if any("EmbeddingPictures" in word for word in words):
        added += ["--trainer.callbacks.pictures", "20"]
    if "ModelParallelStrategy" in words:
        added += ["--trainer.strategy.data_parallel_size", "1"]  # as many as devices
    if subcommand == "evaluate" and "--protocols" not in words:
        added += ["--protocols", "linear,knn"]  # sixteen photos have no 1 %
    elif subcommand == "evaluate" and any(name in word for word in words for name in ("cifar10", "domains")):
        typed = words[words.index("--protocols") + 1]
        added += ["--protocols", re.sub(r"@[\d.]+%", "@50%", typed)]  # few pictures, too
    if any(word in ("quickstart", "quickstart_supervised", "from_solo.yaml") for word in words):
        added += ["--model.width", "0.125"]
    return added


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
