"""What this machine has: devices, memory, room on disk."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from simclr_lightning.data.worker_processes import cores, workers_of

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_SHARED = Path("/dev/shm")
_NVIDIA = Path("/proc/driver/nvidia")
_LITTLE_SHARED = 1.0  # GiB; a container of docker has 1/16
_LITTLE_DISK = 5.0  # GiB


def machine() -> tuple[dict[str, Any], list[str]]:
    """Devices, memory and room on disk, in GiB, and what a training will suffer from.

    Example:
        >>> found, _ = machine()
        >>> found["cpu"]["cores"] >= 1
        True
    """
    found: dict[str, Any] = {
        "system": platform.platform(),
        "cpu": _cpu(),
        "accelerators": _accelerators(),
        "workers": workers_of(1),
        "memory": _memory(),
        "shared_memory": _room(_SHARED),
        "disk": _room(Path.cwd()),
    }
    warnings = []
    shared, disk = found["shared_memory"], found["disk"]
    if shared is not None and shared["free"] < _LITTLE_SHARED:
        warnings.append(
            f"{_SHARED} has {shared['free']:.2f} GiB free, through which workers hand over batches: start a container "
            "with --ipc=host or --shm-size=8g, or type --data.num_workers 0."
        )
    if disk is not None and disk["free"] < _LITTLE_DISK:
        warnings.append(f"{Path.cwd()} has {disk['free']:.1f} GiB free: checkpoints may not find room.")
    if not found["accelerators"] and _NVIDIA.exists():
        warnings.append(
            f"There is an NVIDIA driver, but torch {torch.__version__} sees no GPU: compare `nvidia-smi`, and install "
            "the build of torch that belongs to the driver."
        )
    return found, warnings


def _cpu() -> dict[str, Any]:
    """Cores, threads and whether the processor computes in bfloat16; None where the system does not tell."""
    flags = _flags()
    return {
        "name": platform.processor() or platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": None if flags is None else "avx512_bf16" in flags,
        "amx_bf16": None if flags is None else "amx_bf16" in flags,
    }


def _flags() -> set[str] | None:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    return next((set(line.split()) for line in lines if line.startswith("flags")), None)


def _accelerators() -> list[dict[str, Any]]:
    """Whatever kind torch has found; memory and bfloat16 are None where its module does not tell."""
    if not torch.accelerator.is_available():
        return []
    kind = torch.accelerator.current_accelerator()
    module: Any = torch.get_device_module(kind)
    properties = getattr(module, "get_device_properties", lambda number: None)
    bf16 = getattr(module, "is_bf16_supported", lambda: None)()
    found: list[Any] = [properties(number) for number in range(torch.accelerator.device_count())]
    return [
        {
            "name": getattr(own, "name", str(kind)),
            "memory": own.total_memory / 2**30 if hasattr(own, "total_memory") else None,
            "bf16": bf16,
        }
        for own in found
    ]


def _memory() -> dict[str, float] | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return {
            name: int(lines[key].split()[0]) / 2**20 for name, key in (("total", "MemTotal"), ("free", "MemAvailable"))
        }
    except (OSError, KeyError, ValueError):
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return None
        return {"total": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30}


def _room(folder: Path) -> dict[str, float] | None:
    if not folder.is_dir():
        return None
    usage = shutil.disk_usage(folder)
    return {"total": usage.total / 2**30, "free": usage.free / 2**30}
