"""The data of steps that was made ready is the data of their places, however it was made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.batches import SampleSource, to_tensors
from trainer.data.synthetic import SyntheticBatches
from trainer.loop.feed import MOST_STEPS, Feed, Place, StepData, make

if TYPE_CHECKING:
    from trainer.data.batches import Batch

CPU = torch.device("cpu")
SOURCE = SyntheticBatches(11, 4, 40, seed=3)


class Uneven:
    """A source whose batches depend on what is beside: the rows are as wide as their samples are
    many."""

    row_by_row = False
    seq_len, vocab_size, num_windows = 4, 11, 40

    def batch(self, first_sample: int, count: int) -> Batch:
        inputs, targets = SOURCE.batch(first_sample, count)
        return inputs[:, :count], targets[:, :count]

    def counted(self, first_sample: int, count: int) -> float:
        return first_sample + count / 2


class Failing:
    """A source that fails at a sample, until it is mended."""

    row_by_row = True
    seq_len, vocab_size, num_windows = 1 << 16, 11, 40

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error
        self.asked: list[int] = []

    def batch(self, first_sample: int, count: int) -> Batch:
        self.asked.append(first_sample)
        if first_sample <= self.at < first_sample + count:
            raise self.error
        return SOURCE.batch(first_sample, count)

    def counted(self, first_sample: int, count: int) -> float:
        return count


def check(data: StepData, source: SampleSource, place: Place) -> None:
    """Bit by bit what the source says of the place."""
    assert data.place == place
    assert data.expected == source.counted(place.first, place.sequences)
    first = place.first + place.offset
    for part, batch, counted in zip(place.parts, data.batches, data.counted, strict=True):
        wanted = to_tensors(source.batch(first, part), "cpu")
        assert len(batch) == len(wanted)
        assert all(torch.equal(one, other) for one, other in zip(batch, wanted, strict=True))
        assert counted == source.counted(first, part)
        first += part


@st.composite
def places(draw: st.DrawFn) -> list[Place]:
    """Steps one after the other, of which some come again or differ from those before."""
    first, found = draw(st.integers(0, 100)), []
    for _ in range(draw(st.integers(1, 6))):
        parts = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        place = Place(first, before + sum(parts) + after, parts, before)
        for _ in range(draw(st.integers(1, 4))):
            found += [place] * draw(st.integers(1, 2))
            place = place.following()
        first = draw(st.one_of(st.just(place.first), st.integers(0, 200)))
    return found


@given(places=places(), ahead=st.integers(0, 2), even=st.booleans())
def test_a_step_gets_what_belongs_to_its_place(places: list[Place], ahead: int, even: bool) -> None:
    source: Any = SOURCE if even else Uneven()
    feed = Feed(source, CPU, ahead)
    try:
        for place in places:
            check(feed.step(place), source, place)
    finally:
        feed.close()
    assert not feeds()


def test_small_steps_are_made_many_at_a_time() -> None:
    place = Place(0, 4, (4,))
    assert len(make(SOURCE, place)) == MOST_STEPS
    assert len(make(Uneven(), place)) == 1  # type: ignore[arg-type]
    assert len(make(Failing(-1, ValueError()), place)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), MemoryError("no room")])
def test_an_error_in_the_thread_is_the_loops_own(error: Exception) -> None:
    """It is raised by the step that needs the data, and not before; the step may be tried again."""
    source: Any = Failing(2, error)
    feed = Feed(source, CPU, 2)
    place = Place(0, 1, (1,))
    for _ in range(2):
        feed.step(place)
        place = place.following()
    with pytest.raises(type(error), match=str(error)):
        feed.step(place)
    assert not feeds()
    source.at = -1
    check(feed.step(place), source, place)
    feed.close()
    assert not feeds()


def test_the_thread_is_only_so_far_ahead() -> None:
    source: Any = Failing(-1, ValueError())
    feed = Feed(source, CPU, 2)
    place = Place(0, 1, (1,))
    for done in range(1, 6):
        feed.step(place)
        place = place.following()
        assert len(source.asked) <= done + 3  # two wait, and one may be in the making
    feed.close()
    assert source.asked == list(range(len(source.asked)))


def test_closing_ends_a_thread_in_the_middle_of_its_work() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Failing):
        def batch(self, first_sample: int, count: int) -> Batch:
            if first_sample:
                begun.set()
                assert go_on.wait(60)
            return super().batch(first_sample, count)

    source: Any = Slow(-1, ValueError())
    feed = Feed(source, CPU, 1)
    feed.step(Place(0, 1, (1,)))
    assert begun.wait(60)
    closing = threading.Thread(target=feed.close)
    closing.start()
    go_on.set()
    closing.join(60)
    assert not closing.is_alive()
    assert not feeds()


def test_a_place_is_followed_by_the_next() -> None:
    place = Place(8, 12, (3, 3), 6)
    assert place.following() == place._replace(first=20)


def feeds() -> list[threading.Thread]:
    """Threads of feeds that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "feed"]


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    yield
    assert not feeds()
