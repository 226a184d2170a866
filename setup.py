"""What pyproject.toml cannot say: the recipes of experiments/ travel inside of the package."""

from __future__ import annotations

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


setup(cmdclass={"build_py": BuildWithRecipes})
