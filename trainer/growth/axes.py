"""Where the entries of a grown tensor come from, along one of its dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEW = -1


@dataclass(frozen=True)
class Axis:
    """`sources[i]` is the old index whose values the new index i takes; NEW where there is none.

    `old` is the old size.
    """

    old: int
    sources: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def grows(self) -> bool:
        """Whether it is longer than before, or in another order."""
        return self.sources != tuple(range(self.old))

    def index(self) -> Tensor:
        """The sources (N,), 0 where there is none."""
        return torch.tensor(self.sources).clamp(min=0)

    def known(self) -> Tensor:
        """Which indices have a source, (N,) bool."""
        return torch.tensor(self.sources) != NEW

    def copies(self) -> Tensor:
        """How many indices have the same source, (N,); 1 where there is none."""
        counts = torch.zeros(self.old, dtype=torch.long)
        known = torch.tensor([source for source in self.sources if source != NEW])
        counts.index_add_(0, known, torch.ones_like(known))
        return torch.where(self.known(), counts[self.index()], 1)

    def spread(self, channels: int) -> Axis:
        """The same for entries of `channels` numbers each."""
        sources = tuple(
            NEW if source == NEW else source * channels + c
            for source in self.sources
            for c in range(channels)
        )
        return Axis(self.old * channels, sources)

    def repeated(self, times: int) -> Axis:
        """The axis of `times` such axes side by side, as in a matrix of queries, keys, values."""
        sources = tuple(
            NEW if source == NEW else source + block * self.old
            for block in range(times)
            for source in self.sources
        )
        return Axis(self.old * times, sources)


def same(size: int) -> Axis:
    """Nothing new."""
    return Axis(size, tuple(range(size)))


def padded(old: int, new: int) -> Axis:
    """The new indices behind the old ones."""
    return Axis(old, (*range(old), *(NEW,) * (new - old)))


def duplicated(old: int, times: int) -> Axis:
    """All old indices, `times` over."""
    return Axis(old, tuple(range(old)) * times)


def grouped_heads(heads: tuple[int, int], key_values: tuple[int, int]) -> tuple[Axis, Axis] | None:
    """The axes of the query heads and of the key-value heads, each from an old and a new number.

    A query head reads the key-value head of its group, so an old query needs a group with a copy of
    its old key-value head. Where groups become smaller, their key-value heads are copied. Returns
    None if the new groups have no room for all.
    """
    (old_queries, new_queries), (old_pairs, new_pairs) = heads, key_values
    old_group, group = old_queries // old_pairs, new_queries // new_pairs
    needed = math.ceil(old_group / group)
    if needed * old_pairs > new_pairs:
        return None
    queries: list[int] = []
    pairs: list[int] = []
    for pair in range(old_pairs):
        members = range(pair * old_group, (pair + 1) * old_group)
        for first in range(0, old_group, group):
            chosen = members[first : first + group]
            pairs.append(pair)
            queries += [*chosen, *(NEW,) * (group - len(chosen))]
    pairs += [NEW] * (new_pairs - len(pairs))
    queries += [NEW] * (new_queries - len(queries))
    return Axis(old_queries, tuple(queries)), Axis(old_pairs, tuple(pairs))
