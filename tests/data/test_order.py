"""Orders: every picture once, a window at a time, the same for any number of processes."""

from __future__ import annotations

import re
import warnings
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.order import Order, WindowOrder, places, uniform_order
from simclr_lightning.errors import InputError

CHUNKS = np.repeat(np.arange(20), 30)  # 600 pictures in 20 chunks


def batches(order: Order, processes: int, batch_size: int = 60, start: int = 0, epoch: int = 3) -> list[list[int]]:
    """Places of every global batch."""
    shares = []
    for rank in range(processes):
        sampler = GlobalBatchSampler(
            range(600),
            batch_size,
            num_replicas=processes,
            rank=rank,
            shuffle=True,
            drop_last=True,
            seed=5,
            epoch=epoch,
            order=order,
        )
        sampler.start = start
        share = batch_size // processes
        places = [key.place for key in sampler]
        shares.append([places[first : first + share] for first in range(0, len(places), share)])
    return [list(chain(*parts)) for parts in zip(*shares, strict=True)]


@pytest.mark.parametrize("order", [uniform_order, WindowOrder(CHUNKS, 8)], ids=["uniform", "window"])
def test_one_two_and_three_processes_have_the_same_batches(order: Order) -> None:
    alone = batches(order, 1)
    assert sorted(place for batch in alone for place in batch) == list(range(600))
    assert batches(order, 2) == batches(order, 3) == alone
    assert batches(order, 2, start=240) == batches(order, 3, start=240) == alone[4:]  # resumed by others
    assert batches(order, 1, epoch=4) != alone


@pytest.mark.parametrize(("chunks", "window", "windows"), [(20, 8, 2), (20, 20, 1), (3, 8, 1), (17, 16, 1), (9, 2, 4)])
def test_a_window_is_finished_before_the_next(chunks: int, window: int, windows: int) -> None:
    held = np.repeat(np.arange(chunks), 10)
    order = WindowOrder(held, window)(len(held), seed=0, epoch=1)
    assert sorted(order.tolist()) == list(range(len(held)))
    first = [int(np.flatnonzero(held[order] == chunk)[0]) for chunk in range(chunks)]
    last = [int(np.flatnonzero(held[order] == chunk)[-1]) for chunk in range(chunks)]
    spans = list(zip(first, last, strict=True))
    ends = [end for end in range(1, len(held) + 1) if not any(start < end <= stop for start, stop in spans)]
    assert len(ends) == windows
    mixed = [len(set(held[order[start:end]].tolist())) for start, end in pairwise([0, *ends])]
    assert sum(mixed) == chunks
    assert min(mixed) >= min(window, chunks)  # the last one, too


def test_a_batch_mixes_the_chunks_of_a_window() -> None:
    mixed = [len(set(CHUNKS[batch].tolist())) for batch in batches(WindowOrder(CHUNKS, 8), 1)]
    assert min(mixed) >= 8  # 60 pictures of 10 chunks
    assert max(batch[0] for batch in batches(WindowOrder(CHUNKS, 8), 1)) > 300


def test_every_pair_of_chunks_meets_in_some_epoch() -> None:
    """The windows are others in every epoch."""
    order, pairs = WindowOrder(np.repeat(np.arange(6), 4), 2), set()
    for epoch in range(60):
        held = np.repeat(np.arange(6), 4)[order(24, 0, epoch)]
        pairs |= {tuple(sorted(set(held[first : first + 8].tolist()))) for first in (0, 8, 16)}
    assert len(pairs) == 15


def test_gaps_in_places_and_chunks_do_no_harm() -> None:
    order = WindowOrder(np.array([7, 0, 7, 3, 0]), 1)(5, 0, 0)
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4]


def test_few_chunks_are_warned_of_where_there_are_more() -> None:
    with pytest.warns(UserWarning, match=r"3 of 20 chunks.*--data.chunk_window 16"):
        WindowOrder(CHUNKS, 3).warn_of_few()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WindowOrder(CHUNKS, 4).warn_of_few()
        WindowOrder(CHUNKS[:60], 1).warn_of_few()  # there are no four


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0.0, 1.0], "float64 of shape (2,)"),
        ([[0, 1]], "shape (1, 2)"),
        ([], "shape (0,)"),
        ([0, 9], "places from 0 to 9, of 9 pictures: let training_order() give numbers from 0 to 8"),
        ([-1, 3], "places from -1 to 3"),
    ],
)
def test_an_order_of_ones_own_is_checked(order: list[float], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        places(lambda pictures, seed, epoch: np.array(order), 9, 0, 4)
    assert "epoch 4" in str(raised.value)
    assert str(raised.value).count("\n") < 3


@pytest.mark.parametrize("length", [600, 90], ids=["drawn twice", "begins again within a batch"])
def test_a_picture_that_comes_twice_in_a_batch_is_refused(length: int) -> None:
    order = np.arange(length)
    order[40] = 7 if length == 600 else 40
    with pytest.raises(InputError, match=r"The order of epoch 3 has place \d+ twice in a batch of (60|120)") as raised:
        batches(lambda pictures, seed, epoch: order, 1, batch_size=60 if length == 600 else 120)
    assert str(raised.value).count("\n") < 3


@pytest.mark.parametrize("processes", [1, 2])
def test_an_order_of_ones_own_is_shared_and_goes_on(processes: int) -> None:
    def order(pictures: int, seed: int, epoch: int) -> Any:  # the even pictures, over and over
        return np.random.default_rng((seed, epoch)).permutation(np.arange(0, pictures, 2))

    shared = batches(order, processes)
    assert {place for batch in shared for place in batch} == set(range(0, 600, 2))
    assert [sorted(batch) for batch in shared] == [sorted(batch) for batch in batches(order, 1)]
    assert batches(order, processes, start=4 * 60) == shared[4:]
    assert shared != batches(order, processes, epoch=4)
