"""Drawing many rows at once, against the sampling of `trainer generate`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.generate.inverse import inverse
from trainer.generate.batched.choosing import CANDIDATES, discourage_repeats, draw
from trainer.generate.sampling import Sampling, filtered_logits

SAMPLINGS = [
    Sampling(0.0),
    Sampling(1.0, 0, 1.0),
    Sampling(0.7, 5, 1.0),
    Sampling(1.3, 0, 0.6),
    Sampling(2.0, 12, 0.9),
    Sampling(1e-4, 0, 1.0),
    Sampling(100.0, 3, 0.001),
    Sampling(1.2, 0, 1.0, 0.05),
    Sampling(0.9, 9, 0.8, 0.2),
]


def logits_of(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@given(
    which=st.lists(st.sampled_from(SAMPLINGS), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    uniforms=st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6),
)
@settings(max_examples=80, deadline=None)
def test_every_row_is_drawn_with_its_own_settings(
    which: list[Sampling], seed: int, uniforms: list[float]
) -> None:
    logits = logits_of(len(which), 40, seed)
    tokens = draw(logits, which, uniforms[: len(which)])
    for row, sampling in enumerate(which):
        assert tokens[row] in inverse(logits[row], sampling, uniforms[row])


@pytest.mark.parametrize("sampling", [*SAMPLINGS[1:5], *SAMPLINGS[-2:]])
def test_the_shares_are_those_of_the_filtered_logits(sampling: Sampling) -> None:
    logits = logits_of(1, 12)
    count = 4000
    uniforms = [(place + 0.5) / count for place in range(count)]
    tokens = draw(logits.expand(count, -1), [sampling] * count, uniforms)
    shares = torch.bincount(torch.tensor(tokens), minlength=12) / count
    expected = filtered_logits(logits, sampling)[0].softmax(-1)
    torch.testing.assert_close(shares, expected, atol=2e-3, rtol=0)


def test_top_p_that_reaches_beyond_the_candidates() -> None:
    width = 4 * CANDIDATES
    logits = -1e-6 * torch.arange(width, dtype=torch.float32)[None]  # nearly even, best first
    sampling = Sampling(1.0, 0, 0.9)
    for uniform in (0.0, 0.3, 0.6, 0.999):
        (token,) = draw(logits, [sampling], [uniform])
        assert token == pytest.approx(0.9 * uniform * width, abs=0.01 * width)


def test_one_that_is_certain_is_drawn_at_every_edge() -> None:
    logits = torch.full((1, 9), -torch.inf)
    logits[0, 4] = 1.0
    for sampling in SAMPLINGS:
        for uniform in (0.0, 0.5, 1 - 2**-53):
            assert draw(logits, [sampling], [uniform]) == [4]


def test_repeats_are_discouraged_as_transformers_does() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = logits_of(3, 20)
    seen = [{1, 5, 19}, {2, 400}, {3}]
    changed = discourage_repeats(logits, seen, [1.3, 0.7, 1.0])
    for row, penalty in ((0, 1.3), (1, 0.7)):
        known = torch.tensor([[token for token in seen[row] if token < 20]])
        expected = RepetitionPenaltyLogitsProcessor(penalty)(known, logits[row : row + 1].clone())
        torch.testing.assert_close(changed[row], expected[0])
    assert changed[2].equal(logits[2])
    assert discourage_repeats(logits, seen, [1.0] * 3) is logits
