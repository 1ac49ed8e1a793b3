"""Answers sampled from the weights that are trained: what they are, and what they depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.data.permutation import key_of
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.model.language_model import LanguageModel
from trainer.rl.engine import How, ModelEngine
from trainer.rl.sampled import Request, Sampled

NEW = 12


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((), kind="char")


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> LanguageModel:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        max_seq_len=96,
        tie_embeddings=False,
    )
    model = LanguageModel(config)
    model.initialize(3)
    with torch.no_grad():  # far from uniform, so that temperature and filters matter
        model.lm_head.weight.mul_(25)
    return model.train()


def requests(tokenizer: Tokenizer, prompts: Sequence[str], samples: int) -> list[Request]:
    return [
        Request(tuple(tokenizer.encode_prompt(text)), key_of(7, 1, place, sample))
        for place, text in enumerate(prompts)
        for sample in range(samples)
    ]


def sample(
    model: LanguageModel,
    tokenizer: Tokenizer,
    asked: Sequence[Request],
    *,
    stops: Callable[[str], int | None] = lambda text: None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    slots: int | None = None,
) -> list[Sampled]:
    found: dict[int, Sampled] = {}
    how = How(NEW, temperature, top_p, slots)
    ModelEngine(model, tokenizer, stops, how).sample(asked, found.__setitem__)
    assert sorted(found) == list(range(len(asked)))
    return [found[place] for place in range(len(asked))]


PROMPTS = ("fn add(a: i32, b: i32) -> i32 {", "fn f", "/// A long prompt, more than 32 tokens.\n")


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_the_training_pass(
    model: LanguageModel, tokenizer: Tokenizer, temperature: float
) -> None:
    asked = requests(tokenizer, PROMPTS, 4)
    for request, answer in zip(
        asked, sample(model, tokenizer, asked, temperature=temperature), strict=True
    ):
        ids = torch.tensor([[*request.ids, *answer.tokens]])
        logits = model(ids[:, :-1])[0, len(request.ids) - 1 :]
        logs = (logits / temperature).log_softmax(dim=-1)
        expected = logs.gather(-1, torch.tensor(answer.tokens)[:, None])[:, 0]
        assert len(answer.logprobs) == len(answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_an_answer_depends_on_its_own_seed_alone(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    asked = requests(tokenizer, PROMPTS, 4)
    everyone = sample(model, tokenizer, asked)
    assert len({answer.tokens for answer in everyone[:4]}) > 1, "the seeds give one answer"
    # Another order, other companions, other slots: as on another number of ranks.
    others = sample(model, tokenizer, asked[::-1], slots=3)[::-1]
    assert [answer.tokens for answer in others] == [answer.tokens for answer in everyone]
    alone = [sample(model, tokenizer, [request])[0].tokens for request in asked[:5]]
    assert alone == [answer.tokens for answer in everyone[:5]]


def test_answers_that_end_at_different_times_do_not_disturb_each_other(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    """The others move together in the cache."""
    asked = requests(tokenizer, PROMPTS, 4)

    def stops(text: str) -> int | None:
        return len(text) if text and len(text) >= 2 + ord(text[0]) % 7 else None

    together = sample(model, tokenizer, asked, stops=stops)
    assert len({len(answer.tokens) for answer in together}) > 2
    alone = [sample(model, tokenizer, [request], stops=stops)[0] for request in asked]
    assert [answer.tokens for answer in alone] == [answer.tokens for answer in together]


def test_answers_follow_the_weights_and_leave_the_training_alone(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    asked = requests(tokenizer, PROMPTS[:1], 4)
    state = torch.get_rng_state()
    before = sample(model, tokenizer, asked)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    kept = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.copy_(kept.flip(0))
    changed = sample(model, tokenizer, asked)
    with torch.no_grad():
        model.lm_head.weight.copy_(kept)
    assert [a.tokens for a in changed] != [a.tokens for a in before]
    assert sample(model, tokenizer, asked) == before
    model(torch.tensor([asked[0].ids])).sum().backward()  # nothing is an inference tensor
    model.zero_grad()


@pytest.mark.parametrize("needed", range(1, NEW + 1))
def test_an_answer_ends_with_the_token_that_shows_its_end(
    model: LanguageModel, tokenizer: Tokenizer, needed: int
) -> None:
    (request,) = requests(tokenizer, PROMPTS[:1], 1)
    (whole,) = sample(model, tokenizer, [request])
    assert whole.truncated and len(whole.tokens) == NEW

    texts = [tokenizer.decode(whole.tokens[:count]) for count in range(NEW + 1)]
    least = len(texts[needed])
    needed = next(count for count, text in enumerate(texts) if len(text) >= least)

    def stops(text: str) -> int | None:
        """The end lies before the last character that is needed to know it."""
        return least - 1 if len(text) >= least else None

    (answer,) = sample(model, tokenizer, [request], stops=stops)
    assert answer.tokens == whole.tokens[:needed]
    assert answer.logprobs == pytest.approx(whole.logprobs[:needed])
    assert answer.text == texts[needed][: least - 1]
    assert not answer.truncated


def test_the_end_token_is_part_of_the_answer_but_not_of_its_text(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    with torch.no_grad():
        kept = model.lm_head.weight.detach().clone()
        model.lm_head.weight[tokenizer.eos_id] = kept.mean(0) * 0
        model.lm_head.weight.mul_(0.01)  # nearly uniform: the end comes sooner or later
    try:
        answers = sample(model, tokenizer, requests(tokenizer, PROMPTS, 24))
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(kept)
    ended = [answer for answer in answers if tokenizer.eos_id in answer.tokens]
    assert ended and all(
        answer.tokens.index(tokenizer.eos_id) == len(answer.tokens) - 1 for answer in ended
    )
    assert not any(answer.truncated for answer in ended)
    assert all(answer.text == tokenizer.decode(answer.tokens[:-1]) for answer in ended)


def test_what_was_given_counts_for_the_end_but_is_not_written_again(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    given = "    let x = 1;\n"
    ids = tuple(tokenizer.encode_prompt(PROMPTS[0] + given))
    seen: list[str] = []

    def stops(text: str) -> int | None:
        seen.append(text)
        return len(given) + 3 if len(text) >= len(given) + 5 else None

    (answer,) = sample(model, tokenizer, [Request(ids, 1, given)], stops=stops)
    assert all(text.startswith(given) for text in seen)
    assert answer.text == tokenizer.decode(answer.tokens)[:3]


def test_a_prompt_that_fills_the_context_is_refused(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    with pytest.raises(UserError, match="96 tokens, and the context is 96"):
        sample(model, tokenizer, [Request((1,) * 96, 0)])
    (answer,) = sample(model, tokenizer, [Request((1,) * 92, 0)])
    assert answer.truncated and len(answer.tokens) <= 5
