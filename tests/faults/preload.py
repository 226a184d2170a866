"""What every training of the campaign has imported when it is forked."""

from __future__ import annotations

from importlib import import_module

from numba.core.registry import cpu_target

NAMES = ("lightning.pytorch", "simclr_lightning.cli", "simclr_lightning.views.compiled_crop", "sklearn.datasets")

for name in (*NAMES, "PIL.Image", "rich.console"):
    import_module(name)
cpu_target.target_context.refresh()  # numba's list of what it knows, by far the longest of its start
