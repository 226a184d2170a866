"""Recipes by name, wherever the package is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simclr_lightning import recipe_files
from simclr_lightning.cli import SimCLRCLI
from simclr_lightning.console import main
from simclr_lightning.errors import ExistingFileError, InputError
from simclr_lightning.recipe_files import find_recipe, recipes, sweeps, with_recipes, write_recipe

ROOT = Path(__file__).parents[1]


def test_all_experiments_are_recipes() -> None:
    files = set((ROOT / "experiments").rglob("*.yaml"))
    assert set(sweeps().values()) == set((ROOT / "experiments" / "sweeps").glob("*.yaml"))
    assert set(recipes().values()) == files - set(sweeps().values())


def test_a_sweep_is_no_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"is a sweep of W&B.*simclr init sweeps/augmentation, then wandb sweep"):
        main(["fit", "--config", "sweeps/augmentation"])
    main(["recipes"])
    assert "`simclr init NAME`: sweeps/augmentation, sweeps/temperature_rate_batch" in capsys.readouterr().out
    main(["init", "sweeps/augmentation"])
    assert capsys.readouterr().out.endswith("then: wandb sweep --project simclr augmentation.yaml\n")
    assert "simclr" in yaml.safe_load(Path("augmentation.yaml").read_text())["command"]


@pytest.mark.parametrize(
    "name", ["cifar10/cpu", "cifar10/cpu.yaml", "experiments/cifar10/cpu.yaml", "./experiments/cifar10/cpu.yaml"]
)
def test_names(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(name) == ROOT / "experiments" / "cifar10" / "cpu.yaml"


def test_an_own_file_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()  # somebody's pictures
    words = ["fit", "--config", "folder", "--config=quickstart", "-c", "cifar10/cpu.yaml", "--data.root", "folder"]
    of = ROOT / "experiments"
    expected = [f"{of / 'folder.yaml'}", f"--config={of / 'quickstart.yaml'}", "-c", f"{of / 'cifar10' / 'cpu.yaml'}"]
    assert with_recipes(words) == ["fit", "--config", *expected, "--data.root", "folder"]
    Path("quickstart").write_text("trainer: {max_epochs: 1}\n")
    assert with_recipes(words)[3] == "--config=quickstart"
    text = ["fit", "--config", "trainer: {max_epochs: 1}", "--trainer.logger", "--config"]
    assert with_recipes(text) == text


@pytest.mark.parametrize(
    ("typed", "alike"),
    [
        ("quikstart", "did you mean quickstart"),
        ("cifar10/cpu-best", "did you mean cifar10/cpu_best"),
        ("zzz", "`simclr"),
    ],
)
def test_no_such_recipe(typed: str, alike: str) -> None:
    with pytest.raises(InputError, match=f"There is no file '{typed}' and no recipe of this name: {alike}"):
        main(["fit", "--config", typed])


def test_a_recipe_is_its_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for config in ("experiments/quickstart.yaml", "quickstart"):
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit):
            main(["fit", "--config", config, "--trainer.max_epochs", "3", "--print_config"])
        printed.append(yaml.safe_load(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert printed[0]["trainer"]["max_epochs"] == 3


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter is intended")
def test_what_init_writes_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "folder", "--output", "own/mine.yaml"])
    assert "simclr fit --config own/mine.yaml --data.root PHOTOS" in capsys.readouterr().out
    assert yaml.safe_load(Path("own/mine.yaml").read_text()) == yaml.safe_load(find_recipe("folder").read_text())
    assert "experiments/" not in Path("own/mine.yaml").read_text()
    with pytest.raises(ExistingFileError, match=r"mine\.yaml exists, and is not overwritten.*--output"):
        main(["init", "folder", "--output", "own/mine.yaml"])
    main(["init", "quickstart"])
    with pytest.raises(SystemExit):
        SimCLRCLI(["fit", "--config", "quickstart.yaml", "--print_config"])
    for name in recipes():
        write_recipe(name, f"all/{name.replace('/', '-')}.yaml")
    assert len(list(Path("all").iterdir())) == len(recipes())


def test_a_clone_without_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_files, "_FOLDERS", ())
    with pytest.raises(InputError, match="no recipe of this name"):
        find_recipe("quickstart")


def test_a_built_package_has_them(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    built = tmp_path / "simclr_lightning" / "experiments"
    assert {path.relative_to(built) for path in built.rglob("*.yaml")} == {
        Path(f"{name}.yaml") for name in {**recipes(), **sweeps()}
    }
    command = [sys.executable, "-m", "simclr_lightning", "recipes"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True, timeout=60
    )
    assert "cifar10/cpu_best" in done.stdout
