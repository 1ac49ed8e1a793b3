from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.generate.decoding import generate, stream_text, window_start
from trainer.generate.remembered import Remembered
from trainer.generate.sampling import Sampling
from trainer.model.inference.drafts import Drafted
from trainer.model.language_model import LanguageModel

CONTEXT = 16
GREEDY = Sampling(temperature=0)
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-gqa": {"num_kv_heads": 2, "tie_embeddings": False},
    "qwen3": {"qk_norm": True, "num_kv_heads": 1},
    "gpt2": {"flavour": "gpt2"},
}


def model_of(shape: str, **changes: Any) -> LanguageModel:
    return sharp_model(**{"vocab_size": 50, "max_seq_len": CONTEXT, **SHAPES[shape], **changes})


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return model_of(request.param)


def prompt_of(length: int) -> list[int]:
    return [(7 * i + 3) % 50 for i in range(length)]


# The cache


@pytest.mark.parametrize(
    ("prompt", "new"), [(1, 5), (3, 13), (15, 1), (16, 1), (16, 30), (40, 20), (1, 60)]
)
def test_the_cache_changes_no_token(model: LanguageModel, prompt: int, new: int) -> None:
    for sampling in (GREEDY, Sampling(temperature=1.0, top_k=20)):
        cached, computed = (
            list(generate(model, prompt_of(prompt), new, sampling, seed=4, use_cache=use))
            for use in (True, False)
        )
        assert cached == computed
        assert len(cached) == new


def test_within_the_context_it_is_the_model_itself(model: LanguageModel) -> None:
    ids = prompt_of(5)
    for token in generate(model, ids, CONTEXT - 5, GREEDY):
        with torch.no_grad():
            assert token == model(torch.tensor([ids]))[0, -1].argmax().item()
        ids.append(token)
    assert len(ids) == CONTEXT


def test_beyond_the_context_it_sees_the_window(model: LanguageModel) -> None:
    ids = prompt_of(10)
    for token in generate(model, ids, 3 * CONTEXT, GREEDY):
        window = ids[window_start(len(ids), CONTEXT) :]
        assert CONTEXT // 2 <= len(window) <= CONTEXT or len(ids) < CONTEXT
        with torch.no_grad():
            assert token == model(torch.tensor([window]))[0, -1].argmax().item()
        ids.append(token)


