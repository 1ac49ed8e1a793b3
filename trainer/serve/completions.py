"""`POST /v1/completions`: the continuation of a text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from trainer.serve.answers import Ask, Part
from trainer.serve.body import read_body
from trainer.serve.jobs import check_length, check_model, check_scores, jobs, new_tokens
from trainer.serve.limits import Limits
from trainer.serve.logprobs import completion_logprobs
from trainer.serve.schemas import CompletionRequest, parse
from trainer.serve.served import Served
from trainer.serve.streaming import Envelope, Whole, respond
from trainer.serve.structured import grammar_of

DEFAULT_TOKENS = 16  # OpenAI's


async def completions(request: Request) -> Response:
    """The endpoint."""
    served: Served = request.app.state.served
    asked = parse(await read_body(request), CompletionRequest)
    check_model(asked.model, served)
    # A long prompt takes a while to encode; do not block other requests.
    limits: Limits = request.app.state.limits
    asks = await asyncio.to_thread(_asks, asked, served, limits)
    envelope = Envelope("cmpl", "text_completion", served, asked.stream_options.include_usage)
    wire = _Wire(served, asked.logprobs is not None)
    prompt_tokens = sum(len(ask.job.prompt) for ask in asks[:: asked.n])
    return await respond(request, asks, prompt_tokens, envelope, wire, stream=asked.stream)


def _asks(asked: CompletionRequest, served: Served, limits: Limits) -> list[Ask]:
    codec = served.engine.codec
    limit = new_tokens(asked, served, DEFAULT_TOKENS)
    scored = asked.echo and asked.logprobs is not None
    grammar = grammar_of(asked, served)
    end = served.engine.end_ids | (served.template.stop_ids if grammar else frozenset())
    asks: list[Ask] = []
    for prompt in asked.prompt:
        if isinstance(prompt, str):
            check_length([prompt], served, "prompt")
            ids = tuple(codec.encode_prompt(prompt, asked.parse_special))
        else:
            ids = prompt
        asks += [
            # A client that scores a text with max_tokens 1 expects one token after it, even if
            # that token ends the text; lm-eval does.
            Ask(
                len(asks) + choice,
                job,
                asked.stop,
                ends=end if scored and not (asked.ignore_eos or grammar) else frozenset(),
                echo=asked.echo,
            )
            for choice, job in enumerate(
                jobs(
                    asked,
                    served,
                    ids or (codec.eos_id,),
                    limit,
                    param="prompt",
                    stop_ids=frozenset() if scored and not grammar else end,
                    top_logprobs=asked.logprobs,
                    score_prompt=scored,
                    grammar=grammar,
                )
            )
        ]
    check_scores((ask.job for ask in asks), served.engine.context, limits.scores)
    return asks


class _Wire:
    """Choices in this endpoint's format."""

    def __init__(self, served: Served, logprobs: bool) -> None:
        self._codec = served.engine.codec
        self._logprobs = logprobs

    def whole(self, answer: Whole) -> dict[str, Any]:
        """The choice of a complete answer."""
        return self._choice(answer.index, answer.text, answer.tokens, answer.reason)

    def opening(self, _index: int) -> Iterator[dict[str, Any]]:
        """Nothing precedes the first piece."""
        return iter(())

    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        """The choices of one piece; the last one carries the finish reason."""
        piece = part.piece
        if piece.text or (self._logprobs and piece.tokens) or part.reason:
            yield self._choice(part.index, piece.text, piece.tokens, part.reason)

    def _choice(
        self, index: int, text: str, tokens: Sequence[Any], reason: str | None
    ) -> dict[str, Any]:
        logprobs = completion_logprobs(self._codec, tokens) if self._logprobs else None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
