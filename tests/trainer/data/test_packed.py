"""Packing whole conversations into sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from tests.trainer.data.test_tokens import SIDECAR
from trainer.data.marks import BEGINS, COUNTS
from trainer.data.packed import PackedBatches, pack
from trainer.data.tokens import TokenFile

PAD = 7


def conversations(masks: list[list[bool]]) -> TokenFile:
    """One conversation per mask, whose tokens are all different."""
    marks = [np.array(mask, dtype=np.uint8) * COUNTS for mask in masks]
    for mark in marks:
        mark[0] |= BEGINS
    both = np.concatenate(marks)
    tokens = (np.arange(len(both)) + 100).astype(np.uint32)
    return TokenFile(Path("train.bin"), tokens, 10_000, replace(SIDECAR, pad_id=PAD), both)


masks = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=25)


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 50))
def test_every_document_is_packed_once_and_fits(lengths: list[int], room: int) -> None:
    rows = pack(np.array(lengths, dtype=np.int64), room)
    assert sorted(d for row in rows for d in row) == list(range(len(lengths)))
    sizes = [sum(lengths[d] for d in row) for row in rows]
    assert all(0 < size <= room for size in sizes)
    # Best fit leaves at most one row half empty.
    assert sum(size <= room / 2 for size in sizes) <= 1


@given(masks, st.integers(1, 14), st.integers(0, 40))
def test_an_epoch_holds_every_counted_token_once(
    masks: list[list[bool]], seq_len: int, seed: int
) -> None:
    file = conversations(masks)
    expected: list[int] = []
    place = 100
    for mask in masks:
        kept = list(enumerate(mask))[1 : seq_len + 1]
        expected += [place + n for n, counts in kept if counts]
        place += len(mask)
    try:
        source = PackedBatches(file, seq_len, seed, apart=True)
    except UserError:
        assert not expected
        return
    inputs, targets, weights, positions = source.batch(0, source.num_windows)
    assert sorted(targets[weights].tolist()) == expected
    assert source.counted(0, source.num_windows) == len(expected)
    assert source.counted(3, 2) == np.count_nonzero(source.batch(3, 2)[2])
    # A target follows its input in the same conversation, which starts at position 0.
    assert (targets[weights] == inputs[weights] + 1).all()
    for row in range(len(inputs)):
        for column in range(seq_len):
            token, position = inputs[row, column], positions[row, column]
            if position:
                assert token == PAD or inputs[row, column - 1] == token - 1
                assert positions[row, column - 1] == position - 1
    one = source.batch(3, 1)
    assert all(np.array_equal(a, b[3:4]) for a, b in zip(one, source.batch(0, 5), strict=True))


def test_another_epoch_has_the_same_sequences_in_another_order() -> None:
    file = conversations([[False, True, True]] * 40)
    source = PackedBatches(file, 6, 5, apart=False)
    first, second = (source.batch(e * source.num_windows, source.num_windows) for e in (0, 1))
    assert len(first) == 3
    assert sorted(first[0].tolist()) == sorted(second[0].tolist())
    assert first[0].tolist() != second[0].tolist()


def test_validation_sees_all_sequences_or_some_spread_over_the_file() -> None:
    source = PackedBatches(conversations([[False, True, True]] * 40), 6, 5, apart=True)
    whole = np.concatenate([batch[0] for batch in source.ordered(3)])
    assert len(whole) == source.num_windows == 20
    some = np.concatenate([batch[0] for batch in source.ordered(3, 2)])
    assert len(some) == 6 and some[-1].max() > whole[15].max()


def test_what_is_cut_or_unused_is_told() -> None:
    long = [False] * 3 + [True] * 9
    source = PackedBatches(conversations([long, [False, True], [False] * 6]), 5, 0, apart=True)
    assert source.notes() == [
        "1 conversation longer than 6 tokens loses its end",
        "1 conversation without anything that counts is not used",
    ]
    with pytest.raises(UserError, match="no conversation in whose first 4 tokens"):
        PackedBatches(conversations([[False] * 4 + [True]]), 3, 0, apart=True)
