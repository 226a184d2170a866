"""What is asked of ``evaluate`` and ``label_curve``, checked before data or a model are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simclr_lightning.errors import check_folder, check_number
from simclr_lightning.evaluation.compare import parse_protocols
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.evaluation.protocols import check_draws


def check_judgement(asked: Mapping[str, Any]) -> None:
    """Raise InputError if an argument of ``evaluate`` or ``label_curve`` is out of range.

    Args:
        asked: arguments by name, ``finetune`` an object of its fields; those that are missing are not checked.

    Example:
        >>> check_judgement({"protocols": "knn", "draws": 0})
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: draws is 0: choose a number of at least 1 and at most 1,000,000 \
(--draws 10).
    """
    check_draws(asked.get("draws", 1), asked.get("seed", 0))
    for count in asked.get("counts") or []:
        check_number("counts", count, "counts [1,10]", least=1)
    check_folder("output", asked.get("output"), "output FOLDER")
    if asked.get("finetune") is not None:
        FineTuneRecipe(**vars(asked["finetune"]))  # complains of its values
    if asked.get("protocols") is not None:
        parse_protocols(asked["protocols"])
