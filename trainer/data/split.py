"""Which text is for training and which for validation: decided once, the same in every run.

With enough documents each goes to one side as a whole, by a hash of its beginning, so a document is
on the same side in any corpus and copies of it never straddle the split. With few or very unequal
documents the text is divided by position instead: it is cut into equal stretches, and the last part
of each is for validation (of a small text, simply its end).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared.errors import UserError
from trainer.data.documents import Piece, safe_cut

Rule = Literal["none", "documents", "blocks"]

FEWEST_DOCUMENTS = 100  # below this a split by whole documents is mostly luck
LOPSIDED = 2.0  # how far the share by documents may be from the one asked for, as a factor
MAX_BLOCKS = 16
BLOCK_BYTES = 64 * 1024  # a validation block is not made shorter than this by having several
BLOCK_CUT_WINDOW = 256

TRAIN, VALIDATION = 0, 1


def check_val_split(val_split: float, of: str) -> None:
    """Raise UserError for a `val_split` that is not a share `of` something, such as "the text"."""
    if not 0 <= val_split < 1:
        raise UserError(
            f"--val-split {val_split:g} is not a share of {of}: give a number from 0 up to but not "
            "including 1, such as 0.05 for 5 %"
        )


class Part(NamedTuple):
    """A piece of text on one side. `ends` when a document ends (or is cut in two) after it."""

    text: str
    num_bytes: int
    side: int
    ends: bool


@dataclass
class Survey:
    """Counts of a first pass over the pieces, from which `plan_split` decides."""

    val_split: float
    seed: int
    documents: int = 0
    text_bytes: int = 0
    validation_documents: int = 0
    validation_bytes: int = 0
    #: Where the first piece belongs if its document began before.
    side: int = TRAIN

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Pass `pieces` through, counting."""
        for piece in pieces:
            if piece.first:
                self.side = side_of_document(piece.text, self.val_split, self.seed)
                self.documents += 1
                self.validation_documents += self.side
            self.text_bytes += piece.num_bytes
            if self.side == VALIDATION:
                self.validation_bytes += piece.num_bytes
            yield piece


@dataclass(frozen=True)
class SplitPlan:
    """How to divide. `boundaries`: byte offsets in the whole text where the side changes,
    starting on the training side; for the rule `blocks` only."""

    rule: Rule
    val_split: float
    seed: int
    boundaries: tuple[int, ...] = ()


def side_of_document(beginning: str, val_split: float, seed: int) -> int:
    """The side of the document whose first piece is `beginning`."""
    if val_split <= 0:
        return TRAIN
    key = seed.to_bytes(8, "little", signed=True)
    digest = hashlib.blake2b(beginning.encode(), digest_size=8, key=key).digest()
    return VALIDATION if int.from_bytes(digest, "little") < val_split * 2**64 else TRAIN


def plan_split(survey: Survey) -> SplitPlan:
    """Split by documents if that comes near the requested share, otherwise by blocks."""
    wanted, total = survey.val_split, survey.text_bytes
    if wanted <= 0 or total < 2:
        return SplitPlan("none", wanted, survey.seed)
    share = survey.validation_bytes / total
    if survey.documents >= FEWEST_DOCUMENTS and wanted / LOPSIDED <= share <= min(
        wanted * LOPSIDED, (1 + wanted) / 2
    ):
        return SplitPlan("documents", wanted, survey.seed)
    validation_bytes = min(max(round(total * wanted), 1), total - 1)
    blocks = min(max(validation_bytes // BLOCK_BYTES, 1), MAX_BLOCKS)
    boundaries: list[int] = []
    for block in range(1, blocks + 1):
        end = total * block // blocks
        boundaries += [end - validation_bytes // blocks, end]
    return SplitPlan("blocks", wanted, survey.seed, tuple(boundaries[:-1]))


def divide(
    pieces: Iterable[Piece], plan: SplitPlan, *, position: int = 0, side: int = TRAIN
) -> Iterator[Part]:
    """Every piece on its side. Nothing is lost, repeated or moved; a document cut in two by a
    block boundary ends on both sides.

    The pieces are those from the byte `position` of the whole text on; a first one whose document
    began before is on `side`.
    """
    if plan.rule == "blocks":
        yield from _divide_by_place(pieces, plan.boundaries, position)
        return
    side = side if plan.rule == "documents" else TRAIN
    for piece in pieces:
        if piece.first and plan.rule == "documents":
            side = side_of_document(piece.text, plan.val_split, plan.seed)
        yield Part(piece.text, piece.num_bytes, side, piece.last)


def side_at(boundaries: tuple[int, ...], position: int) -> int:
    """The side of the text from the byte `position` on, for the rule `blocks`."""
    return sum(boundary <= position for boundary in boundaries) % 2


def _divide_by_place(
    pieces: Iterable[Piece], boundaries: tuple[int, ...], position: int
) -> Iterator[Part]:
    # None lies at 0: that would be the end of nothing.
    remaining = [
        boundary for boundary in reversed(boundaries) if boundary > position or not position
    ]
    side = side_at(boundaries, position) if position else TRAIN
    # One part is held back: only the next one shows whether its document continues.
    held: Part | None = None
    for piece in pieces:
        text, num_bytes = piece.text, piece.num_bytes
        while remaining and remaining[-1] <= position + num_bytes:
            cut = _cut_index(text, num_bytes, remaining[-1] - position, at_start=position == 0)
            remaining.pop()
            before = text[:cut]
            if before:
                if held:
                    yield held
                held = Part(before, len(before.encode()), side, True)
                position += held.num_bytes
                num_bytes -= held.num_bytes
                text = text[cut:]
            elif held:
                held = held._replace(ends=True)
            side = VALIDATION if side == TRAIN else TRAIN
        if text:
            if held:
                yield held
            held = Part(text, num_bytes, side, piece.last)
            position += num_bytes
        elif held and piece.last:
            held = held._replace(ends=True)
    if held:
        yield held


def _cut_index(text: str, num_bytes: int, offset: int, *, at_start: bool) -> int:
    """The character index in `text` to cut at for a boundary `offset` UTF-8 bytes into it."""
    if offset <= 0:
        index = 0
    elif offset >= num_bytes:
        index = len(text)
    else:
        whole = len(text.encode()[:offset].decode("utf-8", "ignore"))
        index = safe_cut(text, whole, BLOCK_CUT_WINDOW)
    # The training side keeps something of even the shortest text.
    return max(index, 1) if at_start else index
