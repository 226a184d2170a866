"""What was run, in a few lines: the options that one asks for first."""

from __future__ import annotations

from simclr_lightning.run_report.judgements import EVALUATION
from simclr_lightning.run_report.run_files import Run

PRETRAINED = "pre-trained encoder"
"""What an evaluation calls it."""

_NONE = ("", "null", "auto")


def facts_of(run: Run) -> dict[str, str]:
    """Facts by name; those that nobody knows are left out.

    Example:
        >>> from pathlib import Path
        >>> from simclr_lightning.run_report.run_files import Start
        >>> config = {"model": "simclr_lightning.SimCLR", "model.encoder": "resnet8", "model.width": "0.5"}
        >>> facts_of(Run(Path("runs/one"), [Start("config.yaml", config)]))
        {'folder': 'runs/one', 'model': 'SimCLR', 'encoder': 'resnet8, width 0.5'}
    """
    config = run.config
    learns = _join(
        config,
        ("model.optimizer", ""),
        ("model.learning_rate", "learning rate "),
        ("model.weight_decay", "weight decay "),
        ("model.momentum", "momentum "),
    )
    facts = {
        "folder": str(run.folder),
        "experiment": _join(config, ("trainer.logger.name", "")),
        "model": _short(config.get("model", "")),
        "encoder": _join(config, ("model.encoder", ""), ("model.width", "width "), ("model.stem", "stem ")),
        "encoder from": _join(config, ("model.init_from", ""), ("model.pretrained", "")),
        "head": _join(config, ("model.projection_layers", "layers: "), ("model.projection_dim", "outputs: ")),
        "loss": ", ".join(
            part
            for part in (
                _short(config.get("model.loss", "")),
                _join(config, ("model.loss.temperature", "temperature ")),
            )
            if part
        ),
        "optimizer": learns,
        "data": _join(config, ("data.dataset", ""), ("data.root", "")),
        "views": _views(config),
        "batch": _join(config, ("data.batch_size", ""), ("model.micro_batch_size", "in pieces of ")),
        "epochs": _epochs(run),
        "steps": _steps(run),
        "accuracy": _accuracy(run),
        "precision": _join(config, ("trainer.precision", "")),
        "devices": _join(
            config, ("trainer.accelerator", ""), ("trainer.devices", "devices: "), ("trainer.strategy", "strategy: ")
        ),
        "seed": _join(config, ("seed_everything", "")),
        "started": "; ".join(start.date for start in run.starts),
        "command": "\n".join(dict.fromkeys(start.command for start in run.starts if start.command)),
        "versions": _versions(run),
    }
    return {name: text for name, text in facts.items() if text}


def _join(config: dict[str, str], *options: tuple[str, str]) -> str:
    told = [(before, config.get(option, "")) for option, before in options]
    return ", ".join(f"{before}{value}" for before, value in told if value not in _NONE)


def _short(path: str) -> str:
    return "" if path in _NONE else path.rpartition(".")[2]


def _views(config: dict[str, str]) -> str:
    recipes = ["data.views", *(f"data.views.{number}" for number in range(8))]
    told = [_join(config, (f"{recipe}.preset", ""), (f"{recipe}.size", "pixels: ")) for recipe in recipes]
    return "; ".join(text for text in [_short(config.get("data.views", "")), *told] if text)


def _epochs(run: Run) -> str:
    asked = run.config.get("trainer.max_epochs", "")
    done = max(run.metrics.ends) + 1 if run.metrics and run.metrics.ends else None
    if done is None:
        return f"{asked} asked for, none logged" if asked not in (*_NONE, "-1") else ""
    return f"{done} logged" + (f" of {asked}" if asked not in (*_NONE, "-1") else "")


def _steps(run: Run) -> str:
    if run.metrics is None or not run.metrics.columns:
        return ""
    return f"{max(column.steps[-1] for column in run.metrics.columns.values()) + 1:,.0f} logged"


def _accuracy(run: Run) -> str:
    """What the first evaluation says of the pre-trained encoder."""
    for own in run.judgements:
        if own.title == EVALUATION and PRETRAINED in own.header:
            place = own.header.index(PRETRAINED)
            return ", ".join(f"{row[0]} {row[place]}" for row in own.rows)
    return ""


def _versions(run: Run) -> str:
    found = [start.versions for start in run.starts if start.versions][-1:]
    found += [judgement.versions for judgement in run.judgements if judgement.versions][:1]
    told = ", ".join(f"{name} {version}" for name, version in found[0].items()) if found else ""
    return told if not found or (run.starts and run.starts[-1].versions) else f"{told} (of the evaluation)"
