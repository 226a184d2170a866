"""The tutorial, docs/tutorial.ipynb: `make docs` runs it in full, this test with fewer pictures and epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
SMALLER = {
    "zip(digits.images / 16, digits.target)": "zip(digits.images[:200] / 16, digits.target)",
    "epochs = 40": "epochs = 2",
    "(3, 100, 250)": "(3, 10, 25)",
    "linear@1%": "linear@10%",
    '"torch_export", "encoder.pt2"': '"torchscript", "encoder.pt"',  # seconds for what test_export.py tests
    'torch.export.load("encoder.pt2").module()': 'torch.jit.load("encoder.pt")',
}


def cells(kind: str) -> list[Any]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_notebook_is_clean() -> None:
    """As somebody sees it who opens it: no outputs of an older run."""
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells("code"))
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    used: set[str] = set()
    names: dict[str, Any] = {"__name__": "__main__"}
    with mpl.rc_context():
        for cell in cells("code"):
            code = "".join(line for line in cell["source"] if not line.startswith("%%"))
            for whole, smaller in SMALLER.items():
                if whole in code:
                    used.add(whole)
                    code = code.replace(whole, smaller)
            exec(compile(code, "cell", "exec"), names)
            plt.close("all")
    assert used == set(SMALLER)
    assert names["found"].accuracy("pre-trained encoder", "knn") > 10
    assert names["difference"] < 1e-4
