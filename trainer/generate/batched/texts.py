"""Decoding a list of jobs to texts that may end before their tokens do."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import Finished, Job, NewToken
from trainer.generate.batched.running import Running
from trainer.generate.decoding import ByteDecoder

#: Where a text ends, in characters, given what there is of it; None while it goes on.
Stop = Callable[[str], int | None]
#: `end`: where the text was found to end; `stop`: at a stop token; `length`: no room for more.
Ending = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class FinishedText:
    """The text of job number `place`, the number of its tokens, and why it ended."""

    place: int
    text: str
    tokens: int
    ending: Ending


def decode_texts(
    decoder: Decoder, jobs: Sequence[Job], codec: ByteDecoder, stops: Sequence[Stop]
) -> Iterator[FinishedText]:
    """The text of each job, in the order in which they end.

    `stops` has one for each job: it is asked after each token that may end a text, and what comes
    after its answer is cut off. `decoder` must be idle. Up to rounding, a text depends on its own
    job alone. Raises UserError before anything runs if a job cannot run, and RunError when the
    model's output is not finite. Closing the iterator frees the decoder.
    """
    texts = {
        decoder.running_of(job): _Text(place, codec, stops[place]) for place, job in enumerate(jobs)
    }
    waiting = deque(texts)
    try:
        while waiting or decoder.running:
            with decoder.computing():
                while waiting and not decoder.full:
                    decoder.admit(waiting.popleft())
                finished = list(_turn(decoder, texts))
            yield from finished
    finally:
        with decoder.computing():
            decoder.release_all()


def _turn(decoder: Decoder, texts: dict[Running, _Text]) -> Iterator[FinishedText]:
    for outcome in decoder.turn():
        if outcome.error:
            raise outcome.error
        text = texts[outcome.running]
        for event in outcome.events:
            ended = False
            if isinstance(event, NewToken):
                ended = text.add(event.score.token)
            if ended:
                decoder.release(outcome.running)
                yield text.finished("end")
                break
            if isinstance(event, Finished):
                yield text.finished(event.reason)


class _Text:
    """What a job has written so far."""

    def __init__(self, place: int, codec: ByteDecoder, stop: Stop) -> None:
        self._place, self._codec, self._stop = place, codec, stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._tokens = 0

    def add(self, token: int) -> bool:
        """Append a token; whether the text has ended with it."""
        self._tokens += 1
        piece = self._decoder.decode(self._codec.decode_bytes([token], skip_special=True))
        self._text += piece
        # Letters, digits and blanks end nothing by themselves.
        if piece.isalnum() or not piece.strip(" \t_"):
            return False
        return self._cut()

    def finished(self, ending: Ending) -> FinishedText:
        """All of it, cut where it ends."""
        self._text += self._decoder.decode(b"", final=True)
        if self._cut():
            ending = "end"
        return FinishedText(self._place, self._text, self._tokens, ending)

    def _cut(self) -> bool:
        end = self._stop(self._text)
        if end is not None:
            self._text = self._text[:end]
        return end is not None
