from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from simclr_lightning.callbacks.labelled_stream import LabelledStream
from simclr_lightning.errors import InputError

DATA = TensorDataset(torch.arange(10))


def shuffled() -> DataLoader[Any]:
    return DataLoader(DATA, batch_size=4, shuffle=True)


def take(stream: LabelledStream, number: int) -> list[int]:
    """Pictures of the next batches."""
    return [picture for _ in range(number) for picture in stream.take()[0].tolist()]


def test_each_cycle_gives_every_picture_once_in_another_order() -> None:
    stream = LabelledStream(shuffled())
    first, second = take(stream, 3), take(stream, 3)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(10))


def test_the_models_random_numbers_are_left_alone() -> None:
    stream = LabelledStream(shuffled())
    before = torch.get_rng_state()
    take(stream, 7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("taken", [0, 2, 3, 4])
def test_a_restored_stream_continues_where_it_was(taken: int) -> None:
    stream = LabelledStream(shuffled())
    take(stream, taken)
    torch.rand(3)  # the model has taken random numbers in between
    restored = LabelledStream(shuffled())
    restored.cycle, restored.position = stream.cycle, stream.position
    assert take(restored, 5) == take(stream, 5)


def test_the_sampler_is_told_the_cycle() -> None:
    sampler: DistributedSampler[Any] = DistributedSampler(DATA, num_replicas=1, rank=0, seed=3)
    pictures = take(LabelledStream(DataLoader(DATA, batch_size=5, sampler=sampler)), 4)
    for cycle in range(2):
        sampler.set_epoch(cycle)
        assert pictures[10 * cycle : 10 * cycle + 10] == list(sampler)


def test_an_iterable_without_length_or_sampler_will_do() -> None:
    class Forty:
        def __iter__(self) -> Iterator[tuple[Tensor]]:
            yield (torch.tensor([40]),)

    assert take(LabelledStream(Forty()), 3) == [40] * 3


def test_an_empty_loader_is_an_error() -> None:
    with pytest.raises(InputError, match=r"gives no batches.*--data.probe"):
        LabelledStream(DataLoader(DATA, batch_size=20, drop_last=True)).take()
