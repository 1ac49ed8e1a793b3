from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import RunError, UserError
from trainer.generate.sampling import Sampling, choose, filtered_logits

INF = math.inf
# Quarters, all different: which token is the k-th is never a matter of rounding.
logit_lists = st.lists(st.integers(-60, 60), min_size=2, max_size=30, unique=True).map(
    lambda numbers: [number / 4 for number in numbers]
)


def kept(logits: list[float], sampling: Sampling) -> set[int]:
    filtered = filtered_logits(torch.tensor([logits]), sampling)[0]
    return {i for i, value in enumerate(filtered.tolist()) if value != -INF}


def naive(logits: list[float], sampling: Sampling) -> set[int]:
    """The k likeliest above min-p, and of those the fewest whose probability reaches p."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    shares = [math.exp((logits[i] - logits[order[0]]) / sampling.temperature) for i in order]
    assume(all(abs(share - sampling.min_p) > 1e-5 for share in shares))
    order = [i for i, share in zip(order, shares, strict=True) if share >= sampling.min_p]
    order = order[: sampling.top_k or None]
    weights = [math.exp((logits[i] - logits[order[0]]) / sampling.temperature) for i in order]
    total, reached, chosen = sum(weights), 0.0, set()
    for i, weight in zip(order, weights, strict=True):
        if sampling.top_p < 1:
            assume(abs(reached - sampling.top_p) > 1e-5)
            if reached >= sampling.top_p:
                break
        chosen.add(i)
        reached += weight / total
    return chosen


@given(
    logits=logit_lists,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 35),
    top_p=st.floats(0.01, 1),
    min_p=st.just(0.0) | st.floats(0.001, 1),
)
def test_what_is_left_is_what_a_naive_filter_leaves(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = Sampling(temperature, top_k, top_p, min_p)
    assert kept(logits, sampling) == naive(logits, sampling)


def test_rows_are_filtered_each_for_itself() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    filtered = filtered_logits(logits, Sampling(1.0, 2, 1.0))
    assert filtered.isfinite().tolist() == [[True, True, False, False], [False, False, True, True]]
    assert choose(logits, Sampling(temperature=0), None).tolist() == [0, 3]


@given(logits=logit_lists, seed=st.integers(0, 2**63 - 1))
def test_greedy_is_temperature_zero_is_top_1_is_a_tiny_top_p(
    logits: list[float], seed: int
) -> None:
    row = torch.tensor([logits])
    best = max(range(len(logits)), key=lambda i: logits[i])
    for sampling in (
        Sampling(temperature=0),
        Sampling(temperature=1.7, top_k=1),
        Sampling(temperature=1.7, top_k=0, top_p=1e-9),
        Sampling(temperature=1e-40, top_k=0),
    ):
        generator = torch.Generator().manual_seed(seed)
        assert choose(row, sampling, generator).item() == best


def test_frequencies_follow_the_softmax_over_temperature() -> None:
    logits = [0.0, 1.0, 2.0]
    generator = torch.Generator().manual_seed(1)
    rows = torch.tensor([logits]).expand(20_000, -1)
    counts = Counter(choose(rows, Sampling(0.5, 0, 1.0), generator).tolist())
    weights = [math.exp(x / 0.5) for x in logits]
    for i, weight in enumerate(weights):
        assert counts[i] / 20_000 == pytest.approx(weight / sum(weights), abs=0.015)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_diverged_model_is_told_as_such(value: float, temperature: float) -> None:
    with pytest.raises(RunError, match="not finite"):
        choose(torch.tensor([[0.0, value]]), Sampling(temperature), None)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"temperature": -0.1}, "--temperature is -0.1"),
        ({"temperature": math.nan}, "--temperature is nan"),
        ({"temperature": math.inf}, "--temperature is inf"),
        ({"top_k": -1}, "--top-k is -1"),
        ({"top_p": 0.0}, "--top-p is 0.0"),
        ({"top_p": 1.1}, "--top-p is 1.1"),
        ({"top_p": math.nan}, "--top-p is nan"),
        ({"min_p": -0.1}, "--min-p is -0.1"),
        ({"min_p": math.nan}, "--min-p is nan"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Sampling(**values)  # type: ignore[arg-type]
