"""`POST /tokenize` and `POST /detokenize`, as vLLM has them: text as token ids and back."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from trainer.serve.body import read_body
from trainer.serve.chat import encode_chat
from trainer.serve.jobs import check_model, check_tokens
from trainer.serve.logprobs import token_text
from trainer.serve.schemas import DetokenizeRequest, TokenizeRequest, parse
from trainer.serve.served import Served
from trainer.serve.streaming import json_response


async def tokenize(request: Request) -> Response:
    """The ids of a text, or of a conversation in the model's chat template."""
    served: Served = request.app.state.served
    asked = parse(await read_body(request), TokenizeRequest)
    check_model(asked.model, served)
    ids = await asyncio.to_thread(_ids, asked, served)
    codec = served.engine.codec
    strings = [token_text(codec, token) for token in ids] if asked.return_token_strs else None
    return json_response(
        {
            "count": len(ids),
            "max_model_len": served.engine.context,
            "tokens": ids,
            "token_strs": strings,
        }
    )


def _ids(asked: TokenizeRequest, served: Served) -> list[int]:
    codec = served.engine.codec
    if asked.messages is not None:
        return encode_chat(
            asked.messages,
            served,
            asked.tools,
            add_generation_prompt=asked.add_generation_prompt,
        )
    assert asked.prompt is not None
    if asked.add_special_tokens and asked.prompt:
        return codec.encode_prompt(asked.prompt, asked.parse_special)
    return codec.encode(asked.prompt, asked.parse_special)


async def detokenize(request: Request) -> Response:
    """The text of token ids; special tokens are spelled out."""
    served: Served = request.app.state.served
    asked = parse(await read_body(request), DetokenizeRequest)
    check_model(asked.model, served)
    check_tokens(asked.tokens, served, "tokens")
    text = served.engine.codec.decode_bytes(asked.tokens).decode("utf-8", "replace")
    return json_response({"prompt": text})