@given(length=st.integers(1, 5000), context=st.integers(1, 300))
def test_the_window_fits_and_is_never_less_than_half(length: int, context: int) -> None:
    start = window_start(length, context)
    seen = length - start
    assert 1 <= seen <= context
    assert start == 0 or seen > context - max(1, context // 2) - 1
    assert start % max(1, context // 2) == 0
    assert window_start(length + 1, context) >= start


def test_a_context_of_one_token() -> None:
    model = model_of("llama", max_seq_len=1)
    texts = [list(generate(model, [3, 4], 5, GREEDY, use_cache=use)) for use in (True, False)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 5


# Remembering the last text


def check_turns(model: LanguageModel, **drafts: Drafted) -> None:
    """Texts that begin like the last one are what they are without it."""
    chance = random.Random(5)
    remembered = Remembered()
    text = prompt_of(6)
    for _ in range(20):
        # Another turn, an edited one, the same again, or an answer that was interrupted.
        text = text[: chance.randint(1, len(text))] + prompt_of(chance.randint(0, 4))
        new = chance.choice([1, 3, 2 * CONTEXT])
        expected = list(generate(model, text, new, GREEDY, **drafts))
        tokens = generate(model, text, new, GREEDY, remembered=remembered, **drafts)
        heard = list(islice(tokens, chance.randint(1, new)))
        assert heard == expected[: len(heard)]
        text = (text + heard)[: CONTEXT - 1]


def test_a_text_that_begins_like_the_last_one_is_the_same(model: LanguageModel) -> None:
    check_turns(model)


def test_a_text_that_begins_like_the_last_one_with_drafts() -> None:
    check_turns(model_of("llama", mtp_heads=2), drafted=Drafted())


def test_only_what_is_new_is_computed(model: LanguageModel) -> None:
    computed: list[int] = []
    embedding = (
        model.transformer.wte if model.config.flavour == "gpt2" else model.model.embed_tokens
    )
    embedding.register_forward_hook(lambda *call: computed.append(call[2].shape[1]))
    remembered = Remembered()
    answer = list(generate(model, prompt_of(6), 3, GREEDY, remembered=remembered))
    assert computed == [6, 1, 1]
    # The answer's last token was never computed; then come three more.
    list(generate(model, [*prompt_of(6), *answer, 1, 2, 3], 2, GREEDY, remembered=remembered))
    assert computed[3:] == [4, 1]
    list(generate(model, prompt_of(4), 1, GREEDY, remembered=remembered))
    assert computed[5:] == [1]


# Choosing


def test_greedy_is_top_1_and_needs_no_seed(model: LanguageModel) -> None:
    greedy = list(generate(model, [1, 2], 20, GREEDY))
    assert greedy == list(generate(model, [1, 2], 20, GREEDY, seed=9))
    assert greedy == list(generate(model, [1, 2], 20, Sampling(temperature=1.0, top_k=1), seed=9))


def test_a_seed_is_repeatable_and_another_differs() -> None:
    model = model_of("llama")
    free = Sampling(temperature=3.0, top_k=0)

    def tokens(seed: int | None) -> list[int]:
        return list(generate(model, [1, 2], 30, free, seed=seed))

    torch.manual_seed(0)
    first, state = tokens(7), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)  # training's generator is left alone
    assert tokens(7) == first
    assert tokens(8) != first
    assert tokens(None) != tokens(None)


def test_it_ends_before_the_first_stop_token() -> None:
    model = model_of("gpt2")
    free = list(generate(model, [1, 2], 30, Sampling(3.0, 0), seed=3))
    stop = free[10]
    stopped = list(generate(model, [1, 2], 30, Sampling(3.0, 0), seed=3, stop_ids=(stop,)))
    assert stopped == free[: free.index(stop)]


def test_ids_the_tokenizer_lacks_never_come(model: LanguageModel) -> None:
    for sampling in (GREEDY, Sampling(temperature=100.0, top_k=0)):
        tokens = list(generate(model, [1], 40, sampling, seed=0, allowed_ids=11))
        assert len(tokens) == 40
        assert max(tokens) <= 10
    assert max(generate(model, [1], 40, Sampling(100.0, 0), seed=0)) > 10


@pytest.mark.parametrize(
    ("prompt", "named"), [([], "empty"), ([1, 50], "id 50"), ([-1], "-1"), ([3, -1, 2], "-1")]
)
def test_a_prompt_the_model_cannot_read_is_refused(prompt: list[int], named: str) -> None:
    with pytest.raises(UserError, match=named):
        list(generate(model_of("llama"), prompt, 3, GREEDY))


# Streaming


BYTES = train_tokenizer((), kind="char")
BPE = train_tokenizer(["naïve café 😀😀 日本語 " * 20], vocab_size=290)


@given(text=st.text(max_size=40))
@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
def test_characters_come_when_they_are_whole(tokenizer: Tokenizer, text: str) -> None:
    pieces = list(stream_text(tokenizer.encode(text), tokenizer))
    whole = tokenizer.decode(tokenizer.encode(text))
    assert "".join(pieces) == whole
    assert all(pieces)
    assert whole.count("\ufffd") == "".join(pieces).count("\ufffd")


def test_text_comes_as_its_tokens_do() -> None:
    arrived: list[str] = []

    def tokens():  # type: ignore[no-untyped-def]
        for place, token in enumerate(BYTES.encode("aé😀")):
            yield token
            assert "".join(arrived) == "aé😀"[: [1, 1, 2, 2, 2, 2, 3][place]]

    for piece in stream_text(tokens(), BYTES):
        arrived += [piece]
    assert arrived == ["a", "é", "😀"]


def test_a_character_cut_off_at_the_end_is_marked() -> None:
    ids = BYTES.encode("a😀")[:-1]
    assert list(stream_text(ids, BYTES)) == ["a", "\ufffd"]


def test_bytes_that_are_no_text_are_marked_and_the_rest_goes_on() -> None:
    broken = [*BYTES.encode("é")[:1], *BYTES.encode("b")]
    assert "".join(stream_text(broken, BYTES)) == "\ufffdb"
