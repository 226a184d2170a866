"""A data set with a name, and a stream of the same pictures: rings, thick or thin."""

from collections.abc import Iterator

import torch
from torch import Tensor

from simclr_lightning import ViewRecipe
from simclr_lightning.data import InMemoryPictures, PictureSets, register_source
from simclr_lightning.views import ImageBatch


def rings(number: int) -> tuple[Tensor, Tensor]:
    """(N, 1, 16, 16) uint8, and whether they are thick."""
    thick = torch.arange(number) % 2
    radius = torch.linspace(-1, 1, 16).square()[:, None].add(torch.linspace(-1, 1, 16).square()).sqrt()
    inside = (radius - 0.3 - 0.3 * torch.rand(number, 1, 1)).abs() < 0.1 + 0.15 * thick[:, None, None]
    return (255 * inside).to(torch.uint8)[:, None], thick


@register_source("rings", recipe=ViewRecipe("grayscale", size=16), in_channels=1)
def ring_sets() -> PictureSets:
    """Pictures to train and to judge on."""
    train, test = (InMemoryPictures(*rings(number), ["thin", "thick"]) for number in (400, 32))
    return PictureSets(train, test, test)


class RingStream:
    """They never end."""

    recipe, in_channels = ViewRecipe("grayscale", size=16), 1

    def batches(self, split: str, *, rank: int, world_size: int, batch_size: int, epoch: int) -> Iterator[ImageBatch]:
        share = batch_size // world_size
        for batch in range(0 if split == "train" else 10**9, 10**9):
            images, targets = rings(share)
            yield ImageBatch(images, None, targets, batch * batch_size + rank * share + torch.arange(share))
