"""Looking at charts in another way: every change keeps what it should."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from monitor.chart_state import WEIGHTS, ChartState, Limits

limits_of_steps = st.tuples(st.integers(0, 10**9), st.integers(8, 10**7)).map(
    lambda p: (float(p[0]), float(p[0] + p[1]))
)
factors = st.floats(0.05, 20.0)
shares = st.floats(-3.0, 3.0)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("zoom"), factors, st.floats(0, 1)),
        st.tuples(st.just("pan"), shares, st.just(0.0)),
        st.tuples(st.just("log"), st.just(0.0), st.just(0.0)),
    ),
    max_size=12,
)


def moved(state: ChartState, limits: Limits, steps: list[tuple[str, float, float]]) -> ChartState:
    for what, amount, place in steps:
        if what == "zoom":
            at = limits[0] + place * (limits[1] - limits[0])
            state = state.zoomed(amount, at, limits)
        elif what == "pan":
            state = state.panned(amount, limits)
        else:
            state = state.toggled_log_x()
    return state


@given(limits_of_steps, moves)
def test_the_window_never_leaves_what_there_is(limits: Limits, steps: list) -> None:
    state = moved(ChartState(), limits, steps)
    window = state.window(limits)
    assert limits[0] <= window.first <= window.last <= limits[1]
    assert window.last - window.first >= min(7.0, limits[1] - limits[0])
    assert window.first == int(window.first)
    assert state.is_following == (window.last == limits[1])
    assert state.is_zoomed == ((window.first, window.last) != limits)


@given(limits_of_steps, st.floats(0.1, 0.9), st.floats(0, 1))
def test_what_is_zoomed_at_keeps_its_place(limits: Limits, factor: float, share: float) -> None:
    size = limits[1] - limits[0]
    assume(size * factor > 1000)
    at = limits[0] + share * size * 0.999
    window = ChartState().zoomed(factor, at, limits).window(limits)
    now = (at - window.first) / (window.last - window.first)
    assert now == pytest.approx(share * 0.999, abs=2 / (window.last - window.first))
    assert window.last - window.first == pytest.approx(size * factor, abs=1)


@given(st.floats(0.2, 0.9), st.floats(0.05, 0.95))
def test_on_a_logarithmic_axis_the_same_part_of_the_screen_keeps_its_place(
    factor: float, share: float
) -> None:
    limits = (0.0, 1e9)
    state = ChartState(log_x=True, axis="tokens")
    at = 10.0 ** (9 * share)
    window = state.zoomed(factor, at, limits).window(limits)
    columns = 1000
    column = int(window.columns_of([at], columns)[0])
    assert column == pytest.approx(share * columns, abs=2)


def test_zooming_out_again_shows_everything() -> None:
    limits = (0.0, 1000.0)
    near = ChartState().zoomed(0.5, 300, limits)
    assert near.is_zoomed
    assert near.zoomed(2, 300, limits) == ChartState()
    assert near.reset() == ChartState()


def test_a_window_at_the_end_follows_and_another_stays() -> None:
    limits, later = (0.0, 1000.0), (0.0, 1500.0)
    tail = ChartState().zoomed(0.2, 1000, limits)
    assert (tail.window(later).first, tail.window(later).last) == (1300, 1500)
    middle = ChartState().zoomed(0.2, 500, limits)
    assert middle.window(later) == middle.window(limits)
    back = middle.panned(5, limits)
    assert back.is_following
    assert back.window(later).last == 1500


def test_a_run_that_is_shorter_is_still_shown() -> None:
    state = ChartState(span=100, end=900)
    window = state.window((0.0, 50.0))
    assert (window.first, window.last) == (0, 50)
    window = state.window((0.0, 500.0))
    assert (window.first, window.last) == (400, 500)


def test_panning_moves_by_shares_and_stops_at_the_ends() -> None:
    limits = (0.0, 1000.0)
    state = ChartState(span=100, end=500)
    assert state.panned(0.25, limits).window(limits).first == 425
    assert state.panned(-50, limits).window(limits).first == 0
    assert ChartState().panned(0.5, limits) == ChartState()


# -- scales --------------------------------------------------------------------------------


def test_another_axis_forgets_what_cannot_be_converted() -> None:
    state = ChartState(crosshair=5.0, span=10).on_axis("time")
    assert (state.axis, state.crosshair, state.span) == ("time", None, None)
    assert state.on_axis("time") == state
    over = state.on_axis("metric", "kl")
    assert (over.axis, over.x_metric) == ("metric", "kl")
    assert over.on_axis("step").on_axis("metric") == over, "the metric is remembered"
    assert over.on_axis("metric", "reward").x_metric == "reward"


def test_another_axis_shows_the_same_part() -> None:
    limits = (0.0, 1000.0)
    state = ChartState(crosshair=450.0, span=100, end=500)

    def doubled(x: list[float], old: str, new: str) -> list[float]:
        assert (old, new) == ("step", "time")
        return [2 * one for one in x]

    now = state.on_axis("time", "", doubled, state.window(limits))
    assert (now.crosshair, now.span, now.end) == (900, 200, 1000)
    following = dataclasses.replace(state, end=None)
    now = following.on_axis("time", "", doubled, following.window(limits))
    assert (now.span, now.end) == (200, None)


def test_weights_go_up_and_down_and_stop() -> None:
    state, seen = ChartState(), [0.0]
    for _ in WEIGHTS:
        state = state.smoother()
        seen.append(state.weight)
    assert seen == [*WEIGHTS, WEIGHTS[-1]]
    for _ in range(len(WEIGHTS) + 1):
        state = state.rougher()
    assert state == ChartState()
    assert dataclasses.replace(state, weight=0.7).smoother().weight == 0.8


def test_value_scales_belong_to_one_chart() -> None:
    state = ChartState().toggled_log_y("loss")
    assert state.log_y == {"loss"}
    assert state.toggled_log_y("loss") == ChartState()


# -- the crosshair -------------------------------------------------------------------------


@given(
    limits_of_steps,
    st.floats(0, 1),
    st.floats(1e-7, 1),
    st.sampled_from([-10, -1, 1, 10]),
    st.integers(10, 400),
)
def test_the_crosshair_moves_on_and_stays_in_sight(
    limits: Limits, share: float, part: float, columns: int, width: int
) -> None:
    size = limits[1] - limits[0]
    state = ChartState().zoomed(part, limits[0] + share * size, limits)
    state = state.pointed_on(1, limits, width)
    assert state.crosshair == state.window(limits).last
    state = state.pointed(state.window(limits).first + share * (size * part))
    before = state.crosshair
    assert before is not None
    assume(state.window(limits).first <= before <= state.window(limits).last)
    now = state.pointed_on(columns, limits, width)
    assert now.crosshair is not None
    at_end = before == (limits[1] if columns > 0 else limits[0])
    assert (now.crosshair - before) * columns > 0 or at_end
    assert now.crosshair == int(now.crosshair)
    window = now.window(limits)
    assert window.first - 1 <= now.crosshair <= window.last + 1
    assert limits[0] <= now.crosshair <= limits[1]


def test_there_and_back_is_where_it_was() -> None:
    limits = (0.0, 9_999.0)
    state = ChartState().pointed(5000)
    for _ in range(7):
        state = state.pointed_on(1, limits, 100)
    for _ in range(7):
        state = state.pointed_on(-1, limits, 100)
    assert state.crosshair == 5000
