"""What W&B wrote of a run without a server: protocol buffers in LevelDB's log format (blocks of 32 KiB)."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Curves = dict[str, list[tuple[int, float]]]


def records(run: Path) -> Iterator[Any]:
    """Records of an offline run."""
    from wandb.proto import wandb_internal_pb2

    data, position, message = run.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        message += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole message, or the last part of one
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(message)
            message = b""
            yield record


def of_type(run: Path, kind: str) -> Iterator[Any]:
    """What records of one type hold."""
    for record in records(run):
        if record.WhichOneof("record_type") == kind:
            yield getattr(record, kind)


def configuration(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for record in records(run):
        if record.WhichOneof("record_type") in ("run", "config"):
            updates = record.run.config if record.HasField("run") else record.config
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates.update}
    return config


def rows(run: Path) -> Iterator[dict[str, Any]]:
    """What was logged together."""
    for history in of_type(run, "history"):
        items = [item for item in history.item if item.key or len(item.nested_key) == 1]  # pictures have more
        yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def logged(run: Path) -> set[str]:
    return {item.key or item.nested_key[0] for history in of_type(run, "history") for item in history.item}


def curves_of(told: Iterable[dict[str, Any]], step: str) -> Curves:
    """Steps and values by the names of metrics, in the order in which they were logged."""
    curves: Curves = defaultdict(list)
    for row in told:
        for name, value in row.items():
            if name not in (step, "epoch") and not name.startswith("_") and isinstance(value, int | float):
                curves[name].append((int(row[step]), value))
    return dict(curves)
