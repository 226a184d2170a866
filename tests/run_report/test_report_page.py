"""The page: whole, readable without a network, and nothing in a run's files becomes a part of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from simclr_lightning.console import main
from simclr_lightning.errors import InputError
from simclr_lightning.run_report import report_runs

EVIL = "</style></title><script>alert('x')</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
VOID = {"meta", "img", "input", "br", "link"}
CONFIG = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 3, "logger": {"class_path": "CSVLogger", "init_args": {"name": "digits"}}},
    "model": {
        "class_path": "simclr_lightning.SimCLR",
        "init_args": {
            "encoder": "resnet8",
            "width": 0.5,
            "projection_dim": 128,
            "loss": {"class_path": "simclr_lightning.losses.NTXentLoss", "init_args": {"temperature": 0.5}},
        },
    },
    "data": {"class_path": "simclr_lightning.SimCLRDataModule", "init_args": {"dataset": "digits", "batch_size": 128}},
}
FIGURE = {
    "encoder": "pre-trained encoder", "protocol": "linear@1%", "accuracy": 62.5, "standard_deviation": 0.71,
    "interval": [61.6, 63.4], "accuracies": [62.0, 63.0], "metric": "top1", "what": "logistic regression", "labels": 14,
    "draws": 2, "seed": 0, "test_split": "test", "test_pictures": 360, "checkpoint": None, "command": "simclr evaluate",
}  # fmt: skip


class Page(HTMLParser):
    """What a page consists of; complains of what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())
        self.text += " " * (tag in ("td", "th"))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check(html: str) -> Page:
    """What every page must be."""
    page = Page(html)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/", "#")), target
    markup = re.sub(r'src="data:[^"]*"', "", html)
    assert "url(http" not in markup
    assert "@import" not in markup
    ids = [own["id"] for _, own in page.tags if "id" in own]
    assert len(ids) == len(set(ids))
    targets = {str(own["href"]).removeprefix("#") for _, own in page.tags if "href" in own}
    targets |= set(re.findall(r"url\(#([^)]+)\)", markup)) | {str(own["for"]) for own in page.of("label")}
    assert targets <= set(ids)
    assert all(own.get("alt") for own in page.of("img"))
    assert all(own.get("aria-label") for own in page.of("svg"))
    assert all(own.get("scope") in ("row", "col") for own in page.of("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    return page


def write_run(folder: Path, *, config: object = None, rows: int = 30, epochs: int = 3) -> Path:
    """A run with a loss that falls from 5 to 4, a probe and a rate."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config or CONFIG, sort_keys=False))
    lines = ["epoch,lr-SGD/pg1,lr-SGD/pg2,probe/train_top1,step,train/loss,health/projections_std"]
    for step in range(rows):
        epoch = step * epochs // rows
        lines += [f",{0.1 * (rows - step)},{0.1 * (rows - step)},,{step},,", f"{epoch},,,,{step},{5 - step / rows},"]
        if (step + 1) * epochs % rows < epochs:
            lines.append(f"{epoch},,,{0.3 + epoch / 10},{step},,0.087")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def picture(file: Path, colour: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 10, 200)).save(file)


def test_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "runs" / "digits" / "one")
    started = {
        "date": "2026-11-27 14:38 +0000",
        "command": "simclr fit --config quickstart",
        "versions": {"torch": "2.14.1"},
        "changed": {"model": {"class_path": "simclr_lightning.SimCLR", "init_args": {"width": 0.5}}},
    }
    (run / "started.json").write_text(json.dumps(started))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "evaluation.json").write_text(json.dumps({"unit": "percent", "figures": [FIGURE]}))
    for epoch in range(3):
        picture(run / "pictures" / "health" / "pairs" / f"epoch={epoch}-step={10 * epoch}.png", epoch)
    picture(run / "views" / "epoch=0.png")
    main(["report", str(run)])
    assert re.fullmatch(rf"Report: {re.escape(str(run / 'report.html'))} \(\d+ kB\)\n", capsys.readouterr().out)
    html = (run / "report.html").read_text()
    page = check(html)
    for told in (
        *(
            "digits/one",
            "resnet8, width 0.5",
            "NTXentLoss, temperature 0.5",
            "3 logged of 3",
            "30 logged",
            "torch 2.14.1",
        ),
        *("2026-11-27 14:38 +0000", "simclr fit --config quickstart", "options that are not their defaults"),
        *("62.5 ± 0.7 [61.6, 63.4]", "Nothing wrong was found.", "epoch 2, step 20", "4.033", "health/projections_std"),
    ):
        assert told in page.text, told
    labels = [own["aria-label"] for own in page.of("svg")]
    assert "loss by epoch. train: 5 at first, 4.033 at last." in labels
    radios = page.of("input")
    assert ["checked" in own for own in radios] == [False, False, True]
    shown = [Image.open(BytesIO(b64decode(str(own["src"]).partition(",")[2]))) for own in page.of("img")]
    assert [image.convert("RGB").getpixel((0, 0)) for image in shown] == [(epoch, 10, 200) for epoch in (0, 1, 2, 0)]


def test_several_runs_and_their_differences(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "runs" / "one")]
    other = json.loads(json.dumps(CONFIG))
    other["data"]["init_args"]["batch_size"] = 512
    runs.append(write_run(tmp_path / "runs" / "two", config=other, rows=60))
    output = tmp_path / "both.html"
    main(["report", "--output", str(output), *map(str, runs), "--axis", "step"])
    page = check(output.read_text())
    assert "2 runs side by side" in page.text
    assert "1 of 13 options differ" in page.text
    assert "<mark>512</mark>" in output.read_text()
    (loss,) = [str(own["aria-label"]) for own in page.of("svg") if "loss" in str(own["aria-label"])]
    assert loss == "loss (train) by step. one: 5 at first, 4.033 at last. two: 5 at first, 4.017 at last."
    rates = [own for own in page.of("svg") if str(own["aria-label"]).startswith("lr")]
    assert len(rates) == 1  # both groups of parameters have the same


def test_nothing_in_the_files_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    """Names of runs, options, values, metrics, encoders, pictures; also what a terminal or XML would choke on."""
    config = {
        EVIL: {"deeper": EVIL},
        "model": {"class_path": EVIL, "init_args": {"encoder": EVIL, "loss": "{{ 7 * 7 }}"}},
    }
    run = write_run(tmp_path / "runs" / "<script>alert(1)<" / "script>\x1b[1m$x$", config=config)
    quoted = EVIL.replace('"', '""')
    (run / "metrics.csv").write_text(
        f'epoch,step,"{quoted}","{quoted}/train_top1",$\\frac\n0,1,4.5,0.3,2\n1,2,4,0.4,3\n'
    )
    figure = FIGURE | {"encoder": EVIL, "protocol": EVIL, "what": EVIL, "command": EVIL}
    content = {"unit": "percent", "figures": [figure], "notes": [EVIL], "versions": {EVIL: EVIL}}
    (run / "evaluation.json").write_text(json.dumps(content))
    (run / "started.json").write_text(json.dumps({"date": EVIL, "command": EVIL, "changed": {EVIL: EVIL}}))
    picture(run / "pictures" / "<b>\"'><img src=x onerror=alert(1)>" / "epoch=0-step=1.png")
    (run / "pictures" / "x.png").write_text("<svg onload=alert(1)>")
    for runs, output in (([run], tmp_path / "one.html"), ([run, run], tmp_path / "two.html")):
        html = report_runs([str(own) for own in runs], output=str(output)).read_text()
        page = check(html)
        assert "<script" not in html
        assert "\x1b" not in html
        assert EVIL in page.text  # as text, for everybody to read
        assert "{{ 7 * 7 }}" in page.text
        assert page.text.count("Picture left out: ") == len(runs)


@pytest.mark.parametrize("damage", ["config", "metrics", "header", "half", "evaluation", "picture", "empty", "nul"])
def test_what_is_damaged_is_told_and_the_rest_is_shown(tmp_path: Path, damage: str) -> None:
    run = write_run(tmp_path / "run")
    metrics = run / "metrics.csv"
    told = ""
    match damage:
        case "config":
            (run / "config.yaml").write_text("a: [")
            told = "config.yaml cannot be read: it is no YAML"
        case "metrics":
            metrics.unlink()
            told = "There is no metrics.csv"
        case "header":
            metrics.write_text(metrics.read_text().partition("\n")[0] + "\n")
            told = "metrics.csv holds no numbers yet."
        case "half":
            metrics.write_text(metrics.read_text() + "2,,,0.9")
            told = "The last line of metrics.csv is cut off, and left out."
        case "evaluation":
            (run / "evaluation.json").write_text('{"unit": "percent", "figures": [{"encoder": 1}]}')
            (run / "label_curve.json").write_text('{"unit": "perc')
            told = "evaluation.json is not as simclr writes it"
        case "picture":
            picture(run / "views" / "epoch=0.png", size=(300, 300))
            (run / "views" / "epoch=1.png").write_bytes((run / "views" / "epoch=0.png").read_bytes()[:200])
            told = "epoch=1.png (it cannot be read)"
        case "empty":
            metrics.write_text("")
            told = "metrics.csv has no column step"
        case "nul":
            metrics.write_bytes(metrics.read_bytes() + b"\xff\x00,1,2\n")
            told = "0.3"
    page = check(report_runs([str(run)]).read_text())
    assert told in page.text
    assert "Missing or damaged" in page.text or damage == "nul"
    assert ("4.033" in page.text) == (damage not in ("metrics", "header", "empty"))


def test_a_resumed_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "config-2.yaml").write_text(yaml.safe_dump(CONFIG | {"seed_everything": 7}, sort_keys=False))
    (run / "config-10.yaml").write_text((run / "config-2.yaml").read_text())
    page = check(report_runs([str(run)]).read_text())
    text = " ".join(page.text.split())
    assert "It went on with config-2.yaml: option before in config-2.yaml seed_everything 0 7" in text
    assert "It went on with config-10.yaml, which says the same." in text


@pytest.mark.parametrize(
    ("std", "rank", "above", "loss", "told"),
    [
        (0.0, 1.0, 1.0, 3.9, "Complete collapse: all pictures look the same: unit projections have a standard"),
        (0.04, 2.0, 1.0, 3.9, "Dimensional collapse: the projections use few of their 128 dimensions"),
        (0.088, 60, 0.01, 3.9, "Loss at its floor: the loss is 3."),
        (0.088, 60, 1.0, "nan", "NaN or infinite: train/loss is not finite at the end"),
    ],
)
def test_words_of_a_run_that_is_ill(
    tmp_path: Path, std: float, rank: float, above: float, loss: object, told: str
) -> None:
    """Those of doctor, which is asked because the numbers look ill."""
    runs = [write_run(tmp_path / "run"), write_run(tmp_path / "healthy")]
    names = "epoch,step,train/loss,health/projections_std,health/projections_rank,health/loss_above_floor\n"
    (runs[0] / "metrics.csv").write_text(names + f"0,9,5.4,0.088,60,2\n1,19,{loss},{std},{rank},{above}\n")
    page = check(report_runs([str(run) for run in runs], output=str(tmp_path / "page.html")).read_text())
    assert told in page.text
    assert page.text.count("Nothing wrong was found.") == 1


def test_a_learned_temperature_is_that_of_the_end(tmp_path: Path) -> None:
    """At 1 the loss could not be so near to its floor; at 0.05, which was learned, it is at it."""
    learned = {"class_path": "simclr_lightning.losses.LearnedTemperatureNTXent", "init_args": {"temperature": 1.0}}
    data = {"class_path": "simclr_lightning.SimCLRDataModule", "init_args": {"batch_size": 128}}
    model = {"class_path": "simclr_lightning.SimCLR", "init_args": {"encoder": "resnet8", "loss": learned}}
    run = write_run(tmp_path / "run", config={"model": model, "data": data})
    names, rows = "epoch,step,health/loss_above_floor,train/contrast_temperature\n", ("0,9,0.1,1", "1,19,0.1,0.05")
    told = []
    for last in rows:
        (run / "metrics.csv").write_text(names + last + "\n")
        told.append(
            "Loss at its floor: the loss is 0.1000, its floor 0.0000" in check(report_runs([str(run)]).read_text()).text
        )
    assert told == [False, True]


def test_many_pictures_take_no_more_room_than_they_may(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for epoch in range(40):
        picture(run / "views" / f"epoch={epoch}.png", epoch)
    noise = np.random.default_rng(0).integers(0, 256, (600, 1700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "large.png")
    (run / "views" / "loop").symlink_to(run, target_is_directory=True)
    page = check(report_runs([str(run)], steps=4).read_text())
    assert [own["alt"] for own in page.of("img")] == [
        "large.png", *(f"views, epoch {epoch}" for epoch in (0, 13, 26, 39)),
    ]  # fmt: skip
    assert (page.of("img")[0]["width"], page.of("img")[0]["height"]) == ("1600", "565")
    page = check(report_runs([str(run)], steps=4, megabytes=0.0).read_text())
    assert not page.of("img")
    assert "large.png (no room: --megabytes)" in page.text


def test_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/digits/version_0"))
    Path("mine.html").write_text("<html>mine</html>")
    run = "runs/digits/version_0"
    for words, told in (
        ([], "`simclr report` needs RUNS"),
        (["runs/none"], "There is no folder runs/none"),
        (["runs/digits"], "did you mean one in it, such as runs/digits/version_0"),
        (["runs"], "did you mean one in it, such as runs/digits/version_0"),
        ([f"{run}/config.yaml"], rf"name its folder \(simclr report {run}\)"),
        ([run, run], r"--output report.html"),
        ([run, "--output", "mine.html"], "mine.html exists, and simclr report has not written it"),
        ([run, "--output", "page.pdf"], r"ends in .html \(--output page.html\)"),
        ([run, "--axis", "time"], "expected epoch or step"),
        ([run, "--steps", "0"], "steps is 0"),
        ([run, "--megabytes", "-1"], "megabytes is -1"),
        ([run] * 19 + ["--output", "a.html"], "no more than 18"),
        ([run, "--ouput", "a.html"], "did you mean --output"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            main(["report", *words])
        assert len(str(caught.value).splitlines()) <= 3
    assert Path("mine.html").read_text() == "<html>mine</html>"
    assert not Path(run, "report.html").exists()


def test_it_does_not_wait_for_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    code = f"""
import sys
from simclr_lightning.console import main
main(["report", {str(run)!r}])
heavy = {{"torch", "lightning", "scipy", "sklearn", "matplotlib.pyplot"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_shows_it(tmp_path: Path) -> None:
    """Without a network, and without anything that its console complains of."""
    run = write_run(tmp_path / "run" / "<script>document.title='evil'<")
    picture(run / "views" / "epoch=0.png", size=(300, 100))
    file = report_runs([str(run)], output=str(tmp_path / "page.html"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--window-size=390,2000", f"--screenshot={tmp_path / 'page.png'}"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "<title>" in done.stdout
    assert "<title>evil" not in done.stdout
    assert done.stdout.count("<svg") == file.read_text().count("<svg")
    if (tmp_path / "page.png").exists():  # old versions do one of both
        assert len(np.unique(np.asarray(Image.open(tmp_path / "page.png").convert("L")))) > 10
