"""Several sources mixed by weights: exact shares, and every batch a function of (seed, index)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.batches import TokenBatches
from trainer.data.mixing import MixedBatches, Part, Shares
from trainer.data.packed import PackedBatches
from trainer.data.tokens import TokenFile

from .test_packed import conversations

weights = st.lists(
    st.one_of(st.floats(1e-4, 1.0), st.integers(1, 5).map(float)), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(weights, st.one_of(st.integers(0, 10_000), st.integers(0, 2**50)), st.integers(0, 3000))
def test_every_stretch_has_the_shares(chosen: list[float], first: int, count: int) -> None:
    taken = Shares(chosen).taken(first, count)
    steps = np.array([np.diff(each) for each in taken])
    assert (steps.sum(axis=0) == 1).all() and set(np.unique(steps)) <= {0, 1}
    for weight, each in zip(chosen, taken, strict=True):
        expected = count * weight / sum(chosen)
        assert abs(int(each[-1] - each[0]) - expected) < max(1, len(chosen) - 1) + 0.001


@settings(max_examples=60, deadline=None)
@given(weights, st.integers(0, 2**40), st.integers(1, 400), st.integers(0, 400))
def test_the_owner_of_an_index_depends_on_nothing_else(
    chosen: list[float], first: int, count: int, inside: int
) -> None:
    shares, inside = Shares(chosen), min(inside, count - 1)
    whole = shares.taken(first, count)
    one = shares.taken(first + inside, 1)
    for all_of_them, alone in zip(whole, one, strict=True):
        assert all_of_them[inside : inside + 2].tolist() == alone.tolist()


def source(count: int, value: int, seed: int = 1, end: int | None = None) -> TokenBatches:
    """A source whose tokens tell which it is."""
    tokens = np.arange(count, dtype=np.uint32) + np.uint32(value)
    return TokenBatches(TokenFile(Path("x"), tokens, 10**6, None), 8, seed, end)


def mixed(*shares: float) -> MixedBatches:
    parts = [
        Part(str(n), share / sum(shares), source(100 * (n + 1), 10_000 * n))
        for n, share in enumerate(shares)
    ]
    return MixedBatches(parts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 5000))
def test_batches_do_not_depend_on_how_they_are_divided(parts: list[int], first: int) -> None:
    """Micro-batches, ranks and a resume divide the same samples in other ways."""
    whole = mixed(5, 3, 1).batch(first, sum(parts))
    again = mixed(5, 3, 1)
    pieces, counted = [], 0.0
    for count in parts:
        pieces.append(again.batch(first, count))
        counted += again.counted(first, count)
        first += count
    for place, expected in enumerate(whole):
        assert np.array_equal(np.concatenate([piece[place] for piece in pieces]), expected)
    assert counted == again.counted(first - sum(parts), sum(parts)) == sum(parts) * 8


def test_each_source_is_seen_in_its_own_order_epoch_after_epoch() -> None:
    both = mixed(3, 1)
    inputs, *_ = both.batch(0, 400)
    small = inputs[inputs[:, 0] < 10_000]  # 12 windows in an epoch, so 25 epochs
    assert len(small) == 300
    assert np.array_equal(small, source(100, 0).batch(0, 300)[0])
    assert np.array_equal(inputs[inputs[:, 0] >= 10_000], source(200, 10_000).batch(0, 100)[0])
    assert both.samples_of_each(0, 400) == [300, 100]
    assert both.num_windows == 12 + 24


def test_a_single_source_is_itself() -> None:
    alone, plain = MixedBatches([Part("x", 1.0, source(100, 0))]), source(100, 0)
    for ours, theirs in zip(alone.batch(5, 9), plain.batch(5, 9), strict=True):
        assert np.array_equal(ours, theirs)


def test_masks_and_marks_are_carried() -> None:
    talks = PackedBatches(conversations([[False, True, True]] * 30), 8, 1, apart=False)
    both = MixedBatches([Part("text", 0.5, source(100, 0)), Part("chat", 0.5, talks)])
    inputs, _, weights_of, *more = both.batch(0, 8)
    assert not more
    of_text = np.array([row[0] + 1 == row[1] and row[6] + 1 == row[7] for row in inputs.tolist()])
    assert of_text.sum() == 4 and weights_of[of_text].all() and not weights_of[~of_text].all()
    assert both.counted(0, 8) == weights_of.sum()
    apart = MixedBatches(
        [
            Part("text", 0.5, source(100, 0, end=50)),
            Part("chat", 0.5, PackedBatches(conversations([[False, True]] * 30), 8, 1, apart=True)),
        ]
    )
    *_, positions = apart.batch(0, 30)
    assert positions.shape == (30, 8) and positions.max() == 7
