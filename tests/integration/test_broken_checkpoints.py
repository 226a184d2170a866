"""A checkpoint that a training cannot go on from is told in at most three lines, which name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning.errors import InputError

Simclr = Callable[..., None]

TINY = [
    "--model.encoder",
    "resnet8",
    "--model.width",
    "0.125",
    "--data.batch_size",
    "128",
    "--trainer.accelerator",
    "cpu",
]
SHORT = ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"]
FIT = [*TINY, *SHORT, "--trainer.callbacks+=OnlineLinearProbe"]
CONV = "encoder.conv1.weight"


def groups(content: Any) -> list[Any]:
    found: list[Any] = content["optimizer_states"][0]["param_groups"]
    return found


def probe(content: Any) -> dict[str, Any]:
    (found,) = (state for name, state in content["callbacks"].items() if "Probe" in name)
    return found  # type: ignore[no-any-return]


BREAK: dict[str, tuple[Callable[[Any], Any], str]] = {
    "weights alone": (
        lambda content: [content.pop(name) for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks")],
        "holds weights, and no optimizer_states, lr_schedulers, loops, callbacks: no training goes on",
    ),
    "tensor missing": (lambda content: content["state_dict"].pop(CONV), "does not fit: RuntimeError.*Missing key"),
    "tensor too many": (lambda content: content["state_dict"].update(x=torch.ones(1)), "does not fit.*Unexpected key"),
    "other shape": (lambda content: content["state_dict"].update({CONV: torch.ones(3)}), "does not fit.*size mismatch"),
    "group missing": (lambda content: groups(content).pop(), "does not fit: ValueError: .*different number of param"),
    "no optimizer": (lambda content: content["optimizer_states"].clear(), "it is of 0 optimizers, and 1 are trained"),
    "no position": (lambda content: content["loops"]["fit_loop"].clear(), "does not fit: KeyError: .fit_loop."),
    "broken position": (
        lambda content: content["loops"]["fit_loop"].update(epoch_progress=3),
        "does not fit: TypeError",
    ),
    "broken loss": (lambda content: content["hyper_parameters"].update(loss={"x": 1}), "tells of a loss {.x.: 1}"),
    "broken probe": (
        lambda content: probe(content).pop("head"),
        "The saved probe has no head",
    ),
}


def test_each_kind_is_told(simclr: Simclr) -> None:
    simclr("fit", *FIT, "--trainer.max_epochs", "1")
    last = Path("runs/simclr/version_0/checkpoints/last.ckpt")
    for kind, (damage, told) in BREAK.items():
        content = torch.load(last, weights_only=True)
        damage(content)
        torch.save(content, "broken.ckpt")
        with pytest.raises(InputError, match=told) as refused:
            simclr("fit", *FIT, "--trainer.max_epochs", "2", "--ckpt_path", "broken.ckpt")
        message = str(refused.value)
        assert len(message.splitlines()) <= 3, message
        assert "broken.ckpt" in message or kind == "broken probe", message
    simclr("test", *TINY, *SHORT, "--ckpt_path", last)
