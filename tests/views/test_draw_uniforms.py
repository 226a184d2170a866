from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]

from simclr_lightning.views.draw import mix, uniforms, view_keys

MASK = 2**64 - 1


def splitmix(key: int, counter: int) -> int:
    """SplitMix64 in Python's integers, with the shifts and factors of its published code."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_mix_is_splitmix64() -> None:
    # First outputs of the published generator for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    mixed = mix(torch.tensor(1234567), torch.arange(4))
    assert [number % 2**64 for number in mixed.tolist()] == expected
    assert [splitmix(1234567, counter) for counter in range(4)] == expected


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**63, 2**64 - 1])
def test_uniforms_equal_a_loop_over_pythons_integers(seed: int) -> None:
    indices = torch.tensor([0, 3, 2**40])
    numbers = uniforms(seed, 7, indices, 4, views=range(6))
    assert numbers.shape == (6, 3, 4)
    assert numbers.dtype == torch.float64
    assert torch.equal(numbers[:2], uniforms(seed, 7, indices, 4))
    assert torch.equal(numbers[[4, 1]], uniforms(seed, 7, indices, 4, views=[4, 1]))
    for view in range(6):
        for row, index in enumerate(indices.tolist()):
            key = 0
            for counter in (seed & MASK, 7, index, view):
                key = splitmix(key, counter)
            expected = [(splitmix(key, stream) >> 11) * 2.0**-53 for stream in range(4)]
            assert numbers[view, row].tolist() == expected


def test_numbers_never_change_between_releases() -> None:
    expected = [0.47141042966848024, 0.7816823175847682]
    numbers = uniforms(0, 0, torch.tensor([0]), 1)
    assert numbers.flatten().tolist() == expected


@pytest.mark.parametrize("axis", ["index", "stream", "epoch", "seed"])
def test_numbers_are_uniform_along_every_counter(axis: str) -> None:
    number = 20000
    counters = torch.arange(number)
    if axis == "index":
        sample = uniforms(0, 0, counters, 1)[0, :, 0]
    elif axis == "stream":
        sample = uniforms(0, 0, torch.tensor([5]), number)[0, 0]
    elif axis == "epoch":
        sample = torch.stack([uniforms(0, epoch, torch.tensor([5]), 1)[0, 0, 0] for epoch in range(500)])
    else:
        sample = torch.stack([uniforms(seed, 3, torch.tensor([5]), 1)[0, 0, 0] for seed in range(500)])
    assert sample.min() >= 0
    assert sample.max() < 1
    assert stats.kstest(sample.numpy(), "uniform").pvalue > 0.01


def test_streams_views_indices_and_epochs_are_uncorrelated() -> None:
    number = 20000
    indices = torch.arange(number)
    now, later = uniforms(1, 4, indices, 6), uniforms(1, 5, indices, 6)
    series = torch.cat([now[0], now[1], later[0], now[0].roll(1, 0), uniforms(2, 4, indices, 6)[0]], 1)
    correlation = np.corrcoef(series.T.numpy())
    off_diagonal = np.abs(correlation - np.eye(len(correlation))).max()
    assert off_diagonal < 5 / number**0.5  # 5 standard deviations; 435 pairs


def test_pairs_fill_the_unit_square_evenly() -> None:
    first, second = uniforms(3, 0, torch.arange(40000), 2)[0].unbind(-1)
    counts = np.histogram2d(first.numpy(), second.numpy(), bins=20, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_every_bit_of_a_counter_changes_half_of_the_bits_of_the_key() -> None:
    keys = mix(torch.tensor(99), torch.arange(2000))
    for bit in range(0, 64, 7):
        flip = torch.tensor(1 << bit if bit < 63 else -(2**63))
        changed = mix(torch.tensor(99), torch.arange(2000) ^ flip) ^ keys
        ones = sum(number.bit_count() for number in (changed & (2**63 - 1)).tolist()) / (63 * 2000)
        assert abs(ones - 0.5) < 0.01


def test_a_column_does_not_depend_on_how_many_are_drawn() -> None:
    indices = torch.tensor([4, 1])
    assert torch.equal(uniforms(0, 1, indices, 30)[..., :3], uniforms(0, 1, indices, 3))


def test_a_picture_does_not_depend_on_its_batch() -> None:
    indices = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms(0, 1, indices, 3)[:, 17], uniforms(0, 1, indices[17:18], 3)[:, 0])


def test_keys_of_many_views_are_all_different() -> None:
    keys = torch.cat([view_keys(0, epoch, torch.arange(5000)) for epoch in range(10)])
    assert len(set(keys.flatten().tolist())) == 100000
    keys = view_keys(0, 0, torch.arange(5000), views=range(20))
    assert len(set(keys.flatten().tolist())) == 100000
