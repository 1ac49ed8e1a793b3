from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.data.batches import TokenBatches, ordered_batches, to_tensors
from trainer.data.permutation import Permutation, key_of, mix, mix_array
from trainer.data.synthetic import SyntheticBatches
from trainer.data.tokens import TokenFile


def token_file(count: int) -> TokenFile:
    """A file whose token at position p is p, so that a batch shows where it was read."""
    return TokenFile(Path("train.bin"), np.arange(count, dtype=np.uint32), count, None)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_is_a_bijection(size: int, key: int) -> None:
    order = Permutation(size, key)(np.arange(size))
    assert sorted(order.tolist()) == list(range(size))


def test_permutations_of_large_sizes_stay_in_range_and_apart() -> None:
    for size in (2**31 + 11, 2**40 - 1):
        order = Permutation(size, 5)(np.arange(20_000) + size - 20_000)
        assert order.min() >= 0
        assert order.max() < size
        assert len(np.unique(order)) == 20_000


def test_permutations_look_random() -> None:
    size = 1000
    orders = np.array([Permutation(size, key_of(7, n))(np.arange(size)) for n in range(200)])
    # The first element is anywhere, neighbours are not neighbours, and keys differ.
    assert abs(orders[:, 0].mean() / size - 0.5) < 0.08
    assert len(np.unique(orders[:, 0])) > 150
    correlations = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]
    assert abs(np.mean(correlations)) < 0.01
    assert np.std(correlations) < 0.06
    between = [np.corrcoef(a, b)[0, 1] for a, b in pairwise(orders)]
    assert abs(np.mean(between)) < 0.01
    # Differences of neighbours in a shuffle have a triangular distribution; a weak mix of the
    # low bits shows as too many or too few even ones.
    assert abs(np.mean(np.diff(orders) % 2) - 0.5) < 0.01


def test_mix_is_the_same_for_numbers_and_arrays() -> None:
    values = np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert mix_array(values).tolist() == [mix(int(value)) for value in values]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 20), st.integers(0, 300), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_visits_every_window_once(seq_len: int, extra: int, seed: int, epoch: int) -> None:
    count = seq_len + 1 + extra
    data = TokenBatches(token_file(count), seq_len, seed)
    assert data.num_windows == (count - 1) // seq_len
    inputs, targets = data.batch(epoch * data.num_windows, data.num_windows)
    assert inputs.shape == targets.shape == (data.num_windows, seq_len)
    assert inputs.dtype == targets.dtype == np.int64
    assert len(np.unique(inputs)) == inputs.size  # no token is an input twice
    assert ((inputs + 1) % count == targets).all()  # targets are the next tokens, on the ring
    if epoch == 0:
        assert (inputs[:, 0] % seq_len == 0).all()
        assert (targets > inputs).all()  # the first epoch joins no end to a beginning


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 60))
def test_a_batch_depends_on_its_place_only(first: int, count: int, split: int) -> None:
    data = TokenBatches(token_file(257), 8, seed=3)  # 32 windows: batches span epochs
    inputs, targets = data.batch(first, count)
    again = TokenBatches(token_file(257), 8, seed=3)
    one_by_one = [again.batch(first + i, 1) for i in reversed(range(count))][::-1]
    assert (inputs == np.concatenate([x for x, _ in one_by_one])).all()
    assert (targets == np.concatenate([y for _, y in one_by_one])).all()
    head = min(split, count)
    assert (data.batch(first + head, count - head)[0] == inputs[head:]).all()


def test_epochs_and_seeds_differ_in_order_and_cut() -> None:
    data = TokenBatches(token_file(10_001), 16, seed=1)
    n = data.num_windows
    first, second = data.starts(0, n), data.starts(n, n)
    assert set(first.tolist()) != set(second.tolist())  # other windows, not only another order
    other = TokenBatches(token_file(10_001), 16, seed=2).starts(0, n)
    assert set(first.tolist()) == set(other.tolist())
    assert (first != other).any()


def test_every_token_is_reached_over_the_epochs() -> None:
    data = TokenBatches(token_file(50), 20, seed=0)  # 2 windows of 20 leave 10 tokens an epoch
    inputs, _ = data.batch(0, 2 * 40)
    assert len(np.unique(inputs)) == 50


