"""Text ends at a stop string however it is cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.generate.stopping import until

SHORT = st.text("ab\n", max_size=12)


@given(st.lists(SHORT, max_size=6), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=2))
def test_it_is_the_text_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    assert "".join(until(pieces, stops)) == text[: min(places, default=len(text))]


def test_what_is_certain_comes_at_once_and_nothing_is_asked_after_the_end() -> None:
    asked: list[str] = []

    def pieces():  # type: ignore[no-untyped-def]
        for piece in ("one\nUs", "ed to\nUser", ": two", "three"):
            asked.append(piece)
            yield piece

    found = until(pieces(), ["\nUser:"])
    assert next(found) == "one"
    assert list(found) == ["\nUsed to"]
    assert asked == ["one\nUs", "ed to\nUser", ": two"]
