"""Many jobs together give the texts that `generate` gives one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from shared.errors import UserError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.generate.batched.job import Job
from trainer.generate.batched.same_draws import decode_as_generate
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling

CONTEXT, KNOWN = 64, 258
MODEL = sharp_model(vocab_size=300, max_seq_len=CONTEXT)
SAMPLINGS = [
    Sampling(0.0),
    Sampling(1.0, 20),
    Sampling(3.0, 0),
    Sampling(0.7, 0, 0.9),
    Sampling(3.0, 0),
]


def alone(job: Job) -> list[int]:
    return list(
        generate(
            MODEL,
            job.prompt,
            job.max_new_tokens,
            job.sampling,
            seed=job.seed,
            stop_ids=job.stop_ids,
            allowed_ids=KNOWN,
        )
    )


def together(jobs: list[Job], **options: bool) -> list[list[int]]:
    return [list(tokens) for tokens in decode_as_generate(MODEL, jobs, KNOWN, **options)]


def rounding_may_part(job: Job, one: list[int], other: list[int]) -> bool:
    """Whether two texts part where two tokens were about as likely to be drawn.

    `generate` takes the largest p / q, where q is exponential noise of the seed.
    """
    place = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    random = torch.Generator().manual_seed(job.seed or 0)
    for _ in range(place + 1):
        noise = torch.empty(1, 300).exponential_(generator=random)[0]
    with torch.no_grad():
        logits = MODEL(torch.tensor([[*job.prompt, *one[:place]]]))[0, -1]
    heat = job.sampling.temperature or 1e-6
    score = (logits / heat).softmax(-1) / noise if job.sampling.temperature else logits.exp()
    return abs(float(score[one[place]] / score[other[place]]) - 1) < 1e-3


def test_a_seed_gives_the_same_text_alone_and_together() -> None:
    jobs = [
        Job(tuple(range(1, 3 + 4 * n)), 20, sampling, seed=n)
        for n, sampling in enumerate(SAMPLINGS)
    ]
    for job, tokens in zip(jobs, together(jobs), strict=True):
        expected = alone(job)
        assert tokens == expected or rounding_may_part(job, tokens, expected)


def test_stop_ids_end_a_text() -> None:
    job = Job((1, 2, 3), 20, Sampling(0.0))
    free = alone(job)
    stopped = Job((1, 2, 3), 20, Sampling(0.0), stop_ids=frozenset([free[5]]))
    assert together([stopped, job]) == [free[: free.index(free[5])], free]


@pytest.mark.parametrize("use_cache", [True, False])
def test_jobs_beyond_the_context_are_decoded_alone(use_cache: bool) -> None:
    greedy = Sampling(0.0)
    jobs = [Job((1, 2), 5, greedy), Job((3,), 80, greedy), Job((4, 5), 62, greedy)]
    found = together(jobs, use_cache=use_cache)
    assert [len(tokens) for tokens in found] == [5, 80, 62]
    assert found == [alone(job) for job in jobs]


def test_texts_are_readable_while_the_others_are_decoded() -> None:
    """The first text streams; the second is there by then."""
    jobs = [Job((1, 2), 30, Sampling(0.0)) for _ in range(2)]
    first, second = decode_as_generate(MODEL, jobs, KNOWN)
    begun = next(first)
    assert [begun, *first] == list(second) == alone(jobs[0])


def test_without_a_seed_every_text_is_another() -> None:
    found = together([Job((1, 2), 30, Sampling(3.0, 0))] * 3)
    assert all(one != other for one, other in pairwise(found))


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        together([Job((), 3), Job((), 3)])
