"""Names in legends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.plots.names import distinct
from monitor.widgets.cells import fit_middle


@given(st.lists(st.text("abc-", max_size=80), max_size=8, unique=True), st.integers(12, 48))
def test_no_two_are_alike_and_none_is_long(names: list[str], limit: int) -> None:
    found = distinct(names, limit)
    assert len(set(found)) == len(names)
    assert all(len(name) <= limit for name in found)


def test_names_that_differ_at_their_end() -> None:
    common = "llama-25m-tokenizer-32k-cosine-warmup-2000-batch-64-"
    assert [name[-6:] for name in distinct([f"{common}seed-1", f"{common}seed-2"], 40)] == [
        "seed-1",
        "seed-2",
    ]
    short = fit_middle(f"{common}seed-2", 20)
    assert short.startswith("llama-25m-")
    assert short.endswith("-seed-2")
