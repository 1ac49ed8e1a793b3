"""Ending a text at a string, when it comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The text of `pieces` before the first of `stops`, as soon as it is certain.

    What may be the beginning of a stop string is held back until it is one or is not. Nothing more
    is asked of `pieces` once one has come.
    """
    held = ""
    for piece in pieces:
        held += piece
        places = [place for stop in stops if (place := held.find(stop)) >= 0]
        if places:
            if held[: min(places)]:
                yield held[: min(places)]
            return
        certain = len(held) - _beginning(held, stops)
        if certain:
            yield held[:certain]
            held = held[certain:]
    if held:
        yield held


def _beginning(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may become a stop string."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )
