"""`simclr evaluate` and `simclr label_curve` on digits, as a user types them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from simclr_lightning.errors import InputError

Simclr = Callable[..., None]
TINY = ["--model.encoder", "resnet8", "--model.width", "0.125", "--model.stem", "pooled"]
DATA = ["--data.label_fraction", "0.2", "--trainer.accelerator", "cpu"]
CHECKPOINT = Path("runs/simclr/pretrained/checkpoints/last.ckpt")
PROTOCOLS = ["linear", "linear@10%", "linear_sgd", "knn", "knn_plain", "transfer", "finetune@10%", "finetune@100%"]


@pytest.fixture
def pretrained(simclr: Simclr) -> list[str]:
    """The arguments that name a checkpoint of one short epoch."""
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]
    settings = ["--data.batch_size", "64", "--trainer.log_every_n_steps", "1", "--trainer.logger.version", "pretrained"]
    simclr("fit", *TINY, *DATA, *short, *settings)
    return [*DATA, "--ckpt_path", str(CHECKPOINT)]


def figures_of(folder: str | Path) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = json.loads((Path(folder) / "evaluation.json").read_text())["figures"]
    return figures


def test_every_protocol_through_the_command_line(
    simclr: Simclr, pretrained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    finetune = ["--finetune.epochs", "2", "--finetune.draws", "2"]
    others = ["--others", "{supervised: " + str(CHECKPOINT) + "}"]
    simclr("evaluate", *pretrained, "--protocols", ",".join(PROTOCOLS), "--draws", "3", *finetune, *others)

    figures = {(figure["encoder"], figure["protocol"]): figure for figure in figures_of("runs/simclr/pretrained")}
    encoders = ["raw pixels", "random encoder", "pre-trained encoder", "supervised"]
    without_network = [name for name in PROTOCOLS if not name.startswith("finetune")]
    assert figures.keys() == {
        (encoder, name) for encoder in encoders for name in (PROTOCOLS if encoder != "raw pixels" else without_network)
    }
    for name in PROTOCOLS:  # the same encoder twice
        one, other = (figures[encoder, name] for encoder in ("pre-trained encoder", "supervised"))
        assert one["accuracies"] == other["accuracies"], name
        assert one["checkpoint"] == other["checkpoint"] == str(CHECKPOINT)
    draws = {"linear@10%": (28, 3), "finetune@10%": (28, 2)}
    for (_, name), figure in figures.items():
        assert (figure["labels"], figure["draws"]) == draws.get(name, (287, 1))
        assert (figure["test_split"], figure["test_pictures"], figure["seed"]) == ("test", 360, 0)
        assert 0 <= figure["accuracy"] <= 100
    assert figures["raw pixels", "transfer"]["also"][0].keys() == {"strength", "validation_accuracy"}
    assert figures["random encoder", "finetune@10%"]["also"][0].keys() == {"top5", "mean_per_class"}
    assert figures["random encoder", "finetune@10%"]["settings"]["epochs"] == 2

    assert [folder.name for folder in Path("runs/simclr").iterdir()] == ["pretrained"]
    printed = capsys.readouterr().out
    assert "–" in printed
    assert "random encoder, finetune@10%:" in printed  # told when it is known
    assert "trained from scratch" in printed.replace("\n", " ")


def test_the_command_beside_a_figure_gives_it_again(simclr: Simclr, pretrained: list[str]) -> None:
    settings = ["--finetune.epochs", "2", "--finetune.draws", "2", "--draws", "2", "--seed", "3", "--picture=false"]
    simclr("evaluate", *pretrained, "--protocols=finetune@10%,linear@10%", *settings, "--output", "here")
    for protocol in ("finetune@10%", "linear@10%"):
        expected = [figure for figure in figures_of("here") if figure["protocol"] == protocol]
        (command,) = {figure["command"] for figure in expected}
        simclr(*shlex.split(command)[1:])
        again = figures_of(Path("here", protocol))
        assert [(figure["encoder"], figure["accuracies"]) for figure in again] == [
            (figure["encoder"], figure["accuracies"]) for figure in expected
        ]
    assert len(figures_of("here")) > len(again)  # the first file is left alone


@pytest.mark.parametrize(("command", "settings"), [("evaluate", ["--protocols", "knn"]), ("label_curve", [])])
def test_a_checkpoint_is_read_once_for_a_command(
    command: str, settings: list[str], simclr: Simclr, pretrained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = torch.load

    def watching(file: IO[bytes], **options: Any) -> Any:
        read.append(Path(file.name))
        return load(file, **options)

    monkeypatch.setattr(torch, "load", watching)
    few = ["--counts", "[1]", "--draws", "2"] if command == "label_curve" else []
    simclr(command, *pretrained, *settings, *few, "--others.again", CHECKPOINT)
    assert read == [CHECKPOINT]


@pytest.mark.parametrize(
    ("command", "settings", "written"),
    [
        ("evaluate", ["--protocols", "knn"], {"evaluation.json", "features.png"}),
        ("label_curve", ["--counts", "[1]", "--draws", "2"], {"label_curve.json", "label_curve.md", "label_curve.png"}),
    ],
)
@pytest.mark.usefixtures("pretrained")
def test_a_run_that_is_judged_by_its_own_config_keeps_its_records(
    command: str, settings: list[str], written: set[str], simclr: Simclr
) -> None:
    run = CHECKPOINT.parent.parent
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert run / "metrics.csv" in before
    simclr(command, "--config", run / "config.yaml", "--ckpt_path", CHECKPOINT, *settings)
    after = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert after.keys() == before.keys() | {run / name for name in written}
    assert all(after[path] == content for path, content in before.items())
    assert [folder.name for folder in run.parent.iterdir()] == ["pretrained"]  # no other version


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--protocols", "linear,lienar"], "Unknown protocol 'lienar'"),
        (["--protocols", "finetune@200%"], "at most 100 %"),
        (["--protocols", "finetune@1%"], "leaves class"),
        (["--draws", "0"], "draws is 0"),
        (["--finetune.epochs", "0"], "epochs of fine-tuning is 0"),
        (["--others.supervised", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_mistakes_are_named_before_anything_is_computed(
    typed: list[str], message: str, simclr: Simclr, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        simclr("evaluate", *TINY, *DATA, *typed)
    assert "raw pixels" not in capsys.readouterr().out
    assert not list(Path().rglob("evaluation.json"))


@pytest.mark.parametrize("change", ["missing", "extra"])
@pytest.mark.parametrize("command", ["evaluate", "label_curve"])
def test_a_checkpoint_that_does_not_load_completely_is_refused(
    command: str, change: str, simclr: Simclr, pretrained: list[str]
) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    if change == "missing":
        del content["state_dict"]["encoder.conv1.weight"]
    else:
        content["state_dict"]["encoder.surplus"] = torch.zeros(1)
    torch.save(content, CHECKPOINT)
    with pytest.raises(ValueError, match=r"encoder\.conv1\.weight|encoder\.surplus"):
        simclr(command, *pretrained)


def test_the_label_curve_through_the_command_line(simclr: Simclr, pretrained: list[str]) -> None:
    settings = ["--counts", "[1,5]", "--draws", "2", "--others.supervised", CHECKPOINT, "--output", "curve"]
    simclr("label_curve", *pretrained, *settings)
    content = json.loads(Path("curve/label_curve.json").read_text())
    encoders = ["raw pixels", "random encoder", "pre-trained encoder", "supervised"]
    assert [(point["encoder"], point["labels_per_class"], point["labels"]) for point in content["points"]] == [
        (encoder, count, labels) for encoder in encoders for count, labels in ((1, 10), (5, 50), ("all", 287))
    ]
    assert content["dataset"] == "digits"
    assert "| all | 287 |" in Path("curve/label_curve.md").read_text()
    assert Path("curve/label_curve.png").stat().st_size > 20_000
    simclr(*shlex.split(content["command"])[1:])
    assert json.loads(Path("curve/label_curve.json").read_text())["points"] == content["points"]
