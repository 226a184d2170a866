"""IEEE float32 where a result depends on it, whatever precision the user has allowed elsewhere.

``torch.set_float32_matmul_precision("high")``, which Lightning recommends, lets a GPU round the factors of a matrix
product to TF32, ten bits; "medium" lets a CPU round them to bfloat16. Both are right for an encoder and wrong for a
contrastive loss, whose exponentials magnify the error, and for the pixels of a view.

Since torch 2.9 there are two interfaces to one state. The older one is a number, ``float32_matmul_precision``. The
newer one is a tree, in which "none" means that the parent decides::

    generic -> cuda   -> matmul, conv, rnn
            -> mkldnn -> matmul, conv, rnn

The older setter writes both, products read the tree, and older getters raise where the two disagree. Whoever changes
the state for a while has to restore both, although a getter of the tree tells what holds, not what was set there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Lock

import torch
from torch import Tensor

_Undo = Callable[[], object]

_GENERIC = "generic", "all"
_BACKENDS = "cuda", "mkldnn"
_OPERATORS = "matmul", "conv"


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """Compute matrix products and convolutions of float32 in IEEE float32, outside autocast.

    Whatever was set by ``torch.set_float32_matmul_precision``, ``torch.backends.cuda.matmul.allow_tf32``,
    ``torch.backends.cudnn.allow_tf32`` or the ``fp32_precision`` of any backend holds again afterwards. Half precision
    and float64 stay what they are. It can be nested, costs microseconds and waits for no device.

    The settings are those of the process: other threads compute in IEEE float32 meanwhile, slower but not worse.
    Autocast is that of a thread, and backward may run in another one, later: enter it there again.

    Example:
        >>> torch.set_float32_matmul_precision("medium")
        >>> with full_precision("cpu"):
        ...     torch.get_float32_matmul_precision()
        'highest'
        >>> torch.get_float32_matmul_precision()
        'medium'
        >>> torch.set_float32_matmul_precision("highest")

    Args:
        device: whose autocast is switched off.
    """
    kind = torch.device(device).type
    with torch.autocast(kind, enabled=False) if _autocasts(kind) else nullcontext():
        _SETTINGS.enter()
        try:
            yield
        finally:
            _SETTINGS.leave()


def in_float32(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``function(rows)``, in float32 where autocast would compute it in half precision.

    Unlike :func:`full_precision` it allows TF32 where the user does, and leaves a model of bfloat16 alone.

    Example:
        >>> layer, rows = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     layer(rows).dtype, in_float32(layer, rows).dtype
        (torch.bfloat16, torch.float32)

    Args:
        function: of parameters in float32, as those of a network under autocast are.
        rows: its argument, any shape and floating dtype; float64 stays float64.
    """
    kind = rows.device.type
    if not _autocasts(kind):
        return function(rows)
    with torch.autocast(kind, enabled=False):
        return function(rows.to(torch.promote_types(rows.dtype, torch.float32)))


def _autocasts(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


class _Settings:
    """Set to IEEE by the first who enters, and restored by the last who leaves, of whatever thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._undo: list[_Undo] = []

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo = _to_ieee() if hasattr(torch._C, "_set_fp32_precision_setter") else _to_ieee_until_2_8()
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for undo in reversed(self._undo):
                    undo()


_SETTINGS = _Settings()


def _to_ieee() -> list[_Undo]:
    """Set every setting that decides, and tell how to undo it, last one first."""
    undo: list[_Undo] = []
    # From the top: below an "ieee", whatever is not "ieee" was set there. The rest follows and need not be touched, nor
    # could it be: a default, such as TF32 for convolutions, that yields to a parent cannot be set again.
    _set(undo, *_GENERIC)
    for backend in _BACKENDS:
        for operator in ("all", *_OPERATORS):
            _set(undo, backend, operator)
    legacy = torch.get_float32_matmul_precision()  # it does not raise, now that no product is other than "ieee"
    if legacy != "highest":
        # Without it older getters would raise in here; torch.compile asks them. It writes the tree, too.
        own = [(backend, "matmul", _what_was_set(backend)) for backend in _BACKENDS]
        torch.set_float32_matmul_precision("highest")
        undo += [partial(_setter, *setting) for setting in own]
        undo.append(partial(torch.set_float32_matmul_precision, legacy))
    return undo


def _to_ieee_until_2_8() -> list[_Undo]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False

    def undo() -> None:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions

    return [undo]


def _set(undo: list[_Undo], backend: str, operator: str) -> None:
    told = _getter(backend, operator)
    if told != "ieee":
        _setter(backend, operator, "ieee")
        undo.append(partial(_setter, backend, operator, told))


def _what_was_set(backend: str) -> str:
    """What was set for the products of a backend: they read as "ieee" by their own setting, or by their parent's."""
    _setter(*_GENERIC, "tf32")
    told = _getter(backend, "matmul")
    if told == "ieee" == _getter(backend, "all"):  # set for the backend, and for its products perhaps
        _setter(backend, "all", "tf32")
        told = _getter(backend, "matmul")
        _setter(backend, "all", "ieee")
    _setter(*_GENERIC, "ieee")
    return "ieee" if told == "ieee" else "none"


# Not the attributes of torch.backends: that of mkldnn sets "generic" instead.
def _getter(backend: str, operator: str) -> str:
    told: str = torch._C._get_fp32_precision_getter(backend, operator)
    return told


def _setter(backend: str, operator: str, precision: str) -> None:
    torch._C._set_fp32_precision_setter(backend, operator, precision)
