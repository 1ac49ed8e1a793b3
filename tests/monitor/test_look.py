"""What is looked at: it survives runs that come and go, and is remembered."""

from __future__ import annotations

import dataclasses

from monitor.chart_state import ChartState
from monitor.list_order import ListOrder
from monitor.look import Look
from monitor.settings import Settings
from tests.monitor.support import view

A, B, C = (view(name) for name in "abc")


def test_the_first_of_the_list_is_selected_at_first() -> None:
    assert Look().settled((), (B, A)).selected == "b"
    by_name = Look(order=ListOrder("name"))
    assert by_name.settled((), (B, A)).selected == "a"
    assert Look().settled((), ()).selected is None


def test_runs_that_are_gone_are_neither_marked_nor_selected() -> None:
    look = Look(selected="b", marked=("c", "b"), compared=("c", "b"))
    assert look.settled((A, B, C), (C, B, A)) == look
    after = look.settled((A, B, C), (A, C))
    assert (after.selected, after.marked, after.compared) == ("c", ("c",), None)


def test_what_is_marked_or_compared_is_followed() -> None:
    assert Look(marked=("a", "b")).followed == {"a", "b"}
    assert Look(marked=("a",), compared=("a", "c")).followed == {"a", "c"}


def test_selecting_another_run_ends_a_comparison() -> None:
    look = Look(selected="a", compared=("a", "b"))
    assert look.at_run("a") is look
    assert look.at_run("c") == Look(selected="c")


def test_choices_are_kept_and_come_back() -> None:
    kept = Settings(theme="day", sort="loss", group=True, show_archived=True, smoothing=0.9)
    kept = dataclasses.replace(kept, x_axis="time", log_y=("loss",), machine=True, details=False)
    look = Look.remembered(kept, "a")
    assert look.selected == "a"
    assert look.order == ListOrder("loss", "", True, True)
    assert look.chart == ChartState(axis="time", weight=0.9, log_y=frozenset({"loss"}))
    assert look.kept_in(kept) == kept
    assert look.kept_in(Settings()) == dataclasses.replace(kept, theme="night")
    assert look.ordered(query="x").kept_in(kept) == kept, "a filter is not remembered"


def test_what_matches_at_last_is_selected_and_not_a_run_out_of_sight() -> None:
    look = Look(selected="a").ordered(query="zz")
    before, after = (view("a"), view("b")), (view("a"), view("b"), view("zz1"))
    assert look.settled(before, before).selected == "a"
    assert look.settled(before, after).selected == "zz1"
    assert look.ordered(query="b").settled(before, after).selected == "a", "it was put there"
