"""Settings that are right run a step, whatever they are together: drawn by Hypothesis."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as draw

Simclr = Callable[..., None]

SHARES = draw.floats(0, 1, allow_nan=False)


def losses() -> draw.SearchStrategy[dict[str, Any]]:
    temperature = draw.floats(0.05, 2)
    return draw.one_of(
        draw.fixed_dictionaries(
            {
                "class_path": draw.just("simclr_lightning.losses.NTXentLoss"),
                "init_args": draw.fixed_dictionaries(
                    {"temperature": temperature, "normalize": draw.booleans(), "official_scale": draw.booleans()}
                ),
            }
        ),
        draw.fixed_dictionaries(
            {
                "class_path": draw.sampled_from(["DecoupledNTXent", "SupConNTXent"]).map(
                    "simclr_lightning.losses.{}".format
                ),
                "init_args": draw.fixed_dictionaries({"temperature": temperature}),
            }
        ),
        draw.fixed_dictionaries(
            {
                "class_path": draw.just("simclr_lightning.losses.HardNegativeNTXent"),
                "init_args": draw.fixed_dictionaries(
                    {
                        "temperature": draw.floats(0.2, 2),
                        "beta": draw.floats(0, 2),
                        "tau_plus": draw.floats(0, 0.5),
                    }
                ),
            }
        ),
    )


def models() -> draw.SearchStrategy[dict[str, Any]]:
    return draw.fixed_dictionaries(
        {
            "encoder": draw.sampled_from(["resnet8", "resnet10"]),
            "width": draw.just(0.125),
            "stem": draw.sampled_from(["auto", "cifar", "pooled", "imagenet"]),
            "projection_layers": draw.integers(0, 3),
            "projection_hidden": draw.none() | draw.integers(1, 16),
            "projection_dim": draw.integers(2, 16),  # of one number normalisation leaves a sign, without a gradient
            "loss": losses(),
            "optimizer": draw.sampled_from(["lars", "sgd", "adamw"]),
            "learning_rate": draw.floats(1e-4, 0.5),
            "weight_decay": draw.floats(0, 0.1),
            "momentum": draw.floats(0, 0.99),
            "channels_last": draw.booleans(),
            "zero_init_residual": draw.booleans(),
            "pool_grid": draw.integers(1, 2),
            "micro_batch_size": draw.none() | draw.integers(2, 16),
            "freeze_epochs": draw.sampled_from([0, 0.5, 1]),
        }
    ).filter(trains)


def trains(drawn: dict[str, Any]) -> bool:
    """Something has to learn, and the last maps have as many pixels a side as there are fields."""
    learns = drawn["projection_layers"] or not drawn["freeze_epochs"]
    large = drawn["encoder"] == "resnet8" and drawn["stem"] in ("auto", "cifar")
    return learns and (drawn["pool_grid"] == 1 or large)


def data() -> draw.SearchStrategy[dict[str, Any]]:
    views = draw.fixed_dictionaries(
        {
            "preset": draw.just("digits"),
            "size": draw.integers(8, 24),
            "count": draw.integers(2, 3),
            "crop": SHARES,
            "flip": SHARES,
            "rotate90": SHARES,
            "rotation": draw.floats(0, 180),
            "blur": SHARES,
            "noise": draw.floats(0, 0.2),
            "interpolation": draw.sampled_from(["bicubic", "bilinear"]),
        }
    )
    return draw.fixed_dictionaries(
        {
            "dataset": draw.just("digits"),
            "batch_size": draw.integers(4, 24),
            "views": views,
            "val_fraction": draw.sampled_from([0.0, 0.1, 0.5]),
            "label_fraction": draw.sampled_from([0.1, 1.0]),
            "seed": draw.none() | draw.integers(0, 2**32 - 1),
        }
    )


def trainers() -> draw.SearchStrategy[dict[str, Any]]:
    return draw.fixed_dictionaries(
        {
            "accelerator": draw.just("cpu"),
            "devices": draw.just(1),
            "max_steps": draw.integers(1, 2),
            "max_epochs": draw.just(-1),
            "limit_val_batches": draw.sampled_from([0, 1]),
            "num_sanity_val_steps": draw.integers(0, 1),
            "accumulate_grad_batches": draw.integers(1, 2),
            "gradient_clip_val": draw.none() | draw.floats(0.01, 10),
            "gradient_clip_algorithm": draw.sampled_from([None, "norm", "value"]),
            "precision": draw.sampled_from([None, "32", "bf16-mixed"]),
            "log_every_n_steps": draw.integers(1, 3),
            "enable_progress_bar": draw.just(False),
            "logger": draw.just(False),
        }
    )


@settings(
    max_examples=200 if os.environ.get("SIMCLR_FAULTS") else 3,
    deadline=None,
    derandomize=not os.environ.get("SIMCLR_FAULTS"),
    database=None,
    phases=list(Phase) if os.environ.get("SIMCLR_FAULTS") else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(model=models(), data=data(), trainer=trainers())
def test_a_step_is_run(simclr: Simclr, model: dict[str, Any], data: dict[str, Any], trainer: dict[str, Any]) -> None:
    config = {"model": {"init_args": model}, "data": {"init_args": data}, "trainer": trainer}
    Path("drawn.yaml").write_text(yaml.safe_dump(config))
    for file in Path("checkpoints").glob("*.ckpt"):
        file.unlink()  # a folder has one run
    simclr("fit", "--config", "drawn.yaml")
    assert list(Path("checkpoints").glob("last*.ckpt"))
