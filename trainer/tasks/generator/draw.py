"""Random choices that are the same on every machine and in every version of Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1


class Draw:
    """The choices of one task. A key gives the same choices whatever else is drawn.

    The generator is SplitMix64 (Steele, Lea and Flood, 2014), started from a hash of the key.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
        self._state = int.from_bytes(digest[:8], "little")
        self._named: set[str] = set()

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) * bound) >> 64

    def integer(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def integers(self, count: int, low: int, high: int) -> list[int]:
        """So many numbers from `low` to `high`."""
        return [self.integer(low, high) for _ in range(count)]

    def of(self, *choices: T) -> T:
        """One of the choices."""
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """So many different ones of the choices, in any order."""
        return self.shuffled(choices)[:count]

    def shuffled(self, choices: Sequence[T]) -> list[T]:
        """The choices in another order."""
        order = list(choices)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def name(self, names: Sequence[str]) -> str:
        """One of the names that this task does not use yet."""
        free = [name for name in names if name not in self._named]
        name = self.of(*free)
        self._named.add(name)
        return name
