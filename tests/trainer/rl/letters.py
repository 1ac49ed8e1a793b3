"""A language for tests: no compiler, no process, a verdict in no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.loop.hooks import Hooks
from trainer.rewards.interface import Answer, Verdict


@dataclass
class Letters:
    """Judges how many characters of an answer are ASCII, and how many of these are letters."""

    name: str = "rust"
    compiler: str = "none"
    runs_tests: bool = False
    parts: tuple[str, ...] = ("parse", "compile")

    def stops(self, completion: str) -> int | None:
        end = completion.find("\n")
        return None if end < 0 else end

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [self._verdict(answer.completion) for answer in answers]

    def _verdict(self, text: str) -> Verdict:
        known = sum(letter.isascii() for letter in text) / max(1, len(text))
        letters = sum(letter.isascii() and letter.isalpha() for letter in text) / max(1, len(text))
        parts = {"parse": 0.3 * known, "compile": 0.7 * letters}
        return Verdict(sum(parts.values()), parts, known > 0.5, letters > 0.5, None, ("no",), text)

    def close(self) -> None:
        pass


def judged() -> Hooks:
    """Hooks of a run whose answers this language judges, for processes of their own."""
    return Hooks(language=Letters())
