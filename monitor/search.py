"""Searching names by words or by a /regular expression/, in bounded time. No screen."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import FrameType
from typing import TypeVar

from shared.text import one_line

#: Seconds of computing for one search. Names are short: only a regular expression that tries
#: every way to split them takes as long.
TIME = 0.25
_RESULTS = 8192  # texts whose result is kept

Item = TypeVar("Item")


class _TimeOverError(Exception):
    """The time is over."""


class Search:
    """A query. Every word of a plain one must occur in a text; case is ignored.

    A query in slashes is a regular expression; its second slash may still be missing. `problem`
    says what is wrong with it; it then matches everything.
    """

    def __init__(self, query: str, seconds: float = TIME) -> None:
        self.problem = ""
        self._seconds = seconds
        self._words: list[str] = []
        self._expression: re.Pattern[str] | None = None
        self._known: dict[str, bool] = {}
        query = query.strip()
        if not (query.startswith("/") and len(query) > 1):
            self._words = query.casefold().split()
            return
        self._pattern = query[1:].removesuffix("/")
        try:
            self._expression = re.compile(self._pattern, re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:
            self.problem = f"/{one_line(self._pattern, 40)}/ is not a regular expression: {error}."

    def those_of(
        self, items: Iterable[Item], text_of: Callable[[Item], str]
    ) -> tuple[list[Item], str]:
        """The matching ones of `items`, and `problem`."""
        items = list(items)
        if self._expression is None and not self._words:
            return items, self.problem
        if self._expression is None:
            return [x for x in items if self._has_words(text_of(x))], self.problem
        try:
            found = _within(self._seconds, lambda: [x for x in items if self._finds(text_of(x))])
        except _TimeOverError:
            self._expression = None  # once is enough: the same names come again twice a second
            self.problem = (
                f"/{one_line(self._pattern, 40)}/ takes too long on these names; a repeat inside "
                "a repeat, such as (x+)+, can be written as one."
            )
            return items, self.problem
        return found, ""

    def _has_words(self, text: str) -> bool:
        folded = text.casefold()
        return all(word in folded for word in self._words)

    def _finds(self, text: str) -> bool:
        assert self._expression is not None
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= _RESULTS:
                self._known.clear()
            found = self._known[text] = self._expression.search(text) is not None
        return found


@lru_cache(32)
def search(query: str) -> Search:
    """The search for `query`, with what it has found so far."""
    return Search(query)


def _within(seconds: float, work: Callable[[], list[Item]]) -> list[Item]:
    """What `work` returns; raises _TimeOverError once it has computed for so many seconds.

    Only a signal reaches into a regular expression: it keeps all threads waiting. Signals are
    handled in the main thread, which is where a person types; elsewhere there is no bound.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    running = True

    def stop(_number: int, _frame: FrameType | None) -> None:
        if running:
            raise _TimeOverError

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        # Computing time, not time that passes: a busy machine makes no expression wrong.
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        found = work()
        running = False
        return found
    finally:
        running = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
