"""Work on whole matrices, shared out among the ranks: each matrix has one owner.

Muon makes the update of a matrix orthogonal, which takes all of its rows and costs as much as a
tenth of a step. So every rank does it for its own matrices, and the results are exchanged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.optim.interface import OfMatrices
from trainer.sharded import rows_of

#: Numbers of whole matrices that a rank holds at once, unless a single one has more.
HELD = 1 << 27


def owners(shapes: Sequence[torch.Size], ranks: int) -> list[int]:
    """Which rank works on each matrix, so that all have about as much to do.

    The largest come first, each to the rank that has the least so far. Matrices of the same shape
    that a rank gets are worked on together.
    """
    load, found = [0] * ranks, [0] * len(shapes)
    for place in sorted(range(len(shapes)), key=lambda i: (-_work(shapes[i]), i)):
        rank = min(range(ranks), key=lambda r: (load[r], r))
        found[place] = rank
        load[rank] += _work(shapes[place])
    return found


def _work(shape: torch.Size) -> int:
    """Multiplications of one product with the matrix's own Gram matrix."""
    return min(shape) * shape.numel()


class Matrix(NamedTuple):
    """One matrix: what this rank holds of it, and its owner."""

    name: str
    held: Tensor
    shape: torch.Size
    owner: int


class Copies:
    """Every rank holds whole matrices, which are alike (DDP): owners tell the others."""

    spreads_rows = False

    def __init__(self, rank: int, ranks: int) -> None:
        self._rank, self._ranks = rank, ranks

    def change(
        self,
        function: OfMatrices,
        names: Sequence[str],
        matrices: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        exact_in: torch.dtype | None = None,
    ) -> None:
        """As `Sharing.change`."""
        every = list(map(Matrix, names, matrices, shapes, owners(shapes, self._ranks)))
        mine = [matrix for matrix in every if matrix.owner == self._rank]
        function([matrix.name for matrix in mine], [matrix.held for matrix in mine])
        for owner in range(self._ranks):
            of_owner = [matrix.held for matrix in every if matrix.owner == owner]
            for few in _few(of_owner):
                flat = torch.cat([x.flatten() for x in few]).to(exact_in or few[0].dtype)
                dist.broadcast(flat, owner)
                if owner != self._rank:
                    _unpack(flat, few)

    def sum_of_squares(self, squares: Tensor, sharded: Sequence[bool]) -> Tensor:
        """Each rank has all of them."""
        return squares


class Rows:
    """Every rank holds a stretch of the rows of each matrix (FSDP): owners gather and scatter."""

    spreads_rows = True

    def __init__(self, rank: int, ranks: int) -> None:
        self._rank, self._ranks = rank, ranks
        self._marked: list[bool] = []
        self._marks = torch.empty(0, dtype=torch.bool)

    def change(
        self,
        function: OfMatrices,
        names: Sequence[str],
        matrices: Sequence[Tensor],
        shapes: Sequence[torch.Size],
        exact_in: torch.dtype | None = None,
    ) -> None:
        """As `Sharing.change`."""
        every = list(map(Matrix, names, matrices, shapes, owners(shapes, self._ranks)))
        for some in _rounds(every, self._ranks):
            self._change(function, some, exact_in)

    def _change(
        self, function: OfMatrices, some: Sequence[Matrix], exact_in: torch.dtype | None
    ) -> None:
        ranks = range(self._ranks)
        of_rank = [[matrix for matrix in some if matrix.owner == rank] for rank in ranks]
        mine = of_rank[self._rank]
        device, dtype = some[0].held.device, some[0].held.dtype
        # To each owner the rows that are here; from each rank the rows of those that are mine.
        there = [sum(matrix.held.numel() for matrix in theirs) for theirs in of_rank]
        here = [sum(self._size(matrix, rank) for matrix in mine) for rank in ranks]
        packed = _flat([m.held for theirs in of_rank for m in theirs], device, dtype)
        gathered = torch.empty(sum(here), device=device, dtype=dtype)
        dist.all_to_all_single(gathered, packed, here, there)
        wholes = [torch.empty(matrix.shape, device=device, dtype=dtype) for matrix in mine]
        pieces = [
            whole[rows_of(whole.shape[0], rank, self._ranks)] for rank in ranks for whole in wholes
        ]
        _unpack(gathered, pieces)
        function([matrix.name for matrix in mine], wholes)
        narrow = exact_in or dtype
        results = _flat(pieces, device, dtype).to(narrow)
        scattered = torch.empty(sum(there), device=device, dtype=narrow)
        dist.all_to_all_single(scattered, results, there, here)
        _unpack(scattered, [matrix.held for theirs in of_rank for matrix in theirs])

    def _size(self, matrix: Matrix, rank: int) -> int:
        """How many numbers of a matrix a rank holds."""
        rows = rows_of(matrix.shape[0], rank, self._ranks)
        return (rows.stop - rows.start) * (matrix.shape.numel() // matrix.shape[0])

    def sum_of_squares(self, squares: Tensor, sharded: Sequence[bool]) -> Tensor:
        """Sums for those that are spread; the others are alike on all ranks."""
        if self._marked != sharded:  # only when it changes: a copy to a GPU takes time
            self._marked = list(sharded)
            self._marks = torch.tensor(self._marked, device=squares.device)
        spread = torch.where(self._marks, squares, 0.0)
        dist.all_reduce(spread)
        return torch.where(self._marks, spread, squares)


def _rounds(every: Sequence[Matrix], ranks: int) -> Iterator[list[Matrix]]:
    """All matrices in order, as many at once as let no rank hold more than `HELD` numbers."""
    some: list[Matrix] = []
    held = [0] * ranks
    for matrix in every:
        if some and held[matrix.owner] + matrix.shape.numel() > HELD:
            yield some
            some, held = [], [0] * ranks
        some.append(matrix)
        held[matrix.owner] += matrix.shape.numel()
    if some:
        yield some


def _few(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, at most `HELD` numbers at once."""
    sizes = itertools.accumulate(tensor.numel() for tensor in tensors)
    places = [size // HELD for size in sizes]
    for _, pairs in itertools.groupby(zip(places, tensors, strict=True), lambda pair: pair[0]):
        yield [tensor for _, tensor in pairs]


def _flat(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """All numbers one after the other."""
    if not tensors:
        return torch.empty(0, device=device, dtype=dtype)
    return torch.cat([tensor.flatten() for tensor in tensors])


def _unpack(flat: Tensor, into: Sequence[Tensor]) -> None:
    """The reverse of `_flat`."""
    parts = flat.split([tensor.numel() for tensor in into])
    for tensor, part in zip(into, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
