"""Views on a device without Triton: the values of a CPU, in the encoder's format, and no wait."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tests.simulated.device import NAME, recorded
from tests.simulated.training import on_simulated_device
from torch import Tensor

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe, clean, crop_views, fused

EVERYTHING = ViewRecipe(size=40, rotation=9.0, noise=0.1, blur=0.5, mean=(0.4, 0.5, 0.6), std=(0.5, 0.6, 0.7))


def pictures(number: int, side: int) -> ImageBatch:
    images = torch.randint(0, 256, (number, 3, side, side), dtype=torch.uint8)
    return ImageBatch(images, None, torch.zeros(number), torch.arange(number))


def cropped(number: int, recipe: ViewRecipe) -> ImageBatch:
    images = pictures(number, recipe.size).images
    assert images is not None
    crops = crop_views(list(images), [recipe], torch.arange(number), seed=0, epoch=0)
    return ImageBatch(None, crops, torch.zeros(number), torch.arange(number))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("by_worker", [False, True])
def test_the_views_of_a_cpu_in_channels_last(by_worker: bool, dtype: torch.dtype) -> None:
    batch = cropped(6, EVERYTHING) if by_worker else pictures(6, 48)
    there = batch.to(NAME)
    with recorded() as record:
        (views,) = ViewEngine(EVERYTHING, dtype=dtype)(there)
    assert not record.waits
    assert views.device.type == NAME
    assert views.dtype == dtype
    assert views.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    (expected,) = ViewEngine(EVERYTHING)(batch)
    torch.testing.assert_close(views.cpu().float(), expected, atol=3e-5, rtol=0 if dtype == torch.float32 else 2**-8)


def test_triton_is_not_asked_to_work_here() -> None:
    assert fused.obstacle(torch.device(NAME, 0))


@pytest.mark.parametrize(
    ("batch", "recipe", "kernels", "passes"),
    [
        (pictures(256, 32), ViewRecipe("cifar10"), 255, 105),
        (cropped(8, ViewRecipe()), ViewRecipe(), 235, 93),
        (pictures(4096, 8), ViewRecipe("cifar10", size=8), 255, 125),  # parameters of more than a driver's buffer
    ],
)
def test_no_wait_and_a_bound_on_what_is_done(batch: ImageBatch, recipe: ViewRecipe, kernels: int, passes: int) -> None:
    sent = batch.to(NAME)
    with recorded() as record:
        (views,) = ViewEngine(recipe)(sent)
    assert not record.waits
    assert record.count <= kernels
    assert record.bytes <= passes * 4 * views.numel()


def test_clean_pictures_wait_for_nothing() -> None:
    sent = pictures(8, 48).to(NAME)
    assert sent.images is not None
    with recorded() as record:
        clean(sent.images, EVERYTHING)
    assert not record.waits


class Types(Callback):
    def __init__(self) -> None:
        self.views: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.views += batch.views


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_training_gets_views_of_the_type_that_its_encoder_computes_in(precision: str, dtype: torch.dtype) -> None:
    types = Types()
    model = SimCLR(encoder="resnet10", width=0.125, stem="pooled", in_channels=1)
    trainer = on_simulated_device(
        precision=precision,
        max_steps=2,
        callbacks=[types],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, SimCLRDataModule(dataset="digits", batch_size=32))
    assert {views.dtype for views in types.views} == {dtype}
