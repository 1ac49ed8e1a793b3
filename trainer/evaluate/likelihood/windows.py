"""Cutting a sequence longer than the model's context so that every token is scored exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Targets `start … stop - 1` go through the model; those from `first` on are scored.

    Target i is token i + 1, predicted from tokens `start … i`.
    """

    start: int
    first: int
    stop: int


def windows(count: int, length: int, stride: int) -> Iterator[Window]:
    """Windows of at most `length` over `count` targets, each `stride` after the one before.

    With stride = length they do not overlap: the first target of each is predicted from one token,
    as in training. With a smaller stride every target after the first window is predicted from
    more than `length - stride` tokens, and the text goes through the model length / stride times.
    The last window starts early enough to be a full one.
    """
    stop = min(count, length)
    if stop:
        yield Window(0, 0, stop)
    while stop < count:
        first, stop = stop, min(stop + stride, count)
        yield Window(max(0, stop - length), first, stop)
