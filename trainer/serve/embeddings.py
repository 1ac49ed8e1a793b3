"""`POST /v1/embeddings`: texts as vectors.

A vector is the mean of the model's last hidden states, those its output head reads, over all tokens
of the text, scaled to length 1.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from trainer.generate.batched.job import Job
from trainer.serve.answers import Ask
from trainer.serve.body import read_body
from trainer.serve.errors import ApiError
from trainer.serve.jobs import check_length, check_model, check_prompt
from trainer.serve.schemas import EmbeddingRequest, parse
from trainer.serve.served import Served
from trainer.serve.streaming import collect, json_response


async def embeddings(request: Request) -> Response:
    """The endpoint."""
    served: Served = request.app.state.served
    asked = parse(await read_body(request), EmbeddingRequest)
    check_model(asked.model, served)
    asks = await asyncio.to_thread(_asks, asked, served)
    prompt_tokens = sum(len(ask.job.prompt) for ask in asks)
    wholes = await collect(request, asks, prompt_tokens, f"embd-{uuid.uuid4().hex}")
    size = len(wholes[0].vector)
    if asked.dimensions not in (None, size):
        raise ApiError(
            400,
            f"Invalid 'dimensions': this model's embeddings have {size} dimensions, not "
            f"{asked.dimensions}.",
            param="dimensions",
            code="invalid_value",
        )
    content = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": whole.index,
                "embedding": _encoded(whole.vector, asked.encoding_format),
            }
            for whole in wholes
        ],
        "model": served.name,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }
    return json_response(content)


def _asks(asked: EmbeddingRequest, served: Served) -> list[Ask]:
    codec = served.engine.codec
    prompts: list[Sequence[int]] = []
    for text in asked.input:
        if isinstance(text, str):
            check_length([text], served, "input")
            prompts.append(codec.encode_prompt(text))
        else:
            prompts.append(text or (codec.eos_id,))
        check_prompt(prompts[-1], served, "input")
    return [Ask(index, Job(tuple(prompt), 0, embed=True)) for index, prompt in enumerate(prompts)]


def _encoded(vector: Sequence[float], encoding: str) -> Any:
    """The numbers, or their little-endian fp32 bytes in base64, as OpenAI's client asks for."""
    if encoding == "float":
        return list(vector)
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
