"""What the files in the folder of a run warn of."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import yaml

from simclr_lightning.callbacks.unreadable import LIST, count
from simclr_lightning.checkpoints import read_checkpoint
from simclr_lightning.data.faster import faster_by_config
from simclr_lightning.encoder_list import counted
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.losses import LearnedTemperatureNTXent, build_loss
from simclr_lightning.metrics.health_words import Word, collapse_word, floor_word, probe_word, waiting_word

_ROWS = 512  # that RepresentationHealth looks at by default
_OURS = ("SimCLR", "simclr_lightning.SimCLR", "simclr_lightning.simclr.SimCLR")


def findings(folder: Path) -> list[Word]:
    """What is wrong with a run; empty where nothing was found.

    Args:
        folder: of the run, with ``metrics.csv``, ``config.yaml`` and ``checkpoints``.

    Raises:
        MissingFileError: if it is not the folder of a run.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as run:
        ...     _ = Path(run, "metrics.csv").write_text("epoch,step,train/loss" + chr(10) + "0,3,nan" + chr(10))
        ...     [word.name for word in findings(Path(run))]
        ['no last.ckpt', 'NaN or infinite']
    """
    metrics = folder / "metrics.csv"
    if not metrics.is_file() and not (folder / "checkpoints").is_dir():
        raise MissingFileError(
            f"{folder} is no folder of a run, with a metrics.csv and checkpoints: name one such as "
            "runs/folder/version_0."
        )
    words: list[Word | None] = []
    state: dict[str, Any] = {}
    last = folder / "checkpoints" / "last.ckpt"
    try:
        state = read_checkpoint(last, in_pieces=True).content.get("callbacks", {})
    except MissingFileError:
        words.append(
            Word("no last.ckpt", f"there is no {last}: the run ended before its first epoch did, or kept none.")
        )
    except InputError as error:
        words.append(Word("damaged checkpoint", str(error)))
    if (folder / LIST).is_file():
        number = count(folder / LIST)
        words.append(Word("unreadable pictures", f"{number:,} pictures were left out: see {folder / LIST}."))
    if metrics.is_file():
        words += _of_metrics(_columns(metrics), _config(folder), state)
    else:
        words.append(Word("no metrics.csv", f"there is no {metrics}: nothing was logged."))
    return [word for word in words if word is not None]


def _columns(file: Path) -> dict[str, list[float]]:
    """Values of each metric in their order; what is no number is left out."""
    columns: dict[str, list[float]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            for name, text in row.items():
                try:
                    columns.setdefault(name, []).append(float(text))
                except (TypeError, ValueError):  # not logged at this step
                    continue
    return columns


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_metrics(columns: dict[str, list[float]], config: dict[str, Any], state: dict[str, Any]) -> list[Word | None]:
    broken = [name for name, values in columns.items() if values and not math.isfinite(values[-1])]
    words: list[Word | None] = []
    if broken:
        told = ", ".join(broken[:3])
        words.append(
            Word(
                "NaN or infinite",
                f"{told} {'is' if len(broken) == 1 else 'are'} not finite at the end: go on from an earlier checkpoint "
                "with a lower rate (--model.learning_rate).",
            )
        )
    health = state.get("RepresentationHealth", {})
    for space, dimensions in _dimensions(config).items():
        found = [columns.get(f"health/{space}_{name}", []) for name in ("std", "rank")]
        if all(values and math.isfinite(values[-1]) for values in found):
            std, rank = (values[-1] for values in found)
            start = health.get("start", {}).get(space, math.inf)
            words.append(collapse_word(space, std, rank, dimensions, _ROWS, start))
    above, bounds = columns.get("health/loss_above_floor", []), _bounds(config, columns)
    if above and bounds is not None:
        words.append(floor_word(bounds[1] + above[-1], *bounds))
    for name, (best, epochs) in health.get("probes", {}).items():
        weight = state.get(f"OnlineLinearProbe{ {'name': name} }", {}).get("head", {}).get("weight")
        if weight is not None:  # the commonest class has this share at least
            words.append(probe_word(name, best, 1 / len(weight), epochs))
    if waited := columns.get("time/data", []):
        words.append(waiting_word(waited[-1], faster_by_config((config.get("data") or {}).get("init_args") or {})))
    return words


def _dimensions(config: dict[str, Any]) -> dict[str, int]:
    """Of features and projections, where it was SimCLR itself that was trained."""
    arguments = _model(config)
    if "encoder" not in arguments:
        return {}
    features = counted(arguments["encoder"], arguments.get("width", 1.0), arguments.get("pool_grid", 1))["features"]
    if features is None:
        return {}
    projections = arguments.get("projection_dim", 128) if arguments.get("projection_layers", 2) else features
    return {"features": features, "projections": projections}


def _bounds(config: dict[str, Any], columns: dict[str, list[float]]) -> tuple[float, float] | None:
    """Loss at chance and at its floor, where two views of single pictures were contrasted with all others.

    A temperature that was learned is the last one that was logged.
    """
    data = (config.get("data") or {}).get("init_args") or {}
    views, size = data.get("views"), data.get("batch_size")
    number = 2 if views is None else views.get("count", 2) if isinstance(views, dict) else None
    loss = _model(config).get("loss")
    if number != 2 or not isinstance(size, int) or not isinstance(loss, dict) or data.get("pairs") is not None:
        return None
    built = build_loss(loss)
    learned = columns.get("train/contrast_temperature", [])
    if learned and isinstance(built, LearnedTemperatureNTXent):
        built.now.fill_(learned[-1])
    return built.expected(size) if built.gather else None


def _model(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of SimCLR; empty for any other model."""
    model = config.get("model")
    if not isinstance(model, dict) or model.get("class_path") not in _OURS:
        return {}
    arguments = model.get("init_args")
    return arguments if isinstance(arguments, dict) else {}
