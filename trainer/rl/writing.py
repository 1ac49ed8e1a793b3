"""An answer while it is written, token by token, until its end is seen in its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.rl.sampled import Request, Sampled, Stops

if TYPE_CHECKING:
    from trainer.data.tokenizer import Tokenizer

#: Tokens between two looks for the end of an answer: a look takes as long as a token does.
STRIDE = 4


@dataclass(frozen=True)
class Ends:
    """What ends an answer: a token of `end_ids`, or where `stops` finds its end in the text."""

    tokenizer: Tokenizer
    stops: Stops
    end_ids: frozenset[int]


@dataclass
class Writing:
    """The answer to request number `place`. `end` is where its text ends, once that is known."""

    place: int
    request: Request
    ends: Ends
    tokens: list[int] = field(default_factory=list)
    end: int | None = None

    def add(self, tokens: Sequence[int], *, last: bool = False) -> bool:
        """Append tokens; whether the answer has ended. It is then cut after the first token that
        shows its end. The `last` ones are those before a limit.
        """
        for number, token in enumerate(tokens, start=1):
            self.tokens.append(token)
            if self._ended(last=last and number == len(tokens)):
                return True
        return not tokens and last and self._ended(last=True)

    def _ended(self, *, last: bool) -> bool:
        tokens = self.tokens
        if tokens and tokens[-1] in self.ends.end_ids:
            self.end = len(self._text(len(tokens) - 1))
            return True
        if len(tokens) % STRIDE and not last:
            return False
        if self._end_within(len(tokens)) is None:
            return False
        # The first token after which the end is known: the others were not needed for it.
        for count in range(len(tokens) - (len(tokens) - 1) % STRIDE, len(tokens) + 1):
            self.end = self._end_within(count)
            if self.end is not None:
                del tokens[count:]
                return True
        raise AssertionError("an end that was found is gone")

    def _text(self, count: int) -> str:
        return self.ends.tokenizer.decode(self.tokens[:count])

    def _end_within(self, count: int) -> int | None:
        """Where the answer ends in the text of its first `count` tokens."""
        given = self.request.given
        end = self.ends.stops(given + self._text(count))
        return None if end is None else max(0, end - len(given))

    def sampled(self, logprobs: Sequence[float]) -> Sampled:
        """The answer as it is now; `logprobs` has one for each token at least."""
        count = len(self.tokens)
        return Sampled(
            tuple(self.tokens),
            tuple(logprobs[:count]),
            self._text(count)[: self.end],
            truncated=self.end is None,
        )
