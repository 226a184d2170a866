"""In which step, and with which pictures, a training came to NaN: remembered without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from simclr_lightning.losses.watch import DivergedError, raise_together

_NAMED = 5  # pictures
_HOST = torch.device("cpu")


class _Step(NamedTuple):
    number: int
    indices: Tensor | None
    loss: Tensor


class LossRecord:
    """Losses of the steps since they were looked at, and the pictures of each. Nothing is copied or computed before.

    Example:
        >>> record = LossRecord()
        >>> record.begin(0, torch.tensor([4, 7]))
        >>> record.end(torch.tensor(float("nan")))
        >>> record.check(lambda indices: [f"{index}.png" for index in indices])
        Traceback (most recent call last):
        simclr_lightning.losses.watch.DivergedError: The loss of step 0 is nan, with the pictures 4.png, 7.png. \
Usual causes: a learning rate that is too high or has no warm-up, or float16 overflow (try --trainer.precision \
bf16-mixed or 32-true).
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._current: tuple[int, Tensor | None] = (0, None)

    def begin(self, number: int, indices: Any) -> None:
        """A step begins, with pictures at ``indices`` (N,)."""
        self._current = (number, indices if isinstance(indices, Tensor) else None)

    def end(self, loss: Tensor) -> None:
        """Its loss () is there, on whatever device."""
        self._steps.append(_Step(*self._current, loss))

    def check(self, names: Any, device: torch.device = _HOST) -> None:
        """Look at the losses, for which the host waits, and forget them. All processes do so at the same steps.

        Args:
            names: from a list of indices to names of the pictures.
            device: of this process.

        Raises:
            DivergedError: if one is not finite; it names the pictures of the first that is not. Where one process
                raises it, all do.
        """
        first = self.first_bad()
        self._steps.clear()
        error = None
        if first is not None:
            told = _with(first.indices, names)
            error = DivergedError(f"The loss of step {first.number} is {float(first.loss)}{told}")
        raise_together(error, "the losses", device)

    def told(self, error: DivergedError, names: Any) -> str:
        """What an error of the step that is under way says, with the pictures: of an earlier step, if that began it."""
        if error.elsewhere:
            return ""
        first = self.first_bad()
        if first is not None:
            return f"The loss of step {first.number} was {float(first.loss)} already{_with(first.indices, names)}. "
        number, indices = self._current
        if indices is None or "with the pictures" in str(error):
            return ""
        some = indices if not error.rows or len(error.rows) == len(indices) else indices[list(error.rows)]
        return f"It is step {number}{_with(some, names)}. "

    def first_bad(self) -> _Step | None:
        """The first step whose loss is not finite."""
        if not self._steps:
            return None
        finite = torch.stack([step.loss.detach() for step in self._steps]).isfinite().cpu()
        return None if finite.all() else self._steps[int(finite.int().argmin())]


def ask_of_weights_alone(module: LightningModule, ask: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Let ``ask`` see checkpoints of weights alone, too: of these Lightning tells the module, and no callback.

    Returns:
        What ends it.

    Example:
        >>> module = LightningModule()
        >>> end = ask_of_weights_alone(module, lambda checkpoint: print(sorted(checkpoint)))
        >>> module.on_save_checkpoint({"state_dict": {}})
        ['state_dict']
        >>> module.on_save_checkpoint({"state_dict": {}, "callbacks": {}})
        >>> end()
    """
    name = "on_save_checkpoint"
    before = module.on_save_checkpoint

    def asked(checkpoint: dict[str, Any]) -> None:
        if "callbacks" not in checkpoint:
            ask(checkpoint)
        before(checkpoint)

    def end() -> None:
        if module.__dict__.get(name) is asked:
            del module.__dict__[name]

    module.__dict__[name] = asked  # this module's alone, for as long as it is trained
    return end


def names_of_pictures(trainer: Trainer, indices: Iterable[int]) -> list[str]:
    """Names of training pictures, as far as the data module knows any.

    Example:
        >>> names_of_pictures(Trainer(accelerator="cpu", logger=False), [3])
        ['picture 3']
    """
    data: Any = getattr(trainer, "datamodule", None)
    train = getattr(getattr(data, "splits", None), "train", None)
    pictures: Any = None if getattr(data, "stream", None) is not None else getattr(train, "pictures", None)
    return [pictures.name(index) if hasattr(pictures, "name") else f"picture {index}" for index in indices]


def _with(indices: Tensor | None, names: Any) -> str:
    if indices is None:
        return ""
    some = indices[:_NAMED].tolist()
    others = len(indices) - len(some)
    return f", with the pictures {', '.join(names(some))}" + (f" and {others:,} others" if others else "")
