"""Retain batches: every record once an epoch, reproducible, resumable, few row groups at a time."""

from itertools import islice

import numpy as np

from core.unlearning.sampler import BATCHES_A_WINDOW, WindowSampler


def stream(sampler: WindowSampler, windows: int, *, start: int = 0) -> np.ndarray:
    return np.concatenate(list(islice(sampler.windows(start=start), windows)))


def test_every_record_is_seen_once_an_epoch() -> None:
    sampler = WindowSampler(np.zeros(100, dtype=np.int64), batch_size=10, seed=0)
    seen = stream(sampler, 5)  # 16 batches of 10 a window: 8 epochs
    for epoch in range(8):
        assert sorted(seen[epoch * 100 : (epoch + 1) * 100]) == list(range(100))


def test_epochs_differ_in_order() -> None:
    seen = stream(WindowSampler(np.zeros(100, dtype=np.int64), batch_size=10, seed=0), 2)
    assert not np.array_equal(seen[:100], seen[100:200])


def test_the_seed_decides() -> None:
    groups = np.arange(300) // 50
    first, again, other = (stream(WindowSampler(groups, batch_size=4, seed=seed), 9) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_goes_on_where_another_stopped() -> None:
    groups = np.arange(1000) // 100
    whole = stream(WindowSampler(groups, batch_size=8, seed=3), 20)
    rest = stream(WindowSampler(groups, batch_size=8, seed=3), 8, start=12)
    np.testing.assert_array_equal(whole[12 * 8 * BATCHES_A_WINDOW :], rest)


def test_a_window_of_a_large_dataset_touches_few_row_groups() -> None:
    groups = np.arange(100_000) // 1000
    window = next(WindowSampler(groups, batch_size=64, seed=0).windows())
    assert len(window) == 64 * BATCHES_A_WINDOW
    assert len(set(groups[window])) <= 9


def test_a_small_set_is_its_own_batch() -> None:
    sampler = WindowSampler(np.zeros(3, dtype=np.int64), batch_size=128, seed=0)
    assert sampler.batch_size == 3
    window = next(sampler.windows())
    assert all(sorted(window[i : i + 3]) == [0, 1, 2] for i in range(0, len(window), 3))
