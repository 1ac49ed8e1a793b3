"""Ending a text that comes in pieces at a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The text of `pieces` before the first of `stops`, as soon as it is final.

    Text that could begin a stop string is held back until that is decided. `pieces` is not read
    further once a stop string is found.
    """
    held = ""
    for piece in pieces:
        held += piece
        end = first_stop(held, stops)
        if end is not None:
            if end:
                yield held[:end]
            return
        final = len(held) - beginning_of_stop(held, stops)
        if final:
            yield held[:final]
            held = held[final:]
    if held:
        yield held


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """The index in `text` where the first of `stops` begins, or None."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def beginning_of_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` could begin a stop string."""
    longest = 0
    for stop in stops:
        for count in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:count]):
                longest = count
                break
    return longest
