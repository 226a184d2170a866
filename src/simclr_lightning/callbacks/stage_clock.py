"""A clock of stages that follow one another, on the host or on an accelerator, and the profiler that turns it."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Any, NamedTuple

import torch
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

from simclr_lightning.stages import stage_of

_MOST_MARKS = 4096  # kept before those that have passed are added up, where steps are never logged


class _Mark(NamedTuple):
    """A moment: the stage that begins, and the pictures of the step that ends (0: none does)."""

    moment: Any
    stage: str | None
    pictures: int


class _Host:
    """Moments by the host's clock."""

    def now(self) -> float:
        return time.perf_counter()

    def has_passed(self, moment: float) -> bool:
        return True

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def wait(self, moment: float) -> None:
        pass

    def give_back(self, moment: float) -> None:
        pass


class _Device:
    """Moments of an accelerator: events among its work, which the host asks for their times when they have passed."""

    def __init__(self, kind: Any) -> None:
        self._kind, self._spare = kind, list[Any]()

    def now(self) -> Any:
        event = self._spare.pop() if self._spare else self._kind(enable_timing=True)
        event.record()
        return event

    def has_passed(self, moment: Any) -> bool:
        return bool(moment.query())

    def seconds(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1e3

    def wait(self, moment: Any) -> None:
        moment.synchronize()

    def give_back(self, moment: Any) -> None:
        self._spare.append(moment)


class StageClock:
    """Adds up the time of stages. On an accelerator the host does not wait: what has passed is read when it is asked.

    Between two moments of an accelerator lies what it did, and what it stood still for: a host that prepares the next
    batch while the device computes takes none of its time.

    Example:
        >>> clock = StageClock(torch.device("cpu"))
        >>> clock.mark("data")
        >>> clock.mark("encoder")
        >>> clock.mark(None, pictures=8)
        >>> clock.collect()
        >>> sorted(clock.seconds), clock.pictures, clock.steps
        (['data', 'encoder'], 8, 1)

    Args:
        device: whose time it is. Where its module has no events, it is the host's.

    Attributes:
        seconds: of each stage, of all steps that were collected.
        pictures: of these steps.
        steps: number of them.
    """

    def __init__(self, device: torch.device) -> None:
        kind = None if device.type == "cpu" else getattr(getattr(torch, device.type, None), "Event", None)
        self._timer: _Host | _Device = _Host() if kind is None else _Device(kind)
        self._marks: deque[_Mark] = deque()
        self.clear()

    def clear(self) -> None:
        """Begin to add up anew; steps that have not passed yet count from now on."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.pictures = self.steps = 0

    def forget(self) -> None:
        """As :meth:`clear`, and leave out what has not passed yet."""
        while len(self._marks) > 1:
            self._timer.give_back(self._marks.popleft().moment)
        self.clear()

    def mark(self, stage: str | None, pictures: int = 0) -> None:
        """A stage begins, and the one before it ends.

        Args:
            stage: None for what does not count.
            pictures: of the step that ends here, if one does.
        """
        self._marks.append(_Mark(self._timer.now(), stage, pictures))
        if len(self._marks) > _MOST_MARKS:
            self.collect()

    def collect(self, *, wait: bool = False) -> None:
        """Add up what has passed.

        Args:
            wait: whether the host waits until all has.
        """
        if wait and self._marks:
            self._timer.wait(self._marks[-1].moment)
        while len(self._marks) > 1 and self._timer.has_passed(self._marks[1].moment):
            first, (moment, _, pictures) = self._marks.popleft(), self._marks[0]
            if first.stage is not None:
                self.seconds[first.stage] += self._timer.seconds(first.moment, moment)
            if pictures:
                self.pictures += pictures
                self.steps += 1
            self._timer.give_back(first.moment)


class StageProfiler(Profiler):
    """Turns a clock by the actions that Lightning tells its profiler, and hands them on to the one that was there.

    Example:
        >>> clock = StageClock(torch.device("cpu"))
        >>> profiler = StageProfiler(clock, PassThroughProfiler())
        >>> for action in ("run_training_epoch", "[Strategy]SingleDeviceStrategy.training_step", "[stage].loss"):
        ...     profiler.start(action)
        >>> profiler.end_step(pictures=8)
        >>> clock.collect()
        >>> list(clock.seconds)
        ['data', 'encoder', 'loss']

    Args:
        clock: that is turned within the epochs of a training.
        other: profiler of the Trainer.
    """

    def __init__(self, clock: StageClock, other: Profiler) -> None:
        super().__init__()
        self.clock, self.other = clock, other
        self._silent = isinstance(other, PassThroughProfiler)
        self._known: dict[str, str | None] = {}
        self._stages: list[str] = []  # from the outermost; empty where nothing is measured
        self._held: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """What somebody's own profiler can do besides."""
        return getattr(self.__dict__["other"], name)

    def start(self, action_name: str) -> None:
        """An action begins."""
        if not self._silent:
            self.other.start(action_name)
        if action_name == _EPOCH:
            self._stages = ["rest"]
            self.clock.mark("data")  # workers may start before the first batch is asked for
        elif self._stages and (stage := self._found(action_name)) is not None:
            self._stages.append(stage)
            self.clock.mark(stage)

    def stop(self, action_name: str) -> None:
        """An action ends."""
        if not self._silent:
            self.other.stop(action_name)
        if action_name == _EPOCH:
            self.hold()
            self._held.clear()
        elif len(self._stages) > 1 and self._found(action_name) is not None:
            self._stages.pop()
            self.clock.mark(self._stages[-1])

    def end_step(self, pictures: int) -> None:
        """A step ends that took so many pictures."""
        if self._stages:
            self.clock.mark(self._stages[-1], pictures)

    def hold(self) -> None:
        """Measure nothing from here on: a validation."""
        if self._stages:
            self._held, self._stages = self._stages, []
            self.clock.mark(None)

    def go_on(self) -> None:
        """Measure again."""
        if self._held:
            self._stages, self._held = self._held, []
            self.clock.mark(self._stages[-1])

    def _found(self, action: str) -> str | None:
        if action not in self._known:
            self._known[action] = stage_of(action)
        return self._known[action]


_EPOCH = "run_training_epoch"
