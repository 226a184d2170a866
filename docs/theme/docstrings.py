"""For the generator of the site: what our docstrings have, and Google's style reads otherwise."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Sections named Example are code and not a remark; roles of Sphinx are names in code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a class, a function, an attribute or a module."""
        if obj.docstring is not None:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r":(?:attr|class|func|meth|mod):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
