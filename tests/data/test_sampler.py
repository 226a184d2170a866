from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from simclr_lightning.data import GlobalBatchSampler, Key


def sampler(
    pictures: int,
    batch_size: int,
    *,
    processes: int = 1,
    rank: int = 0,
    train: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> GlobalBatchSampler:
    return GlobalBatchSampler(
        range(pictures),
        batch_size,
        num_replicas=processes,
        rank=rank,
        shuffle=train,
        drop_last=train,
        seed=seed,
        epoch=epoch,
    )


def batches(sampler: Any) -> Any:
    return list(BatchSampler(sampler, sampler.batch_size // sampler.num_replicas, drop_last=False))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("pictures", "batch_size", "processes"), [(100, 12, 2), (101, 12, 3), (64, 16, 4), (37, 6, 6)])
def test_a_step_of_all_processes_is_the_step_of_one(
    pictures: int, batch_size: int, processes: int, train: bool
) -> None:
    alone = batches(sampler(pictures, batch_size, train=train, epoch=3))
    together = [
        batches(sampler(pictures, batch_size, processes=processes, rank=rank, train=train, epoch=3))
        for rank in range(processes)
    ]
    assert {len(part) for part in together} == {len(alone)}
    for step, whole in enumerate(alone):
        parts = [part[step] for part in together]
        assert len({len(part) for part in parts}) == 1  # collectives need equal shapes
        served = [key.place for key in chain(*parts) if not key.repeated]
        assert sorted(served) == sorted(key.place for key in whole)


def test_two_processes_see_disjoint_halves() -> None:
    first, second = ({key.place for key in sampler(64, 16, processes=2, rank=rank)} for rank in (0, 1))
    assert len(first) == len(second) == 32
    assert first | second == set(range(64))


def test_training_drops_the_tail_and_evaluation_serves_every_picture_once() -> None:
    training = [key.place for key in sampler(103, 10)]
    assert len(training) == len(set(training)) == len(sampler(103, 10)) == 100
    keys = [key for rank in range(4) for key in sampler(103, 12, processes=4, rank=rank, train=False)]
    assert sorted(key.place for key in keys if not key.repeated) == list(range(103))
    assert len(keys) == 104
    assert sum(key.repeated for key in keys) == 1


def test_more_processes_than_pictures_all_get_a_batch() -> None:
    keys = [list(sampler(2, 4, processes=4, rank=rank, train=False)) for rank in range(4)]
    assert [len(part) for part in keys] == [1, 1, 1, 1]
    assert [part[0].repeated for part in keys] == [False, False, True, True]


def test_order_depends_on_seed_and_epoch_and_is_their_permutation() -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            keys = list(sampler(50, 50, seed=seed, epoch=epoch))
            assert {key.epoch for key in keys} == {epoch}
            orders[seed, epoch] = tuple(key.place for key in keys)
    assert len(set(orders.values())) == 4  # torch's own sampler mixes up (0, 1) and (1, 0)
    assert orders[0, 1] == tuple(np.random.default_rng((0, 1)).permutation(50))


def test_set_epoch_reorders_training_and_leaves_evaluation_alone() -> None:
    training = sampler(50, 10)
    before = list(training)
    training.set_epoch(1)
    assert [key.place for key in training] != [key.place for key in before]
    evaluation = sampler(50, 10, train=False, epoch=7)
    evaluation.set_epoch(1)
    assert list(evaluation) == [Key(place, 7) for place in range(50)]


def test_start_leaves_out_whole_steps() -> None:
    complete = sampler(64, 16, processes=2, rank=1)
    resumed = sampler(64, 16, processes=2, rank=1)
    resumed.start = 3
    assert list(resumed) == list(complete)[3 * 8 :]


def test_lightning_leaves_it_alone() -> None:
    assert isinstance(sampler(4, 2), DistributedSampler)


@pytest.mark.parametrize("batch_size", [0, -4, 9])
def test_batch_size_must_be_shared_equally(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}.*2 processes"):
        sampler(100, batch_size, processes=2)
