from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config.model import ModelConfig
from trainer.model.inference.slot_cache import CALL_POSITIONS, Piece, SlotCache, cut_into_runs
from trainer.model.language_model import LanguageModel

SLOTS = 6


def empty_cache(model: LanguageModel, slots: int = SLOTS) -> SlotCache:
    return SlotCache(model.dimensions, slots, model.dimensions.T, model.device, torch.float32)


@torch.inference_mode()
def feed(
    model: LanguageModel, cache: SlotCache, parts: list[tuple[int, list[int]]]
) -> dict[int, torch.Tensor]:
    """One pass over `parts` (slot, tokens); the logits (T, V) of each slot's tokens."""
    cache.plan([Piece(slot, len(tokens)) for slot, tokens in parts])
    ids = [token for _, tokens in parts for token in tokens]
    logits = model(torch.tensor([ids]), cache=cache)[0]
    pieces = logits.split([len(tokens) for _, tokens in parts])
    return {slot: piece for (slot, _), piece in zip(parts, pieces, strict=True)}


def test_every_sequence_is_computed_as_if_alone(shape: ModelConfig, make_model) -> None:
    """Whatever the pieces are: prompts, chunks and single tokens, of all lengths, in any slots."""
    model = make_model(shape)
    chance = random.Random(3)
    cache = empty_cache(model)
    texts: dict[int, list[int]] = {slot: [] for slot in range(SLOTS)}
    for _ in range(30):
        slots = chance.sample(range(SLOTS), chance.randint(1, SLOTS))
        if chance.random() < 0.6:
            slots.sort()
        parts = []
        for slot in slots:
            room = 40 - len(texts[slot])
            if room == 0 or chance.random() < 0.05:
                texts[slot], cache.lengths[slot] = [], 0
                room = 40
            count = chance.choice([1, 1, 1, chance.randint(1, min(room, 9))])
            parts.append((slot, [chance.randrange(97) for _ in range(count)]))
        for slot, logits in feed(model, cache, parts).items():
            texts[slot] += dict(parts)[slot]
            with torch.inference_mode():
                alone = model(torch.tensor([texts[slot]]))[0]
            torch.testing.assert_close(logits, alone[-len(logits) :], atol=1e-4, rtol=1e-4)
    assert cache.lengths == [len(texts[slot]) for slot in range(SLOTS)]


@given(
    lengths=st.lists(st.integers(0, 600), min_size=1, max_size=12),
    absent=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60, deadline=None)
def test_slots_are_cut_into_runs_of_neighbours(lengths: list[int], absent: set[int]) -> None:
    slots = [slot for slot in range(len(lengths)) if slot not in absent]
    runs = cut_into_runs(slots, lengths)
    assert [slot for run in runs for slot in run] == slots
    assert all(run == list(range(run[0], run[0] + len(run))) for run in runs)
    assert cost(runs, lengths) == least_cost(slots, lengths)


def cost(runs: list[list[int]], lengths: list[int]) -> int:
    return sum(len(run) * (1 + max(lengths[s] for s in run)) + CALL_POSITIONS for run in runs)


def least_cost(slots: list[int], lengths: list[int]) -> int:
    """Of the best way to cut, by trying every last run."""
    best = [0]
    for end in range(1, len(slots) + 1):
        last = (slots[begin:end] for begin in range(end))
        best.append(
            min(
                best[begin] + cost([run], lengths)
                for begin, run in enumerate(last)
                if run[-1] - run[0] == len(run) - 1
            )
        )
    return best[-1]


def test_like_lengths_share_a_call_and_unlike_ones_do_not() -> None:
    assert cut_into_runs([0, 1, 2, 3], [20, 24, 3000, 3001]) == [[0, 1], [2, 3]]


def test_a_copied_beginning_is_gone_on_from(shape: ModelConfig, make_model) -> None:
    model = make_model(shape)
    cache = empty_cache(model)
    feed(model, cache, [(0, [5, 6, 7, 8])])
    cache.copy(0, 3, 3)
    logits = feed(model, cache, [(3, [9])])[3]
    with torch.inference_mode():
        alone = model(torch.tensor([[5, 6, 7, 9]]))[0, -1:]
    torch.testing.assert_close(logits, alone, atol=1e-4, rtol=1e-4)
    assert cache.lengths[0] == 4


def test_what_is_not_finite_stays_in_its_slot_and_goes_when_cleared(make_model) -> None:
    model = make_model(ModelConfig(vocab_size=97, hidden_size=48, num_layers=1, num_heads=4))
    cache = empty_cache(model)
    feed(model, cache, [(0, [1] * 9), (1, [2] * 3)])
    cache.keys[:, 1] = torch.nan
    cache.values[:, 1] = torch.nan
    assert feed(model, cache, [(0, [1]), (1, [2])])[0].isfinite().all()
    cache.clear(1)
    logits = feed(model, cache, [(0, [1]), (1, [2])])
    assert logits[1].isfinite().all()
    assert cache.lengths[1] == 1


def test_a_full_slot_is_refused(make_model) -> None:
    model = make_model(ModelConfig(vocab_size=97, hidden_size=48, num_layers=1, num_heads=4))
    cache = empty_cache(model, slots=1)
    with pytest.raises(AssertionError, match="full"):
        cache.plan([Piece(0, cache.capacity + 1)])


@given(
    slots=st.permutations(list(range(6))),
    lengths=st.lists(st.integers(0, 300), min_size=6, max_size=6),
)
def test_slots_in_another_order_share_no_call(slots: list[int], lengths: list[int]) -> None:
    """A prompt's last token is a single one too, and comes after all that decode."""
    runs = cut_into_runs(slots, lengths)
    assert [slot for run in runs for slot in run] == slots
    assert all(run == list(range(run[0], run[0] + len(run))) for run in runs)
