"""A simulated accelerator: it computes on the CPU and tells where a real one would work, copy, and be waited for.

Its tensors are real ones behind another device type (``simgpu``, torch's PrivateUse1), so that every operator passes
through one function here. ``recorded()`` counts what runs in its block:

* kernels: one for every operator that computes something. A real device needs at least as many: sorting or a
  convolution may be several. A ``_foreach`` operator is one where torch's fused path would take it, else one a tensor.
* bytes: what these kernels read and write, each tensor once. What a cache saves or a workspace adds is not in it.
* waits: where the host reads the device or sends it memory and has to stand still, as in CUDA's documentation and
  ``torch.cuda.set_sync_debug_mode``.
* copies between host and device, waiting or not.

Its events are as late as a device that works off what the host has sent: one has passed when eight more were recorded,
or the host has waited for anything. Asked for their time before, they raise.

Tensors on different devices raise, as they would on a real one. It tells nothing about time.
"""

from __future__ import annotations

import math
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import _foreach_supported_types
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "simgpu"
STAGED = 64 * 1024  # bytes that a driver takes from pageable memory without waiting

_WAITING = {  # the outcome, or its size, is read by the host
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "_linalg_check_errors"),
}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_MEMORY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}  # no kernel
_WRITTEN_ONLY = {
    "zero_",
    "fill_",
    "copy_",
    "uniform_",
    "normal_",
    "random_",
    "bernoulli_",
    "exponential_",
    "zeros_like",
}
_TAKEN_ROWS = {"index", "index_select", "gather", "embedding"}  # they read no more than they return
_WITH_HOST_SCALARS = {*_INDEXING, "masked_fill", "masked_fill_", "fill_", "where"}


class Wait(NamedTuple):
    """Something that the host waits for, and where: the innermost line, and the innermost one of this package."""

    what: str
    where: str


class Copy(NamedTuple):
    """Between host and device: to_device or to_host."""

    direction: str
    bytes: int
    waits: bool
    where: str


@dataclass
class Record:
    """What ran on the device while it was recorded."""

    kernels: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)  # the same by file and line
    bytes: int = 0
    waits: list[Wait] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of kernels."""
        return self.kernels.total()

    def __str__(self) -> str:
        return f"{self.count} kernels, {self.bytes / 1e6:.3f} MB, {len(self.waits)} waits, {len(self.copies)} copies"


_records: list[Record] = []


@contextmanager
def recorded() -> Iterator[Record]:
    """Record what runs on the simulated device in this block; in blocks within one another, in all of them."""
    record = Record()
    _records.append(record)
    try:
        yield record
    finally:
        _records[:] = [other for other in _records if other is not record]


class SimulatedTensor(torch.Tensor):
    """A tensor of the simulated device; ``host`` holds its values, on the CPU."""

    host: Tensor

    @staticmethod
    def __new__(cls: type[SimulatedTensor], host: Tensor) -> SimulatedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=torch.device(NAME, 0),
        )
        made.host = host
        return made

    def __init__(self, host: Tensor) -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:  # torch.save: the values travel to the host
        return self.detach().cpu().__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy: Any = self.detach().clone().requires_grad_(self.requires_grad)
        copy._is_param = getattr(self, "_is_param", False)
        return copy


class Event:
    """A moment among the work of the device."""

    _recorded = 0  # so many of all events
    _passed = 0
    _late = 8

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.number, self.time = 0, 0.0

    def record(self, stream: Any = None) -> None:
        Event._recorded += 1
        self.number, self.time = Event._recorded, time.perf_counter()

    def query(self) -> bool:
        return self.number <= max(Event._passed, Event._recorded - Event._late)

    def synchronize(self) -> None:
        if not self.query():
            _wait("synchronize an event")

    def elapsed_time(self, end: Event) -> float:
        if not (self.query() and end.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return 1e3 * (end.time - self.time)


def is_supported() -> bool:
    """Whether this torch lets Python be a device."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def register() -> None:
    """Make ``simgpu`` a device of this process, for good. A second call does nothing."""
    if hasattr(torch, NAME):
        return

    class Module(backend_registration._DummyBackendModule):
        Event = Event

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

        def get_rng_state(self, device: Any = None) -> Tensor:
            return torch.get_rng_state()

        def set_rng_state(self, state: Tensor, device: Any = None) -> None:
            torch.set_rng_state(state)

        def is_bf16_supported(self, including_emulation: bool = True) -> bool:
            return True

        def synchronize(self, device: Any = None) -> None:
            _wait("synchronize")

    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    _foreach_supported_types.append(SimulatedTensor)  # as CUDA's tensors
    for factory in ("empty.memory_format", "empty_strided"):
        _ATEN.impl(factory, _made(factory, kernels=0), "PrivateUse1")
    for factory in ("arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace", "randperm"):
        _ATEN.impl(factory, _made(factory, kernels=1), "PrivateUse1")  # torch's own would resize their outcome
    _ATEN.impl("_copy_from", _copy_from, "PrivateUse1")  # torch.tensor(..., device=...)
    _ATEN.impl("_pin_memory", _pin, "CPU")
    _ATEN.impl("is_pinned", _is_pinned, "CPU")
    _ANY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, cast_to in ((_LOWER, torch.get_autocast_dtype), (_FLOAT32, lambda _: torch.float32)):
        for name in names.split():
            _ATEN.impl(name, _autocast(name, cast_to), "AutocastPrivateUse1")


