"""Judging answers in a thread, while the model still writes others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.rewards.interface import Answer, Language, Verdict

#: Answers that are judged together at least: a compiler that is started for each costs most.
TOGETHER = 32


class Judging:
    """Takes answers as they are finished, and has their verdicts at the end.

    With `ahead`, a thread judges them meanwhile, `together` of them at least at once; else they are
    judged at the end. `seconds` is the time that judging took. The language is used by one thread
    at a time; verdicts do not depend on what is judged together.
    """

    def __init__(
        self,
        language: Language,
        *,
        ahead: bool = True,
        together: int = TOGETHER,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._language, self._together, self._clock = language, together, clock
        self._waiting: list[tuple[int, Answer]] = []
        self._verdicts: dict[int, Verdict] = {}
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._work, name="judging") if ahead else None
        if self._thread is not None:
            self._thread.start()

    def add(self, place: int, answer: Answer) -> None:
        """Take in the answer to request number `place`."""
        with self._changed:
            self._waiting.append((place, answer))
            self._changed.notify()

    def verdicts(self) -> dict[int, Verdict]:
        """The verdict on every answer, by its place; waits for the last. Raises what `judge` does.

        No answer can be added afterwards.
        """
        if self._thread is None:
            waiting, self._waiting = self._waiting, []
            self._judge(waiting)
        else:
            self._end()
        if self._error is not None:
            raise self._error
        return self._verdicts

    def __enter__(self) -> Judging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread: what still waits is not judged any more."""
        with self._changed:
            self._waiting = []
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            while waiting := self._next():
                self._judge(waiting)
        except BaseException as error:  # raised again where the verdicts are read
            self._error = error

    def _next(self) -> list[tuple[int, Answer]]:
        """What is judged next; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._waiting) >= self._together)
            waiting, self._waiting = self._waiting, []
            return waiting

    def _judge(self, waiting: list[tuple[int, Answer]]) -> None:
        if not waiting:
            return
        started = self._clock()
        found = self._language.judge([answer for _, answer in waiting])
        self.seconds += self._clock() - started
        self._verdicts.update(zip((place for place, _ in waiting), found, strict=True))
