"""What stands between the metrics of a run and a tracker that keeps for ever what it was given once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

TRACKERS = (WandbLogger, TensorBoardLogger, MLFlowLogger)
"""Whose runs go on with a run."""

_STEP = "trainer/global_step"  # Lightning's name for it in W&B
_HIGHER_IS_BETTER = re.compile(r"top\d+|accuracy|consistency|precision|recall|f1")
_OF_EPOCHS = re.compile(r"(^|[/_])val(_|/|$)|^knn/|^health/(?!gradient_norm)|_epoch$|/(train|test)_")


class TrackerMetrics:
    """Replaces ``log_metrics`` of a logger: hands on what is new, and says what a metric is where that can be said.

    W&B learns at the first value of a metric which axis it has (``trainer/global_step``, or ``epoch`` for what is
    measured once an epoch), and that its summary holds the last value and the best: the least loss, the highest
    accuracy. TensorBoard writes at once, so that a run that is killed has there what it has in its ``metrics.csv``.

    Attributes:
        known: pairs of a step and a metric's name that the tracker has, and is not given again.
        best: values from before a run was resumed; W&B would forget them, until there are better ones.

    Args:
        logger: one of ``TRACKERS``.

    Example:
        >>> from types import SimpleNamespace
        >>> metrics = TrackerMetrics(SimpleNamespace(log_metrics=lambda metrics, step: print(step, metrics)))
        >>> metrics.known = {(3, "epoch"), (3, "train/loss")}
        >>> metrics({"epoch": 0, "train/loss": 5.1}, 3)  # of a step that is taken again
        >>> metrics({"epoch": 0, "train/loss": 5.0}, 4)
        4 {'epoch': 0, 'train/loss': 5.0}
    """

    def __init__(self, logger: Any) -> None:
        self.known: set[tuple[int | None, str]] = set()
        self.best: dict[str, float] = {}
        self._logger, self._log = logger, logger.log_metrics
        self._defined: set[str] = set()

    def __call__(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Hand on what the tracker does not have.

        Args:
            metrics: values by name; ``epoch`` alone is none.
            step: to which they belong.
        """
        new = {name: value for name, value in metrics.items() if (step, name) not in self.known}
        if not new.keys() - {"epoch"}:
            return
        if isinstance(self._logger, WandbLogger):
            self._define(new)
        self._log({**new, "epoch": metrics["epoch"]} if "epoch" in metrics else new, step)
        if isinstance(self._logger, WandbLogger):
            self._keep_best(new)
        if isinstance(self._logger, TensorBoardLogger):
            cast("Any", self._logger.experiment).flush()

    def _define(self, metrics: Mapping[str, Any]) -> None:
        for name in metrics.keys() - self._defined - {"epoch", _STEP}:
            if not isinstance(metrics[name], int | float):  # pictures, tables
                continue
            self._defined.add(name)
            axis = "epoch" if is_of_an_epoch(name) and "epoch" in metrics else _STEP
            self._logger.experiment.define_metric(name, step_metric=axis, summary=summary_of(name))

    def _keep_best(self, metrics: Mapping[str, Any]) -> None:
        for name in metrics.keys() & self.best.keys():
            best, value = self.best[name], metrics[name]
            if better(name, best, value) == value:
                del self.best[name]
            else:
                kind = summary_of(name).partition(",")[0]
                self._logger.experiment.summary.update({name: {kind: best, "last": value}})

    def keep_to(self, last: int) -> None:
        """Forget what is known of later steps: the tracker itself says that its last one is ``last``."""
        self.known = {(step, name) for step, name in self.known if step is not None and step <= last}


def metrics_of(logger: Any) -> TrackerMetrics | None:
    """What stands before a logger's ``log_metrics``; None for files of a run, such as CSV, which need none.

    Example:
        >>> from lightning.pytorch.loggers import CSVLogger
        >>> metrics_of(CSVLogger("runs"))
    """
    if not isinstance(logger, TRACKERS):
        return None
    if not isinstance(logger.log_metrics, TrackerMetrics):
        setattr(logger, "log_metrics", TrackerMetrics(logger))  # noqa: B010 (mypy knows it as a method)
    return cast("TrackerMetrics", logger.log_metrics)


def summary_of(name: str) -> str:
    """What W&B keeps of a metric beside its curve, as ``define_metric`` takes it.

    Example:
        >>> summary_of("train/loss"), summary_of("probe/val_top1"), summary_of("lr-SGD")
        ('min,last', 'max,last', 'last')
    """
    own = name.rpartition("/")[2]
    if "loss" in own:
        return "min,last"
    return "max,last" if _HIGHER_IS_BETTER.search(own) else "last"


def better(name: str, one: float, other: float) -> float:
    """The better one of two values of a metric, where :func:`summary_of` has a best.

    Example:
        >>> better("train/loss", 5.1, 4.9), better("val/top1", 0.4, 0.6)
        (4.9, 0.6)
    """
    return min(one, other) if summary_of(name).startswith("min") else max(one, other)


def is_of_an_epoch(name: str) -> bool:
    """Whether a metric is measured once an epoch, or rarer.

    Example:
        >>> [is_of_an_epoch(name) for name in ("val/loss", "probe/val_top1", "knn/consistency", "train/loss")]
        [True, True, True, False]
    """
    return _OF_EPOCHS.search(name) is not None
