"""`POST /v1/chat/completions`: the next message of a conversation."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from shared.errors import UserError
from trainer.generate.batched.job import Grammar
from trainer.generate.templates import Message
from trainer.serve.answers import Ask, Part
from trainer.serve.body import read_body
from trainer.serve.errors import ApiError
from trainer.serve.jobs import check_length, check_model, check_scores, jobs, new_tokens
from trainer.serve.limits import Limits
from trainer.serve.logprobs import chat_logprobs
from trainer.serve.schemas import ChatMessage, ChatRequest, Tool, parse
from trainer.serve.served import Served
from trainer.serve.streaming import Envelope, Whole, respond
from trainer.serve.structured import compiled, grammar_of
from trainer.serve.tools import Call, CallDelta, CallReader, call_grammar, call_variables, described
from trainer.serve.truncation import newest_turns

#: The header that says how many of the oldest messages were left out.
LEFT_OUT = "X-Messages-Left-Out"


async def chat_completions(request: Request) -> Response:
    """The endpoint."""
    served: Served = request.app.state.served
    asked = parse(await read_body(request), ChatRequest)
    check_model(asked.model, served)
    limits: Limits = request.app.state.limits
    asks, left_out = await asyncio.to_thread(_asks, asked, served, limits)
    envelope = Envelope("chatcmpl", "chat.completion", served, asked.stream_options.include_usage)
    wire = _Wire(served, asked)
    prompt_tokens = len(asks[0].job.prompt)
    response = await respond(request, asks, prompt_tokens, envelope, wire, stream=asked.stream)
    if left_out:
        response.headers[LEFT_OUT] = str(left_out)
    return response


def _asks(asked: ChatRequest, served: Served, limits: Limits) -> tuple[list[Ask], int]:
    """The answers to generate, and how many messages were left out."""
    template = served.template
    limit = new_tokens(asked, served, served.max_new_tokens)
    messages = [_message(message) for message in asked.messages]
    if asked.truncation == "auto":
        context = served.engine.context
        room = context - min(limit, context // 2)
        messages = newest_turns(messages, partial(_fits, served, room, asked.offered))
    check_length(_texts(messages, asked.offered), served, "messages")
    ids = _encode(messages, served, asked.offered)
    found = jobs(
        asked,
        served,
        ids or (served.engine.codec.eos_id,),
        limit,
        param="messages",
        stop_ids=template.stop_ids | served.engine.end_ids,
        top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        grammar=_grammar(asked, served),
    )
    check_scores(found, served.engine.context, limits.scores)
    stops = (*asked.stop, *template.stop_texts)
    asks = [Ask(index, job, stops) for index, job in enumerate(found)]
    return asks, len(asked.messages) - len(messages)


def encode_chat(
    messages: Sequence[ChatMessage],
    served: Served,
    tools: Sequence[Tool] = (),
    *,
    add_generation_prompt: bool = True,
) -> list[int]:
    """The conversation as token ids. Raises ApiError if the template refuses it."""
    turns = [_message(message) for message in messages]
    return _encode(turns, served, tools, add_generation_prompt)


def _encode(
    messages: Sequence[Message],
    served: Served,
    tools: Sequence[Tool],
    add_generation_prompt: bool = True,
) -> list[int]:
    template, offered = served.template, [tool.model_dump(exclude_none=True) for tool in tools]
    if not template.takes_tools:
        messages = described(messages, [tool["function"] for tool in offered])
        offered = []
    try:
        return template.encode(messages, add_generation_prompt=add_generation_prompt, tools=offered)
    except UserError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None


def _fits(served: Served, room: int, tools: Sequence[Tool], messages: Sequence[Message]) -> bool:
    """Whether the messages and tools take at most `room` tokens."""
    if sum(map(len, _texts(messages, tools))) > served.most_bytes:
        return False
    return len(_encode(messages, served, tools)) <= room


def _texts(messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
    """All text of a conversation that becomes tokens."""
    calls = [str(message.tool_calls) for message in messages if message.tool_calls]
    return [*(message.content for message in messages), *calls, *map(str, tools)]


def _grammar(asked: ChatRequest, served: Served) -> Grammar | None:
    if asked.forced:
        functions = [tool.function.model_dump() for tool in asked.forced]
        return compiled(call_grammar(functions), served, "tools")
    return grammar_of(asked, served)


def _message(message: ChatMessage) -> Message:
    return Message(
        "system" if message.role == "developer" else message.role,
        message.content,
        tool_calls=tuple(
            call_variables(call.function.name, call.function.arguments, call.id)
            for call in message.tool_calls
        ),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


class _Wire:
    """Choices in this endpoint's format: messages, or deltas of messages."""

    def __init__(self, served: Served, asked: ChatRequest) -> None:
        self._codec = served.engine.codec
        self._logprobs = asked.logprobs
        self._names = [tool.function.name for tool in asked.offered]
        self._forced = bool(asked.forced)
        self._readers: defaultdict[int, CallReader] = defaultdict(self._reader)
        # The plain template ends in "Assistant:", so an answer begins with a space.
        self._strips = served.template.is_plain
        self._begun: set[int] = set()
        self._called: set[int] = set()

    def whole(self, answer: Whole) -> dict[str, Any]:
        """The choice of a complete answer."""
        text = answer.text.lstrip() if self._strips else answer.text
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        calls: list[Call] = []
        if self._names:
            reader = self._reader()
            said = reader.feed(text)
            rest, calls = reader.finish()
            message["content"] = said + rest
        if calls:
            message["content"] = message["content"].strip() or None
            message["tool_calls"] = [call.as_json() for call in calls]
        return {
            "index": answer.index,
            "message": message,
            "logprobs": chat_logprobs(self._codec, answer.tokens) if self._logprobs else None,
            "finish_reason": _reason(answer.reason, called=bool(calls)),
        }

    def _reader(self) -> CallReader:
        return CallReader(self._names, forced=self._forced)

    def opening(self, index: int) -> Iterator[dict[str, Any]]:
        """The delta that names the role."""
        yield self._choice(index, {"role": "assistant", "content": "", "refusal": None})

    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        """The deltas of one piece; an empty delta carries the finish reason."""
        piece, text = part.piece, part.piece.text
        if self._strips and part.index not in self._begun:
            text = text.lstrip()
        if text:
            self._begun.add(part.index)
        calls: list[CallDelta] = []
        if self._names:
            reader = self._readers[part.index]
            text = reader.feed(text)
            calls = reader.deltas()
            if part.reason:
                rest, last = reader.last_deltas()
                text, calls = text + rest, calls + last
            if calls:
                self._called.add(part.index)
        if text or (self._logprobs and piece.tokens):
            choice = self._choice(part.index, {"content": text})
            if self._logprobs:
                choice["logprobs"] = chat_logprobs(self._codec, piece.tokens)
            yield choice
        for call in calls:
            yield self._choice(part.index, {"tool_calls": [call.as_json()]})
        if part.reason:
            reason = _reason(part.reason, called=part.index in self._called)
            yield self._choice(part.index, {}) | {"finish_reason": reason}

    def _choice(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _reason(reason: str | None, *, called: bool) -> str | None:
    """The finish reason; a cut answer stays one even if it has a call."""
    return "tool_calls" if called and reason == "stop" else reason
