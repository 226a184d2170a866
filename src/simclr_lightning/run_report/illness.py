"""Whether a run looks ill: what is told are the words of ``simclr doctor``, which is asked only where it matters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simclr_lightning.run_report.metric_columns import Floats, Metrics

_PROBE = re.compile(r"(?!train/|val/|test/|knn/).+/(train|val)_top1")

# Wider than the bounds of health_words, for which one must know the sizes of network and batch: what is healthy by
# these is healthy by those, of at least 64 dimensions.
_LITTLE_STD = 0.0125
_LITTLE_RANK = 6.5
_NEAR_THE_FLOOR = 0.03  # over the temperature; chance is no more than 1 over it above the floor, for one positive
_USUAL_TEMPERATURE = 0.05  # where it is not known, the lowest that is usual
_WAITING = 0.2
_CHANCE_OF_TWO = 0.53
_RISE_OF_A_PROBE = 0.1
_PROBE_EPOCHS = 5


def looks_ill(metrics: Metrics, temperature: float | None = None) -> bool:
    """Whether anything could be wrong, by the numbers that were logged.

    Args:
        metrics: of a run.
        temperature: of its loss, if that is known.

    Example:
        >>> from simclr_lightning.run_report.metric_columns import Column
        >>> looks_ill(Metrics({"health/projections_rank": Column(np.array([9.0]), np.array([1.0]))}))
        True
    """
    for name, (_, values) in metrics.columns.items():
        last, measured = values[-1], re.sub(r"^health/(features|projections)_", "health/", name)
        ill = {
            "health/std": last < _LITTLE_STD,
            "health/rank": last < _LITTLE_RANK,
            "health/loss_above_floor": last < _NEAR_THE_FLOOR / (temperature or _USUAL_TEMPERATURE),
            "time/data": last > _WAITING,
        }
        if not np.isfinite(last) or ill.get(measured) or (_PROBE.fullmatch(name) and _is_flat(values)):
            return True
    return False


def _is_flat(values: Floats) -> bool:
    best, worst = np.nanmax(values), np.nanmin(values)
    return bool(len(values) >= _PROBE_EPOCHS and best < _CHANCE_OF_TWO and best - worst < _RISE_OF_A_PROBE)


class Health(NamedTuple):
    """How a run does.

    Attributes:
        words: what is wrong, by name and in words.
        verdict: in a few words, "" where something is wrong.
        how: it was found out.

    Example:
        >>> Health([], "Nothing wrong was found.", "By 18 figures.").verdict
        'Nothing wrong was found.'
    """

    words: list[tuple[str, str]]
    verdict: str
    how: str


def health_of(folder: Path, metrics: Metrics | None, temperature: float | None = None) -> Health:
    """Judge a run.

    Args:
        folder: of the run.
        metrics: that were read there.
        temperature: of its loss, if that is known.

    Example:
        >>> health_of(Path("no/such/run"), None).verdict
        'Not known.'
    """
    if metrics is None or not metrics.columns:
        return Health([], "Not known.", "Nothing was logged by which a training could be judged.")
    measured = sum(name.startswith("health/") for name in metrics.columns)
    how = f"Judged by the last values of {measured} health metrics, and by whether those of all metrics are finite."
    verdict = "Nothing wrong was found."
    if not measured:
        how = "Its health was not measured (RepresentationHealth); the last value of every metric is finite."
        verdict = "Not measured."
    if not looks_ill(metrics, temperature):
        return Health([], verdict, how)
    from simclr_lightning.doctor.last_run import findings  # torch, for the sizes of network and loss

    try:
        found = findings(folder)
    except Exception as error:  # of a network or loss that is not known here: the page says so, and goes on
        told = " ".join(str(error).split())[:300]
        return Health([], "It looks ill, but could not be judged.", f"{type(error).__name__}: {told}")
    words = [(word.name, word.text) for word in found if word.name != "no last.ckpt"]  # a copy need not have one
    return Health(words, "" if words else verdict, "As simclr doctor says." if words else how)
