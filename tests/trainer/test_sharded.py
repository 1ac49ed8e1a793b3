"""Which rows a process holds."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.distributed.sharing import owners
from trainer.sharded import put, rows_of


@given(st.integers(1, 40), st.integers(1, 9))
def test_the_rows_are_those_of_torchs_chunks(size: int, ranks: int) -> None:
    values = torch.arange(size)
    chunks = list(values.chunk(ranks))
    chunks += [values[:0]] * (ranks - len(chunks))
    for rank, chunk in enumerate(chunks):
        assert values[rows_of(size, rank, ranks)].tolist() == chunk.tolist()


def test_a_plain_tensor_takes_all_values() -> None:
    for shape in ((), (3,), (2, 3)):
        tensor, values = torch.zeros(shape), torch.randn(shape)
        put(tensor, values)
        assert torch.equal(tensor, values)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1), st.integers(1, 8))
def test_no_owner_has_much_more_to_do(shapes: list[tuple[int, int]], ranks: int) -> None:
    sizes = [torch.Size(shape) for shape in shapes]
    load = [0] * ranks
    for size, owner in zip(sizes, owners(sizes, ranks), strict=True):
        load[owner] += min(size) * size.numel()
    largest = max(min(size) * size.numel() for size in sizes)
    assert max(load) - min(load) <= largest