_ATEN: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
_ANY: Any = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]
# As CUDA's autocast: what computes in the lower type, and what in float32 (those that this package meets).
_LOWER = "convolution conv1d conv2d conv3d linear matmul mm addmm bmm baddbmm addbmm mv addmv chain_matmul"
_FLOAT32 = (
    "exp expm1 log log10 log1p log2 reciprocal rsqrt pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus "
    "layer_norm group_norm norm.Scalar norm.ScalarOpt_dim cosine_similarity cross_entropy_loss nll_loss mse_loss "
    "softmax.int log_softmax.int prod sum sum.dim_IntList cumsum cumprod dist cdist logsumexp linalg_vector_norm"
)


def _autocast(name: str, cast_to: Callable[[str], torch.dtype]) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def run(*args: Any, **kwargs: Any) -> Any:
        dtype = cast_to(NAME)

        def converted(value: Any) -> Any:
            floating = isinstance(value, SimulatedTensor) and value.is_floating_point()
            return value.to(dtype) if floating and value.dtype != torch.float64 else value

        with torch.autocast(NAME, enabled=False):
            return operator(*tree_map(converted, args), **tree_map(converted, kwargs))

    return run


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Every operator with a tensor of the device among its arguments."""
    name = func._schema.name.partition("::")[2]
    if func is torch.ops.prim.device.default:
        return torch.device(NAME, 0)
    if name == "_to_copy" and torch.device(kwargs.get("device") or NAME).type != NAME:
        return _to_host(args[0], kwargs)
    if name == "copy_" and isinstance(args[0], SimulatedTensor) != isinstance(args[1], SimulatedTensor):
        _copy(_host(args[0]), _host(args[1]), to_device=isinstance(args[0], SimulatedTensor), flags=(args, kwargs))
        return args[0]
    _check_devices(func, name, args, kwargs)
    _find_waits(name, args, kwargs)
    settings = tree_map(_host, kwargs)
    if settings.get("device") is not None:
        settings["device"] = "cpu"
    settings.pop("pin_memory", None)
    outcome = func(*tree_map(_host, args), **settings)
    _count(func, name, args, kwargs, outcome)
    return _wrapped(func, args, kwargs, outcome)


def _wrapped(func: Any, args: Any, kwargs: dict[str, Any], outcome: Any) -> Any:
    """Tensors of the device; what was written to is the object that was given."""
    written = [
        value
        for argument, value in _arguments(func, args, kwargs)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    given = {id(value.host): value for value in tree_leaves(written) if isinstance(value, SimulatedTensor)}
    for value in given.values():
        if value.host.shape != value.shape:
            raise NotImplementedError(f"{func}: a tensor of the simulated device keeps its shape.")

    def wrap(value: Any) -> Any:
        return given.get(id(value), SimulatedTensor(value)) if isinstance(value, Tensor) else value

    return tree_map(wrap, outcome)


def _arguments(func: Any, args: Any, kwargs: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Arguments of the schema with their values."""
    schema = func._schema.arguments
    named = {argument.name: argument for argument in schema}
    return [*zip(schema, args, strict=False), *((named[name], value) for name, value in kwargs.items())]


def _check_devices(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    leaves = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    here = [value for value in leaves if not isinstance(value, SimulatedTensor)]
    if name in _INDEXING:  # indices may lie on the host: they are copied
        here = [value for value in here if all(value is not index for index in args[1])]
    scalars = torch.Tag.pointwise in func.tags or name in _WITH_HOST_SCALARS or name.startswith("_foreach")
    strangers = [tuple(value.shape) for value in here if not (scalars and value.ndim == 0)]
    if strangers:
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
            f"(shapes {strangers}, at {_place()})"
        )


def _find_waits(name: str, args: Any, kwargs: dict[str, Any]) -> None:
    if name in _WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        _wait({"_local_scalar_dense": "item", "_unique2": "unique"}.get(name, name))
    if name not in _INDEXING:
        return
    indices = [index for index in args[1] if index is not None]
    masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
    filled = name != "index" and len(indices) == 1 and args[2].numel() == 1  # as masked_fill
    if masks and not filled:
        _wait(f"{name} with a boolean mask")
    if any(not isinstance(index, SimulatedTensor) for index in indices):
        _wait(f"{name} with an index on the CPU")


