"""Filter, sort, group, and where j and k lead."""

from __future__ import annotations

import pytest

from monitor.data.views import RunView
from monitor.list_order import Group, ListOrder, arrange, neighbour, of_group
from monitor.settings import SORTS
from tests.monitor.support import NOW, view

RUNS = (
    view("b_2", name="b", loss=2.0, best_loss=1.0, started_at=NOW - 10, step=1, max_steps=10),
    view("a_10", name="a", loss=float("nan"), tags=("lr sweep",), started_at=NOW, step=5,
         max_steps=10),
    view("a_9", name="a", status="failed", loss=1.0, best_loss=0.5, host="box",
         started_at=NOW - 99),
    view("c_1", name="c", archived=True, loss=0.1, note_text="the good one"),
)  # fmt: skip


def ids(order: ListOrder, runs: tuple[RunView, ...] = RUNS) -> str:
    return " ".join(run.run_id for run in arrange(runs, order).runs)


def test_a_renamed_run_is_found_by_its_id() -> None:
    runs = (view("id_20260101", label="The one", name="base"), view("other"))
    for query in ("id_2026", "the one", "base", "/^the one/"):
        assert ids(ListOrder(query=query), runs) == "id_20260101"


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("activity", "b_2 a_10 a_9"),
        ("newest", "a_10 b_2 a_9"),
        ("name", "a_9 a_10 b_2"),
        ("progress", "a_10 b_2 a_9"),
        ("loss", "a_9 b_2 a_10"),
        ("best", "a_9 b_2 a_10"),
    ],
)
def test_every_order(sort: str, expected: str) -> None:
    assert ids(ListOrder(sort)) == expected


def test_o_goes_through_all_orders_and_begins_again() -> None:
    order, seen = ListOrder(), []
    for _ in SORTS:
        seen.append(order.sort)
        order = order.sorted_by_next()
    assert (tuple(seen), order) == (SORTS, ListOrder())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "b_2 a_10 a_9"),
        ("A_", "a_10 a_9"),
        ("a_", "a_10 a_9"),
        ("fail a_", "a_9"),
        ("#lr", "a_10"),
        ("box", "a_9"),
        ("/^a_\\d$/", ""),
        ("/a_\\d+/", "a_10 a_9"),
        ("/a_1", "a_10"),
        ("[", ""),
        ("good", ""),
    ],
)
def test_filters(query: str, expected: str) -> None:
    assert ids(ListOrder(query=query)) == expected


def test_archived_runs_are_counted_and_shown_when_asked_for() -> None:
    listing = arrange(RUNS, ListOrder())
    assert (listing.archived, listing.filtered, listing.total) == (1, 0, 4)
    assert ids(ListOrder(query="good", show_archived=True)) == "c_1"


def test_a_broken_expression_is_told_and_hides_nothing() -> None:
    listing = arrange(RUNS, ListOrder(query="/(/"))
    assert "is not a regular expression" in listing.problem
    assert len(listing.runs) == 3


def test_groups_have_a_heading_and_keep_the_order_within() -> None:
    listing = arrange(RUNS, ListOrder("loss", grouped=True))
    shown = [
        row.name + f" {row.count}" if isinstance(row, Group) else row.run_id for row in listing.rows
    ]
    assert shown == ["a 2", "a_9", "a_10", "b 1", "b_2"]
    assert [run.run_id for run in listing.runs] == ["a_9", "a_10", "b_2"]


def test_from_a_hidden_run_the_next_listed_one_is_found() -> None:
    listing = arrange(RUNS, ListOrder(query="a_9"))
    assert neighbour(listing, RUNS, "b_2", 1) == "a_9"
    assert neighbour(listing, RUNS, "c_1", -1) == "a_9"
    assert neighbour(listing, RUNS, "c_1", 1) == "a_9"
    assert neighbour(listing, RUNS, "a_9", 1) == "a_9"
    assert neighbour(arrange(RUNS, ListOrder(query="zzz")), RUNS, "b_2", 1) == ""
    assert neighbour(listing, RUNS, None, 1) == "a_9"


SWEEP = (
    view("s_1", name="lr=1", group="s", val_loss=3.0, loss=0.1),
    view("s_2", name="lr=2", group="s", val_loss=2.0, loss=0.9, is_best=True),
    view("s_3", name="lr=3", group="s", val_loss=1.5, loss=0.5),
    view("s_4", name="lr=4", group="s", loss=0.2, archived=True),
)


def test_runs_of_a_sweep_are_one_group() -> None:
    listing = arrange((*RUNS[:2], *SWEEP), ListOrder(grouped=True))
    headings = [(row.name, row.count) for row in listing.rows if isinstance(row, Group)]
    assert headings == [("b", 1), ("a", 1), ("s", 3)]
    assert ids(ListOrder(query="lr="), (*RUNS, *SWEEP)) == "s_1 s_2 s_3"


def test_the_runs_of_a_group_begin_with_the_best() -> None:
    everything = (*RUNS, *SWEEP)
    assert [run.run_id for run in of_group(everything, SWEEP[0])] == ["s_2", "s_3", "s_1"]
    assert [run.run_id for run in of_group(everything, RUNS[1])] == ["a_9", "a_10"], "of one name"
    assert of_group(everything, RUNS[0]) == [RUNS[0]]


def test_the_best_reward_is_the_highest_and_stands_after_the_losses() -> None:
    runs = (
        view("low", best_loss=0.2, best_metric="val_reward"),
        view("high", best_loss=0.9, best_metric="val_reward"),
        view("none", best_loss=None),
        view("worse", best_loss=3.0, best_metric="val_loss"),
        view("better", best_loss=2.0, best_metric="val_loss"),
    )
    assert ids(ListOrder(sort="best"), runs) == "better worse high low none"
