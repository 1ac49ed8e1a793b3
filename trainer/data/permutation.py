"""Keyed numbers and a keyed shuffle that are computed, not stored.

A stream whose order is a pure function of (seed, position) resumes from one integer and is the same
for any number of workers. The shuffle is a bijection on b bits, built from keyed
additions, xor-shifts and odd multiplications, with cycle walking down to the size asked for
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 4
_MASK64 = (1 << 64) - 1


def mix(value: int) -> int:
    """SplitMix64's finaliser: 64 well-mixed bits of a 64-bit `value` (Steele et al., 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mix` for every element."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def key_of(*parts: int) -> int:
    """One 64-bit key from several integers, such as a seed and an epoch."""
    key = 0
    for part in parts:
        key = mix(key ^ (part & _MASK64))
    return key


class Permutation:
    """A pseudo-random order of `range(size)`, chosen by `key`."""

    def __init__(self, size: int, key: int) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, not {size}")
        self.size = size
        bits = max(1, (size - 1).bit_length())
        self._mask = np.uint64((1 << bits) - 1)
        self._shift = np.uint64((bits + 1) // 2)
        keys = [key_of(key, number) for number in range(2 * _ROUNDS)]
        self._rounds = [
            (np.uint64(add), np.uint64(factor | 1))
            for add, factor in zip(keys[::2], keys[1::2], strict=True)
        ]

    def __call__(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The elements at `positions`, each in [0, size)."""
        values = self._step(positions.astype(np.uint64))
        # At most half of the b-bit numbers are out of range, so this takes a few rounds.
        outside = np.flatnonzero(values >= self.size)
        while len(outside):
            stepped = self._step(values[outside])
            values[outside] = stepped
            outside = outside[stepped >= self.size]
        return values.astype(np.int64)

    def _step(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        for add, factor in self._rounds:
            values = ((values + add) * factor) & self._mask
            values ^= values >> self._shift
        return values
