"""A list of jobs decoded to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shared.errors import RunError, UserError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.completions import complete
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import Job
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.model.language_model import LanguageModel

GREEDY = Sampling(temperature=0)
FREE = Sampling(temperature=3.0, top_k=0)
CONTEXT = 64
MODEL = sharp_model(vocab_size=300, max_seq_len=CONTEXT)


def decoder_of(model: LanguageModel = MODEL, slots: int = 3) -> Decoder:
    return build_decoder(model, plan_decoder(model, slots=slots), known_ids=258)


def test_more_jobs_than_slots_come_back_in_order() -> None:
    jobs = [Job(tuple(range(1 + n, 3 + 5 * n)), 3 + n, GREEDY) for n in range(8)]
    found = complete(decoder_of(), jobs)
    for job, completion in zip(jobs, found, strict=True):
        expected = generate(MODEL, job.prompt, job.max_new_tokens, GREEDY, allowed_ids=258)
        assert list(completion.tokens) == list(expected)
        assert completion.reason == "length"
        assert completion.prompt_scores == ()


def test_every_job_has_its_own_settings() -> None:
    job = Job((1, 2, 3), 12, GREEDY)
    decoder = decoder_of()
    (plain,) = complete(decoder, [job])
    stop = plain.tokens[5]
    stopped, biased, scored, full, nothing = complete(
        decoder,
        [
            replace(job, stop_ids=frozenset([stop])),
            replace(job, logit_bias={7: 100.0}),
            replace(job, max_new_tokens=0, top_logprobs=2, score_prompt=True),
            Job((1,) * CONTEXT, 12, GREEDY),
            replace(job, max_new_tokens=0),
        ],
    )
    assert stopped.tokens == plain.tokens[: plain.tokens.index(stop)]
    assert stopped.reason == "stop"
    assert set(biased.tokens) == {7}
    assert [score.token for score in scored.prompt_scores] == [1, 2, 3]
    assert [len(score.top) for score in scored.prompt_scores] == [0, 2, 2]
    assert (len(full.tokens), full.reason) == (1, "length")
    assert (nothing.tokens, nothing.reason) == ((), "length")


def test_log_probabilities_are_the_models_own() -> None:
    job = Job((5, 6), 10, FREE, seed=1, top_logprobs=3)
    (completion,) = complete(decoder_of(), [job])
    ids = [*job.prompt, *completion.tokens]
    with torch.inference_mode():
        logprobs = MODEL(torch.tensor([ids]))[0].log_softmax(-1)
    for place, score in enumerate(completion.scores, len(job.prompt) - 1):
        assert score.logprob == pytest.approx(float(logprobs[place, score.token]), abs=1e-4)
        assert len(score.top) == 3


def test_a_seed_repeats_a_completion_and_none_does_not() -> None:
    decoder = decoder_of(slots=4)
    one, same, other, *free = complete(
        decoder, [Job((1, 2), 30, FREE, seed=seed) for seed in (7, 7, 8, None, None)]
    )
    assert one.tokens == same.tokens
    assert len({found.tokens for found in (one, other, *free)}) == 4


def test_a_job_that_cannot_run_stops_all_before_they_begin() -> None:
    decoder = decoder_of()
    for bad, named in (
        (Job((), 1), "empty"),
        (Job((1, 300), 1), "token id 300"),
        (Job((1,), 1, logit_bias={258: 1.0}), "logit bias has token id 258"),
        (Job((1,) * 65, 1), "65 tokens and the context is 64"),
    ):
        with pytest.raises(UserError, match=named):
            complete(decoder, [Job((1,), 5), bad])
        assert not decoder.running


def test_a_diverged_model_says_so_and_leaves_the_decoder_idle() -> None:
    model = sharp_model(vocab_size=300, max_seq_len=CONTEXT, tie_embeddings=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = torch.nan
    decoder = decoder_of(model)
    with pytest.raises(RunError, match="not finite"):
        complete(decoder, [Job((1, 2), 40, FREE, seed=1), Job((7, 7), 5, GREEDY)])
    assert not decoder.running
    job = Job((1, 2), 4, logit_bias={8: 100.0})
    assert [found.tokens for found in complete(decoder, [job] * 3)] == [(8, 8, 8, 8)] * 3