@pytest.mark.parametrize("make", [TokenBatches, lambda f, t, s: list(ordered_batches(f, t, 1))])
def test_files_shorter_than_a_window(make) -> None:
    with pytest.raises(UserError, match=r"train.bin has 8 tokens, fewer than the 9 .* seq_len 8"):
        make(token_file(8), 8, 0)
    make(token_file(9), 8, 0)
    with pytest.raises(UserError, match="seq_len is 0"):
        make(token_file(8), 0, 0)


@given(st.integers(1, 10), st.integers(0, 200), st.integers(1, 7), st.none() | st.integers(1, 10))
def test_evaluation_windows_are_even_ordered_and_apart(
    seq_len: int, extra: int, batch_size: int, max_batches: int | None
) -> None:
    file = token_file(seq_len + 1 + extra)
    windows = (file.count - 1) // seq_len
    batches = list(ordered_batches(file, seq_len, batch_size, max_batches))
    starts = np.concatenate([inputs[:, 0] for inputs, _ in batches])
    wanted = windows if max_batches is None else min(windows, max_batches * batch_size)
    assert len(starts) == wanted
    gaps = np.diff(starts)
    assert (gaps >= seq_len).all()
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= seq_len
    assert all(len(inputs) == batch_size for inputs, _ in batches[:-1])
    for inputs, targets in batches:
        assert (inputs + 1 == targets).all()


def test_tensors() -> None:
    import torch

    inputs, targets = to_tensors(TokenBatches(token_file(100), 8, 0).batch(0, 4), "cpu")
    assert inputs.dtype == targets.dtype == torch.int64
    assert targets.is_contiguous()
    assert (inputs + 1 == targets).all()


def test_synthetic_samples_follow_their_rules() -> None:
    data = SyntheticBatches(vocab_size=10, seq_len=12, n_samples=3000, seed=42)
    rows = data.sequences(np.arange(3000))
    assert rows.shape == (3000, 13)
    for i in (0, 3, 27, 2997):
        assert (rows[i] == i % 9 + 1).all()
    for i in (1, 4, 28, 2998):
        assert (rows[i] == (i + np.arange(13)) % 10).all()
    noise = rows[2::3]
    counts = np.bincount(noise.ravel(), minlength=10) / noise.size
    assert abs(counts - 0.1).max() < 0.02
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(0, 100), st.integers(0, 30), st.integers(0, 9))
def test_synthetic_batches_are_pure_and_cover_an_epoch(
    n_samples: int, first: int, count: int, seed: int
) -> None:
    data = SyntheticBatches(17, 5, n_samples, seed)
    assert data.num_windows == n_samples
    inputs, targets = data.batch(first, count)
    assert inputs.shape == targets.shape == (count, 5)
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    for i in range(count):
        assert (data.batch(first + i, 1)[0][0] == inputs[i]).all()
    epoch = data.batch(n_samples * 3, n_samples)[0]
    every = data.sequences(np.arange(n_samples))[:, :-1]
    assert sorted(epoch.tolist()) == sorted(every.tolist())


@pytest.mark.parametrize("sizes", [(1, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_synthetic_sizes_that_make_no_samples(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="synthetic data needs"):
        SyntheticBatches(*sizes, seed=0)


def documents_file(lengths: list[int]) -> TokenFile:
    """Documents of so many tokens before the end-of-text token 0."""
    tokens = np.concatenate([np.append(np.arange(n) + 1, 0) for n in lengths])
    return TokenFile(Path("train.bin"), tokens.astype(np.uint32), 1000, None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=3, max_size=30), st.integers(1, 9), st.integers(0, 60))
def test_documents_are_told_apart(lengths: list[int], seq_len: int, first: int) -> None:
    file = documents_file([*lengths, 9])
    source = TokenBatches(file, seq_len, seed=3, document_end=0)
    plain = TokenBatches(file, seq_len, seed=3).batch(first, 5)
    inputs, targets, weights, positions = source.batch(first, 5)
    assert np.array_equal(inputs, plain[0])
    assert np.array_equal(targets, plain[1])
    assert source.counted(first, 5) == weights.sum()
    for row in range(5):
        position = 0
        for column in range(seq_len):
            assert positions[row, column] == position
            # A document's first token is not predicted from the one before.
            assert weights[row, column] == (inputs[row, column] != 0)
            position = 0 if inputs[row, column] == 0 else position + 1
    both = zip(source.batch(first, 5), source.batch(first + 2, 1), strict=True)
    assert all(np.array_equal(many[2:3], one) for many, one in both)
