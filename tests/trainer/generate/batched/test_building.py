"""A decoder's size and precision, decided before anything is allocated."""

from __future__ import annotations

import pytest

from shared.errors import RunError, UserError
from tests.trainer.generate.sharp_models import sharp_model
from trainer.generate.batched.building import MAX_SLOTS, build_decoder, plan_decoder

MODEL = sharp_model(vocab_size=300, max_seq_len=64)
SLOT = 2 * 2 * 64 * 32 * 4  # bytes: keys and values, layers, positions, channels, fp32


@pytest.mark.parametrize(
    ("free", "slots"), [(0, 1), (4 * SLOT, 1), (4 * 5 * SLOT, 5), (1 << 40, MAX_SLOTS)]
)
def test_slots_take_a_quarter_of_the_free_memory(free: int, slots: int) -> None:
    assert plan_decoder(MODEL, free_memory=free).slots == slots


def test_half_the_context_is_twice_the_slots() -> None:
    assert plan_decoder(MODEL, context=32, free_memory=4 * 5 * SLOT).slots == 10


def test_what_is_asked_for_is_planned() -> None:
    plan = plan_decoder(MODEL, slots=7, context=40, precision="bf16", prefill_chunk=9)
    assert (plan.slots, plan.context, plan.precision, plan.prefill_chunk) == (7, 40, "bf16", 9)
    decoder = build_decoder(MODEL, plan, known_ids=258)
    assert (decoder.context, decoder.known_ids, decoder.prefill_chunk) == (40, 258, 9)


@pytest.mark.parametrize("context", [-1, 65])
def test_a_context_the_model_does_not_have_is_refused(context: int) -> None:
    with pytest.raises(UserError, match=f"--context is {context}; it must be between 1 and 64"):
        plan_decoder(MODEL, context=context)


def test_a_cache_larger_than_memory_names_a_remedy() -> None:
    model = sharp_model(vocab_size=300, max_seq_len=1 << 20)
    with pytest.raises(RunError, match="fewer slots or a shorter context"):
        build_decoder(model, plan_decoder(model, slots=1 << 30), known_ids=300)
