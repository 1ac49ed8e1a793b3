"""Tokens in, text out: whole characters only, and never a part of a stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer.generate.batched.job import TokenScore
from trainer.serve.engine import Codec


@dataclass(frozen=True)
class PlacedToken:
    """A token and the place in the text, in characters, where it begins."""

    score: TokenScore
    offset: int


@dataclass(frozen=True)
class Piece:
    """Text that is certain, and the tokens whose text is out with it."""

    text: str = ""
    tokens: tuple[PlacedToken, ...] = ()


class TextStream:
    """The text of one answer, as its tokens come.

    The end of the text so far is held back while it could be the beginning of a stop string, or
    while a character's last bytes are missing.
    """

    def __init__(self, codec: Codec, stops: Sequence[str] = ()) -> None:
        self._codec = codec
        self._stops = tuple(filter(None, stops))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0  # characters decoded
        self._released = 0  # characters given out
        self._held = ""
        self._waiting: deque[tuple[PlacedToken, int]] = deque()  # with where their text ends
        self.stopped = False  # a stop string came; nothing follows

    def echo(self, scores: Iterable[TokenScore]) -> Piece:
        """The prompt's text, in which no stop string counts and special tokens are spelled out."""
        for score in scores:
            self._take(score, skip_special=False)
        return self._release(len(self._held))

    def feed(self, score: TokenScore) -> Piece:
        """What is certain after one more token."""
        self._take(score, skip_special=True)
        return self._certain()

    def finish(self) -> Piece:
        """What was held back. An incomplete character becomes U+FFFD."""
        if self.stopped:
            return Piece()
        self._add(self._decoder.decode(b"", final=True))
        certain = self._certain()
        if self.stopped:
            return certain
        rest = self._release(len(self._held), everything=True)
        return Piece(certain.text + rest.text, certain.tokens + rest.tokens)

    def _take(self, score: TokenScore, *, skip_special: bool) -> None:
        token = PlacedToken(score, self._length)
        self._add(self._decoder.decode(self._codec.decode_bytes([score.token], skip_special)))
        begun = bool(self._decoder.getstate()[0])
        self._waiting.append((token, self._length + begun))

    def _add(self, text: str) -> None:
        self._held += text
        self._length += len(text)

    def _certain(self) -> Piece:
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            return self._release(min(places), cut=True)
        return self._release(len(self._held) - self._beginning_of_stop())

    def _beginning_of_stop(self) -> int:
        """How many characters at the end may become a stop string."""
        longest = 0
        for stop in self._stops:
            for count in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:count]):
                    longest = count
                    break
        return longest

    def _release(self, count: int, *, cut: bool = False, everything: bool = False) -> Piece:
        """The first `count` held characters; with `cut` the text ends there, maybe in a token."""
        text, self._held = self._held[:count], self._held[count:]
        self._released += count
        tokens = []
        while self._waiting:
            token, end = self._waiting[0]
            out = token.offset < self._released if cut else everything or end <= self._released
            if not out:
                break
            tokens.append(token)
            self._waiting.popleft()
        return Piece(text, tuple(tokens))
