"""Tokens in, text out: only complete characters, and never a part of a stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainer.generate.batched.job import TokenScore
from trainer.generate.stopping import beginning_of_stop, first_stop
from trainer.serve.engine import Codec


@dataclass(frozen=True)
class PlacedToken:
    """A token and the offset in characters where it begins in the text.

    `first` marks the first token of an echoed prompt, which nothing precedes.
    """

    score: TokenScore
    offset: int
    first: bool = False


@dataclass(frozen=True)
class Piece:
    """Text that is final, and the tokens whose text is now complete."""

    text: str = ""
    tokens: tuple[PlacedToken, ...] = ()


class TextStream:
    """The text of one answer as its tokens arrive.

    The end of the text is held back while it could begin a stop string or while a character is
    incomplete.
    """

    def __init__(self, codec: Codec, stops: Sequence[str] = ()) -> None:
        self._codec = codec
        self._stops = tuple(filter(None, stops))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0  # characters decoded
        self._released = 0  # characters returned
        self._held = ""
        self._waiting: deque[tuple[PlacedToken, int]] = deque()  # with where their text ends
        self.stopped = False  # a stop string was found; nothing follows

    def echo(self, scores: Iterable[TokenScore]) -> Piece:
        """The prompt's text; stop strings are ignored there and special tokens spelled out."""
        for place, score in enumerate(scores):
            self._take(score, skip_special=False, first=place == 0)
        return self._release(len(self._held))

    def feed(self, score: TokenScore) -> Piece:
        """The text that is final after one more token."""
        self._take(score, skip_special=True)
        return self._certain()

    def finish(self) -> Piece:
        """The text that was held back. An incomplete character becomes U+FFFD."""
        if self.stopped:
            return Piece()
        self._add(self._decoder.decode(b"", final=True))
        certain = self._certain()
        if self.stopped:
            return certain
        rest = self._release(len(self._held), everything=True)
        return Piece(certain.text + rest.text, certain.tokens + rest.tokens)

    def _take(self, score: TokenScore, *, skip_special: bool, first: bool = False) -> None:
        token = PlacedToken(score, self._length, first)
        self._add(self._decoder.decode(self._codec.decode_bytes([score.token], skip_special)))
        begun = bool(self._decoder.getstate()[0])
        self._waiting.append((token, self._length + begun))

    def _add(self, text: str) -> None:
        self._held += text
        self._length += len(text)

    def _certain(self) -> Piece:
        end = first_stop(self._held, self._stops)
        if end is not None:
            self.stopped = True
            return self._release(end, cut=True)
        return self._release(len(self._held) - beginning_of_stop(self._held, self._stops))

    def _release(self, count: int, *, cut: bool = False, everything: bool = False) -> Piece:
        """The first `count` held characters; with `cut` the text ends there, even in a token."""
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
