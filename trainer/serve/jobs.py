"""Turning a request into jobs for the engine, within the server's limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.generate.batched.job import Grammar, Job
from trainer.generate.sampling import Sampling
from trainer.serve.errors import ApiError
from trainer.serve.schemas import ChatRequest, CompletionRequest
from trainer.serve.served import Served

LEAST_TOP_P = 1e-6  # stands for 0, which OpenAI allows and which means the likeliest token


def check_model(name: str, served: Served) -> None:
    """Raise ApiError 404 if `name` is another model. An empty name matches any."""
    if name and name not in served.names:
        known = ", ".join(f"'{known}'" for known in served.names)
        raise ApiError(
            404,
            f"The model '{name}' does not exist; this server has {known}.",
            param="model",
            code="model_not_found",
        )


def new_tokens(request: CompletionRequest | ChatRequest, served: Served, default: int) -> int:
    """The most tokens an answer may have, regardless of the context. Raises ApiError."""
    wanted = request.limit
    if wanted is None:
        return min(default, served.max_new_tokens)
    if wanted > served.max_new_tokens:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        raise ApiError(
            400,
            f"{name} is too large: {wanted}. This server generates at most "
            f"{served.max_new_tokens} tokens.",
            param=name,
            code="invalid_value",
        )
    return wanted


def check_length(texts: Iterable[str], served: Served, param: str) -> None:
    """Raise ApiError for text that cannot fit the context, since encoding it could take seconds."""
    if sum(len(text) for text in texts) > served.most_bytes:
        raise ApiError(
            400,
            f"This model's context is {served.engine.context} tokens and the prompt has many more.",
            param=param,
            code="context_length_exceeded",
        )


def check_tokens(tokens: Iterable[int], served: Served, param: str) -> None:
    """Raise ApiError for a token that the vocabulary lacks."""
    vocabulary = served.engine.codec.vocab_size
    unknown = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if unknown is not None:
        raise ApiError(
            400,
            f"Invalid '{param}': there is no token {unknown}, the vocabulary has {vocabulary}.",
            param=param,
            code="invalid_value",
        )


def check_prompt(prompt: Sequence[int], served: Served, param: str) -> None:
    """Raise ApiError for a prompt that does not fit the context or has unknown tokens."""
    context = served.engine.context
    if len(prompt) > context:
        raise ApiError(
            400,
            f"This model's context is {context} tokens and the prompt has {len(prompt)}.",
            param=param,
            code="context_length_exceeded",
        )
    check_tokens(prompt, served, param)


def jobs(
    request: CompletionRequest | ChatRequest,
    served: Served,
    prompt: Sequence[int],
    limit: int,
    *,
    param: str,
    stop_ids: frozenset[int],
    top_logprobs: int | None,
    score_prompt: bool = False,
    grammar: Grammar | None = None,
) -> list[Job]:
    """The n jobs for one prompt; choice i uses seed + i.

    Raises ApiError for a prompt that does not fit the context.
    """
    vocabulary = served.engine.codec.vocab_size
    check_prompt(prompt, served, param)
    check_tokens(request.logit_bias, served, "logit_bias")
    sampling = Sampling(
        request.temperature,
        top_k=max(0, min(request.top_k, vocabulary)),
        top_p=max(request.top_p, LEAST_TOP_P),
        min_p=request.min_p,
    )
    return [
        Job(
            prompt=tuple(prompt),
            max_new_tokens=limit,
            sampling=sampling,
            seed=None if request.seed is None else _shifted(request.seed, choice),
            # Where a grammar ends, nothing but an end token may come.
            stop_ids=frozenset() if request.ignore_eos and grammar is None else stop_ids,
            top_logprobs=top_logprobs,
            score_prompt=score_prompt,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            repetition_penalty=request.repetition_penalty,
            logit_bias=request.logit_bias,
            grammar=grammar,
        )
        for choice in range(request.n)
    ]


def check_scores(jobs: Iterable[Job], context: int, most: int) -> None:
    """Raise ApiError for jobs whose response would have more than `most` log-probabilities."""
    count = 0
    for job in jobs:
        if job.top_logprobs is not None:
            new = min(job.max_new_tokens, context - len(job.prompt))
            count += (new + job.score_prompt * len(job.prompt)) * (job.top_logprobs + 1)
    if count > most:
        raise ApiError(
            400,
            f"The response would have {count} log-probabilities, more than {most}; ask for "
            "fewer tokens, choices or logprobs.",
            param="logprobs",
            code="invalid_value",
        )


def _shifted(seed: int, choice: int) -> int:
    return (seed + choice + 2**63) % 2**64 - 2**63
