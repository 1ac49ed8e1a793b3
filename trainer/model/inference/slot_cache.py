"""A key-value cache for many sequences at once, each with its own length.

A forward pass takes pieces: some tokens for each of some sequences, end to end in one row of N
tokens. The matrix products, which read all weights, run once for all sequences; only attention
runs per sequence (as in Orca, Yu et al. 2022, and Sarathi, Agrawal et al. 2023: one token of each
decoding sequence and a chunk of a prompt share a pass).

S slots, H and K heads, T positions, C channels, N tokens of a pass, R rows that decode.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.model.attention import causal_attention
from trainer.model.dimensions import Dimensions
from trainer.model.inference.newest import Newest

#: One more attention call costs as much as this many padded positions of `CALL_WIDTH` numbers in
#: all key-value heads together (measured on a CPU); narrower ones cost less.
CALL_POSITIONS, CALL_WIDTH = 128, 512


@dataclass(frozen=True)
class Piece:
    """The next `count` tokens of the sequence in `slot`."""

    slot: int
    count: int


@dataclass(frozen=True)
class _Decoding:
    """Adjacent slots with one new token each, handled in one attention call.

    Tokens `begin` to `end` of the pass, slots from `slot` on, padded to `length` positions; `mask`
    (R, 1, 1, T) is None where all have that length.
    """

    begin: int
    end: int
    slot: int
    length: int
    mask: Tensor | None


@dataclass(frozen=True)
class _Prefilling:
    """Tokens `begin` to `end` of the pass: a chunk of the prompt in `slot`."""

    begin: int
    end: int
    slot: int
    length: int


class _Places(NamedTuple):
    """The slot and position of every token of a pass, and the attention calls."""

    slots_N: Tensor  # noqa: N815
    positions_N: Tensor  # noqa: N815
    calls: list[_Decoding | _Prefilling]


class SlotCache:
    """Keys and values of all layers, allocated once: (L, S, K, T, C) each.

    `lengths` counts the filled positions of each slot. Call `plan` before a forward pass over
    (1, N) token ids. Set a slot's length to empty it or cut it back.
    """

    def __init__(
        self, n: Dimensions, slots: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (2, n.L, slots, n.K, length, n.C)
        # Zeros: a masked position is multiplied by 0, and 0 x NaN from fresh memory would be NaN.
        self._both = torch.zeros(shape, device=device, dtype=dtype)
        self.keys, self.values = self._both
        self.lengths = [0] * slots
        self._grouped = n.K != n.H
        self._call = max(CALL_POSITIONS, CALL_POSITIONS * CALL_WIDTH // (n.K * n.C))
        self._pieces: Sequence[Piece] = ()
        self._tokens = 0  # of the pass
        self._places: _Places | None = None
        self._newest: Newest | None = None

    @property
    def capacity(self) -> int:
        """The number of positions each slot can hold."""
        return self.keys.shape[3]

    def plan(self, pieces: Sequence[Piece]) -> None:
        """Set the pieces of the next forward pass, at most one per slot.

        Single tokens of adjacent slots share an attention call if they are consecutive and of
        similar length.
        """
        for piece in pieces:
            assert self.lengths[piece.slot] + piece.count <= self.capacity, "the cache is full"
        self._pieces = pieces
        self._tokens = sum(piece.count for piece in pieces)
        self._newest = self._places = None

    def _layout(self) -> _Places:
        """The places of the tokens, and the attention calls. Made once for all layers."""
        if self._places is not None:
            return self._places
        calls: list[_Decoding | _Prefilling] = []
        begin = 0
        for single, group in itertools.groupby(self._pieces, lambda piece: piece.count == 1):
            if single:
                slots = [piece.slot for piece in group]
                for run in cut_into_runs(slots, self.lengths, self._call):
                    calls.append(self._decoding(begin, run))
                    begin += len(run)
                continue
            for piece in group:
                end = begin + piece.count
                length = self.lengths[piece.slot] + piece.count
                calls.append(_Prefilling(begin, end, piece.slot, length))
                begin = end
        slots = [piece.slot for piece in self._pieces for _ in range(piece.count)]
        starts = [self.lengths[piece.slot] for piece in self._pieces]
        positions = [
            start + place
            for start, piece in zip(starts, self._pieces, strict=True)
            for place in range(piece.count)
        ]
        slots_N, positions_N = torch.tensor([slots, positions], device=self.keys.device)
        self._places = _Places(slots_N, positions_N, calls)
        return self._places

    def _decoding(self, begin: int, run: list[int]) -> _Decoding:
        lengths = [self.lengths[slot] + 1 for slot in run]
        longest = max(lengths)
        mask = None
        if min(lengths) < longest:
            device = self.keys.device
            places = torch.arange(longest, device=device)
            mask = (places < torch.tensor(lengths, device=device)[:, None])[:, None, None]
        return _Decoding(begin, begin + len(run), run[0], longest, mask)

    def rows(self, table_PD: Tensor, T: int) -> Tensor:
        """The row of every token's position within its own sequence, (N, D)."""
        assert self._tokens == T, "the forward pass does not match the plan"
        if len(self._pieces) == 1:
            start = self.lengths[self._pieces[0].slot]
            return table_PD[start : start + T]
        return table_PD[self._layout().positions_N]

    def attend(self, layer: int, q_1HNC: Tensor, k_1KNC: Tensor, v_1KNC: Tensor) -> Tensor:
        """Store the new keys and values; return each token's attention within its sequence."""
        keys, values = self.keys[layer], self.values[layer]
        slots_N, positions_N, calls = self._layout()
        kind, where = keys.dtype, (slots_N, slice(None), positions_N)
        keys[where] = k_1KNC[0].transpose(0, 1).to(kind)
        values[where] = v_1KNC[0].transpose(0, 1).to(kind)
        outputs = [self._attend(call, q_1HNC, keys, values) for call in calls]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)

    def _attend(
        self, call: _Decoding | _Prefilling, q_1HNC: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        q = q_1HNC[:, :, call.begin : call.end]
        rows = 1 if isinstance(call, _Prefilling) else call.end - call.begin
        k = keys[call.slot : call.slot + rows, :, : call.length].to(q.dtype)
        v = values[call.slot : call.slot + rows, :, : call.length].to(q.dtype)
        if isinstance(call, _Prefilling):
            return causal_attention(q, k, v)
        # The rows lie along the token dimension: make them a batch for the call, then undo it.
        y_RH1C = F.scaled_dot_product_attention(
            q.permute(2, 1, 0, 3), k, v, attn_mask=call.mask, enable_gqa=self._grouped
        )
        return y_RH1C.permute(2, 1, 0, 3)

    def newest(self) -> Newest:
        """The place of the only token of the pass, in place of `attend`."""
        if self._newest is None:
            (piece,) = self._pieces
            assert piece.count == 1
            self._newest = Newest(self._both[:, :, piece.slot], self.lengths[piece.slot])
        return self._newest

    def advance(self, T: int) -> None:
        """Count the tokens of the pass."""
        assert self._tokens == T
        for piece in self._pieces:
            self.lengths[piece.slot] += piece.count

    def clear(self, slot: int) -> None:
        """Empty a slot that may hold non-finite numbers."""
        self.lengths[slot] = 0
        self.keys[:, slot] = 0
        self.values[:, slot] = 0

    def copy(self, source: int, target: int, count: int) -> None:
        """Fill slot `target` with the first `count` positions of slot `source`."""
        assert count <= self.lengths[source]
        self.keys[:, target, :, :count] = self.keys[:, source, :, :count]
        self.values[:, target, :, :count] = self.values[:, source, :, :count]
        self.lengths[target] = count


def cut_into_runs(
    slots: Sequence[int], lengths: Sequence[int], call: int = CALL_POSITIONS
) -> list[list[int]]:
    """`slots` cut into runs of adjacent slots, with the least cost in padding and calls, of which
    one costs as much as `call` padded positions.

    `lengths` has the filled positions of every slot. Arrays, because a rollout has hundreds.
    """
    count, sizes = len(slots), [lengths[slot] + 1 for slot in slots]
    if count < 2:
        return [list(slots)] if slots else []
    # Their order is that of the pass: a prompt's single token may come after later slots.
    adjacent = all(slot + 1 == after for slot, after in itertools.pairwise(slots))
    if adjacent and count * max(sizes) - sum(sizes) <= call:
        return [list(slots)]  # less padding than another call costs
    sizes_N = np.array(sizes)
    longest_N = sizes_N.copy()  # of a run from each slot to the present one
    # best[i]: the least cost of the first i slots; begins[i]: where their last run begins.
    best, begins = np.zeros(count + 1, dtype=np.int64), [0] * (count + 1)
    first = 0  # the first slot that is in one piece with the present one
    for end in range(1, count + 1):
        if end > 1 and slots[end - 2] + 1 != slots[end - 1]:
            first = end - 1
        run = longest_N[first:end]
        np.maximum(run, sizes_N[end - 1], out=run)
        costs = best[first:end] + np.arange(end - first, 0, -1) * run
        place = int(costs.argmin())
        best[end], begins[end] = costs[place] + call, first + place
    runs, end = [], count
    while end:
        runs.append(list(slots[begins[end] : end]))
        end = begins[end]
    return runs[::-1]
