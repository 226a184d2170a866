"""Two processes that were not started alike end with one message, before either trains or waits for the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule, ViewRecipe
from simclr_lightning.data import InMemoryPictures, PictureSets
from simclr_lightning.distributed import rank
from simclr_lightning.errors import InputError
from simclr_lightning.losses import DecoupledNTXent, NTXentLoss


def pictures(number: int = 64, classes: str = "ab", seed: int = 0) -> Any:
    def made() -> PictureSets:
        images = torch.randint(256, (number, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        return PictureSets(InMemoryPictures(images, torch.arange(number) % 2, list(classes)))

    return made


CASES: dict[str, tuple[str, tuple[Any, Any], str]] = {  # argument, its values on the ranks, what is told
    "temperature": ("loss", (NTXentLoss(0.5), NTXentLoss(0.1)), "model.loss.temperature is 0.5 on rank 0, and 0.1"),
    "loss": ("loss", (NTXentLoss(0.5), DecoupledNTXent(0.5)), "model.loss.class_path is simclr_lightning"),
    "rate": ("learning_rate", (0.1, 0.3), "model.learning_rate is 0.1 on rank 0, and 0.3 on rank 1"),
    "optimizer": ("optimizer", ("sgd", "adamw"), "model.optimizer is sgd on rank 0, and adamw on rank 1"),
    "seed": ("seed", (0, 1), "data.seed is 0 on rank 0, and 1 on rank 1"),
    "views": ("views", ("digits", ViewRecipe("digits", jitter=0.5)), "data.views.jitter is "),
    "batch size": ("batch_size", (16, 32), "data.batch_size is 16 on rank 0, and 32 on rank 1"),
    "number": ("dataset", (pictures(), pictures(60)), "number of training pictures is 64 on rank 0, and 60 on rank 1"),
    "classes": ("dataset", (pictures(), pictures(classes="ac")), "data of class names is ['a', 'b'] on rank 0"),
    "pictures": ("dataset", (pictures(), pictures(seed=1)), "data of list of training pictures is "),
    "accumulation": ("accumulate_grad_batches", (1, 2), "trainer.accumulate_grad_batches is 1 on rank 0, and 2"),
    "warm-up": ("warmup_epochs", (0, 1), "trainer.callbacks.LARSWarmup.warmup_epochs is 0 on rank 0, and 1"),
    "the same": ("num_workers", (0, 1), ""),
}


def complaints() -> dict[str, str]:
    """Of every case; nothing where a step is trained."""
    found = {}
    for case, (argument, values, _) in CASES.items():
        given: dict[str, Any] = {argument: values[rank()]}
        trained = {name: given.pop(name) for name in ("loss", "learning_rate", "optimizer") if name in given}
        warmup = LARSWarmup(given.pop("warmup_epochs", 0))
        steps = given.pop("accumulate_grad_batches", 1)
        model = SimCLR("resnet8", width=0.125, in_channels=1, image_size=8, **trained)
        data = SimCLRDataModule(**{"dataset": CASES["number"][1][0], "batch_size": 16, "views": "digits"} | given)
        trainer = Trainer(
            accelerator="cpu",
            strategy="ddp",
            devices=2,
            max_steps=1,
            accumulate_grad_batches=steps,
            callbacks=[warmup],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        found[case] = ""
        try:
            trainer.fit(model, data)
        except InputError as error:
            found[case] = str(error)
    return found


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks")
def test_what_differs_is_named() -> None:
    own, other = run_in_processes(complaints, 2, timeout=120)
    assert own == other  # all end
    for case, (_, _, told) in CASES.items():
        assert told in own[case]
        assert bool(told) == bool(own[case])
        assert own[case].count("\n") <= 2
