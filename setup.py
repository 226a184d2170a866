"""What pyproject.toml cannot say: recipes travel inside of the package, the README's links lead to the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copies the YAML files of experiments/ into the package that is built."""

    def run(self) -> None:
        """Build, and copy; an editable installation finds them where they are."""
        super().run()
        if self.editable_mode:
            return
        for recipe in sorted(Path("experiments").rglob("*.yaml")):
            target = Path(self.build_lib, "simclr_lightning", recipe)
            self.mkpath(str(target.parent))
            self.copy_file(str(recipe), str(target))


def readme(repository: str) -> str:
    """README.md, whose links to files lead to the repository, if its address is known: a page elsewhere has none."""
    text = Path("README.md").read_text(encoding="utf-8")
    if repository:
        for start, view in ((r"!\[", "raw"), (r"(?<!!)\[", "blob")):
            text = re.sub(rf"({start}[^]]*\]\()(?![a-z]+:|#)", rf"\g<1>{repository}/{view}/main/", text)
    return text


if __name__ in ("__main__", "builtins"):  # as a script, as pip and build run it
    setup(
        cmdclass={"build_py": BuildWithRecipes},
        long_description=readme(os.environ.get("REPOSITORY", "")),
        long_description_content_type="text/markdown",
    )
