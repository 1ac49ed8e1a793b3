"""Self-speculative decoding: the same tokens with drafts as without, and fewer passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trainer.config.model import ModelConfig
from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.completions import complete
from trainer.generate.batched.job import Job
from trainer.generate.batched.same_draws import decode_as_generate
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.model.inference.drafts import Drafted
from trainer.model.language_model import LanguageModel

pytestmark = pytest.mark.slow  # it trains, if only for a moment

SHAPE = {"vocab_size": 23, "hidden_size": 32, "num_layers": 1, "num_heads": 4, "max_seq_len": 40}
KINDS = {"linear": {"mtp_heads": 3}, "block": {"mtp_heads": 1, "mtp_kind": "block"}}
GREEDY, WARM = Sampling(temperature=0), Sampling(temperature=1.0, top_k=0)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """A model that has learned to count, so that some of its drafts are right."""
    model = LanguageModel(ModelConfig.model_validate(SHAPE | KINDS[request.param]))
    model.initialize(0)
    ids = (torch.arange(23)[:, None] + torch.arange(33)) % 23
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(25):
        model.train()(ids[:, :-1], ids[:, 1:]).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
@pytest.mark.parametrize("new", [1, 2, 30, 90])
def test_generate_gives_the_same_tokens(model: LanguageModel, sampling: Sampling, new: int) -> None:
    """Also where the window has to jump, and up to the last token that is wanted."""
    drafted = Drafted()
    plain = list(generate(model, [3, 4], new, sampling, seed=7))
    assert list(generate(model, [3, 4], new, sampling, seed=7, drafted=drafted)) == plain
    assert len(plain) == new
    assert drafted.passes + drafted.accepted == new
    if sampling is GREEDY and new == 30:
        assert drafted.accepted > 5


def test_a_stop_token_ends_the_text_among_drafts(model: LanguageModel) -> None:
    plain = list(generate(model, [3], 30, GREEDY))
    stop = plain[7]
    before = plain[: plain.index(stop)]
    assert list(generate(model, [3], 30, GREEDY, stop_ids=[stop], drafted=Drafted())) == before


@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_the_batched_decoder_gives_the_same_tokens(model: LanguageModel, jobs: int) -> None:
    """With penalties, biases and drawn tokens too, whose state follows every accepted draft."""
    wanted = [
        Job(
            (i, i + 1),
            20 + i,
            GREEDY if i % 2 == 0 else WARM,
            seed=i,
            top_logprobs=2,
            repetition_penalty=1.1 if i == 2 else 1.0,
            presence_penalty=0.3 if i == 3 else 0.0,
            logit_bias={4: 2.0} if i == 4 else {},
            stop_ids=frozenset({5}) if i == 5 else frozenset(),
        )
        for i in range(jobs)
    ]
    plan = plan_decoder(model, slots=8)
    plain = build_decoder(model, replace(plan, draft=False), 23)
    drafting = build_decoder(model, plan, 23)
    for one, other in zip(complete(plain, wanted), complete(drafting, wanted), strict=True):
        assert one.tokens == other.tokens
        assert one.reason == other.reason
        for a, b in zip(one.scores, other.scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
    assert plain.drafted == Drafted()
    if jobs < 8:
        assert drafting.drafted.accepted > 0
    # What a job left in its slot serves the next one with the same beginning.
    again = Job((*wanted[0].prompt, *complete(plain, wanted[:1])[0].tokens[:9]), 6, GREEDY)
    assert complete(drafting, [again])[0].tokens == complete(plain, [again])[0].tokens


def test_the_command_line_counts_them(model: LanguageModel) -> None:
    jobs = [Job((3, 4), 20, GREEDY), Job((5, 6), 20, GREEDY), Job((1,), 60, GREEDY)]
    drafted = Drafted()
    texts = [list(t) for t in decode_as_generate(model, jobs, 23, drafted=drafted)]
    assert texts == [list(t) for t in decode_as_generate(model, jobs, 23)]
    assert drafted.accepted > 0
    assert f"{drafted.accepted} of {drafted.drafted} drafted tokens accepted" in str(drafted)


def test_a_model_without_heads_drafts_nothing() -> None:
    model = LanguageModel(ModelConfig.model_validate(SHAPE)).eval()
    model.initialize(0)
    drafted = Drafted()
    assert len(list(generate(model, [1], 8, GREEDY, drafted=drafted))) == 8
    assert drafted == Drafted()
