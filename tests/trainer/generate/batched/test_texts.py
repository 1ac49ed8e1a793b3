"""Texts that end where their language says, whatever else is decoded meanwhile."""

from __future__ import annotations

import pytest
import torch

from shared.errors import RunError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.data.tokenizer import Tokenizer
from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.completions import complete
from trainer.generate.batched.decoder import Decoder
from trainer.generate.batched.job import Job
from trainer.generate.batched.texts import decode_texts
from trainer.generate.sampling import Sampling

MODEL = sharp_model(vocab_size=300, max_seq_len=64)
FREE = Sampling(temperature=3.0, top_k=0)


def decoder_of(slots: int = 3) -> Decoder:
    return build_decoder(MODEL, plan_decoder(MODEL, slots=slots), known_ids=258)


@pytest.fixture(scope="module")
def codec(token_data) -> Tokenizer:  # type: ignore[no-untyped-def]
    return Tokenizer.load(token_data / "tokenizer.json")


def ends_at(mark: str):  # type: ignore[no-untyped-def]
    def stop(text: str) -> int | None:
        place = text.find(mark)
        return None if place < 0 else place + len(mark)

    return stop


def never(_text: str) -> int | None:
    return None


def test_a_text_ends_where_it_is_said_to_and_the_others_go_on(codec: Tokenizer) -> None:
    jobs = [Job((1, 2 + n), 20, FREE, seed=n) for n in range(7)]
    whole = [codec.decode(c.tokens, skip_special=True) for c in complete(decoder_of(), jobs)]
    mark = next(c for c in whole[4] if not c.isalnum() and not c.isspace() and c != "_")
    stops = [never] * 4 + [ends_at(mark)] + [never] * 2
    decoder = decoder_of()
    found = {text.place: text for text in decode_texts(decoder, jobs, codec, stops)}
    assert [found[n].text for n in (0, 1, 2, 3, 5, 6)] == [whole[n] for n in (0, 1, 2, 3, 5, 6)]
    assert found[4].text == whole[4][: whole[4].index(mark) + 1]
    assert found[4].ending == "end" and found[4].tokens < 20
    assert {found[n].ending for n in (0, 1, 2, 3, 5, 6)} == {"length"}
    assert not decoder.running and not decoder.full


def test_an_iterator_that_is_closed_frees_the_decoder(codec: Tokenizer) -> None:
    decoder = decoder_of(2)
    jobs = [Job((1, 2), 3 + 20 * n, FREE, seed=n) for n in range(4)]
    texts = decode_texts(decoder, jobs, codec, [never] * 4)
    assert next(texts).place == 0
    texts.close()
    assert not decoder.running and not decoder.full


def test_output_that_is_not_finite_is_told(codec: Tokenizer) -> None:
    model = sharp_model(vocab_size=300, max_seq_len=64)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    decoder = build_decoder(model, plan_decoder(model, slots=1), known_ids=258)
    with pytest.raises(RunError, match="not finite"):
        list(decode_texts(decoder, [Job((1,), 5, FREE, 0)], codec, [never]))
