"""What a release is made of: one version, notes, links that work elsewhere, workflows that type what exists."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_there_is_one_version() -> None:
    assert make("version").stdout.strip() == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_release_notes_are_the_part_of_the_changelog_about_this_version(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    version = PROJECT["version"]
    changes = (
        f"# Changelog\n\n## Unreleased\n\n* later\n\n## {version} (today)\n\n### Added\n\n* new\n\n## 0.0.1\n\n* old\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(changes)
    assert make("release-notes", folder=tmp_path).stdout == "### Added\n* new\n"
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n* later\n")
    refused = make("release-notes", folder=tmp_path)
    assert refused.returncode
    assert "rename Unreleased" in refused.stderr


def test_links_of_the_readme_lead_to_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = runpy.run_path(str(ROOT / "setup.py"))["readme"]
    assert readme("") == (ROOT / "README.md").read_text()
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", readme("https://example.org/simclr"))
    assert len(links) > 20
    assert all(link.startswith("https://") for _, link in links)
    for picture, link in links:
        path = link.removeprefix(f"https://example.org/simclr/{'raw' if picture else 'blob'}/main/")
        assert path == link or (ROOT / path.partition("#")[0]).exists(), link


def test_the_oldest_versions_are_those_of_the_project() -> None:
    floors = {}
    for line in PROJECT["dependencies"]:
        needed = Requirement(line)
        (only,) = needed.specifier
        assert only.operator == ">="
        floors[needed.name] = only.version
    lines = [Requirement(line) for line in (ROOT / "tests/oldest.txt").read_text().splitlines() if line[0] != "#"]
    assert {line.name: str(line.specifier) for line in lines} == {name: f"=={floor}" for name, floor in floors.items()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_types_what_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}  # what needs more says so itself
    made = 0
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        for step in job["steps"]:
            for target in re.findall(r"make (?:--silent )?((?:[a-z-]+ ?)+)", step.get("run", "")):
                made += 1
                assert set(shlex.split(target)) <= targets
    assert made


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_actions_by_commit(path: Path) -> None:
    """Whoever takes over an action can move its tags, and what a release runs with it."""
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v[\d.]+", line)] == []


def test_the_citation_and_the_forms_are_whole() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "references"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        fields = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= fields.keys()
        assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in fields["body"])