def _count(func: Any, name: str, args: Any, kwargs: dict[str, Any], outcome: Any) -> None:
    made = [value for value in tree_leaves(outcome) if isinstance(value, Tensor)]
    views = [returned.alias_info is not None and not returned.alias_info.is_write for returned in func._schema.returns]
    if name in _MEMORY or (views and all(views)) or (views and not made):
        return
    pairs = _arguments(func, args, kwargs)
    writes = [argument.alias_info is not None and argument.alias_info.is_write for argument, _ in pairs]
    written = [value for (_, value), write in zip(pairs, writes, strict=True) if write]
    only_written = name in _WRITTEN_ONLY or name.startswith("_foreach_copy")
    read = [
        value
        for (argument, value), write in zip(pairs, writes, strict=True)
        if not (write and (argument.is_out or only_written))
    ]
    number = _size(read) + _size(written) + (0 if written else sum(map(_bytes, made)))
    if name in _TAKEN_ROWS:
        number = 2 * sum(map(_bytes, made)) + _size(args[1:])
    elif name == "zeros_like":
        number = sum(map(_bytes, made))
    kernels = 1
    if name.startswith("_foreach") and not _is_fused(args, kwargs):
        kernels, name = len(args[0]), f"{name} (slow path)"
    _add(name, kernels, number)


def _is_fused(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the lists of a _foreach operator are of one kind, so that torch takes one kernel for all."""
    lists = [value for value in (*args, *kwargs.values()) if isinstance(value, (list, tuple))]
    lists = [value for value in lists if value and isinstance(value[0], Tensor)]
    kinds = [[(value.shape, value.stride(), value.dtype, value.device) for value in values] for values in lists]
    return all(kind == kinds[0] for kind in kinds) and all(value.is_floating_point() for value in lists[0])


def _size(values: Any) -> int:
    return sum(_bytes(value.host) for value in tree_leaves(values) if isinstance(value, SimulatedTensor))


def _bytes(value: Tensor) -> int:
    """Bytes in memory: what is expanded is read once."""
    sizes = (size for size, stride in zip(value.shape, value.stride(), strict=True) if stride)
    return math.prod(sizes) * value.element_size() if value.numel() else 0


def _add(name: str, kernels: int, number: int) -> None:
    if not _records:
        return
    place = _place()
    for record in _records:
        record.kernels[name] += kernels
        record.places[place] += kernels
        record.bytes += number


def _made(name: str, kernels: int) -> Callable[..., Tensor]:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def make(*args: Any, **kwargs: Any) -> Tensor:
        made = operator(*args, **{**kwargs, "device": "cpu", "pin_memory": False})
        if kernels:
            _add(packet, kernels, _bytes(made))
        return SimulatedTensor(made)

    return make


# --- copies between host and device ---


def _to_host(value: SimulatedTensor, kwargs: dict[str, Any]) -> Tensor:
    settings = {key: setting for key, setting in kwargs.items() if key not in ("pin_memory", "non_blocking")}
    copy: Tensor = torch.ops.aten._to_copy.default(value.host, **settings)
    waits = not kwargs.get("non_blocking", False)
    _copied("to_host", copy, waits, f"a blocking copy to the host {tuple(copy.shape)}")
    return copy


def _copy(target: Tensor, source: Tensor, *, to_device: bool, flags: tuple[Any, dict[str, Any]]) -> None:
    args, kwargs = flags
    blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    pageable = to_device and not _is_pinned(source) and _bytes(source) > STAGED
    target.copy_(source)
    way = "to_device" if to_device else "to_host"
    how = "blocking copy" if blocking else "copy from pageable memory"
    _copied(way, target, blocking or pageable, f"a {how} {way.replace('_', ' the ', 1)} {tuple(target.shape)}")


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    to_device = isinstance(target, SimulatedTensor)
    _copy(_host(target), _host(source), to_device=to_device, flags=((), {"non_blocking": non_blocking}))
    return target


def _copied(direction: str, value: Tensor, waits: bool, what: str) -> None:
    for record in _records:
        record.copies.append(Copy(direction, _bytes(value), waits, _place()))
    if waits:
        _wait(what)


_pinned: set[int] = set()  # addresses of page-locked memory


def _pin(value: Tensor, device: Any = None) -> Tensor:
    copy = value.clone()
    address = copy.untyped_storage().data_ptr()
    _pinned.add(address)
    weakref.finalize(copy, _pinned.discard, address)
    return copy


def _is_pinned(value: Tensor, device: Any = None) -> bool:
    return value.untyped_storage().data_ptr() in _pinned


def _wait(what: str) -> None:
    Event._passed = Event._recorded
    for record in _records:
        record.waits.append(Wait(what, _place()))


def _host(value: Any) -> Any:
    return value.host if isinstance(value, SimulatedTensor) else value


# --- where ---

_TORCH = f"{Path(torch.__file__).parent}/"


def _place() -> str:
    """Innermost line outside of torch, and the innermost one of this package."""
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_TORCH) and file != __file__:
            ours = "/simclr_lightning/" in file
            if not found or ours:
                found.append(f"{_short(file)}:{frame.f_lineno}")
            if ours:
                break
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(dict.fromkeys(found)) or "a thread of torch"


def _short(file: str) -> str:
    for start in ("site-packages/", "/src/", "/tests/"):
        if start in file:
            return file.rpartition(start)[2]
    return Path(file).name
