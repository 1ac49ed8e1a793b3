"""The list of runs: names have the room there is, headings answer the mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import monitor.app
from monitor.app import MonitorApp
from monitor.data.views import RunView
from monitor.settings import SORTS
from monitor.widgets.run_list import RunList
from tests.monitor.support import NOW, StillSource, screen_text, snapshot, still_app, until, view


def tagged(run_id: str = "done-run_20261125_225827", **fields: Any) -> RunView:
    return view(run_id, name="done-run", **{"tags": ("foo", "bar"), **fields})


async def listed(*runs: RunView, width: int) -> tuple[str, list[str]]:
    """The heading and the lines of the list in a terminal of this width."""
    app = still_app(*runs)
    async with app.run_test(size=(width, 50)) as pilot:
        await pilot.pause()
        size = app.query_one(RunList).size.width
        lines = [line[:size] for line in screen_text(app).split("\n")]
        return lines[1], lines[2 : 2 + len(runs)]


async def test_names_have_the_room_there_is() -> None:
    long = "hybrid-with-a-long-name_20261125_225827"
    heading, (first, second) = await listed(tagged(tags=()), view(long), width=200)
    assert "done-run_20261125_225827 " in first
    assert f"{long} " in second
    assert "curve" in heading
    heading, (line,) = await listed(tagged(tags=()), width=200)
    assert "done-run_20261125_225827 " in line
    assert "step" in heading, "a shorter name leaves room for more"
    heading, (first, _) = await listed(tagged(tags=()), view(long), width=80)
    assert "done-run_2026112" in first
    assert "step" in heading


async def test_tags_stand_behind_the_id_and_apart() -> None:
    _, (line,) = await listed(tagged(), width=110)
    assert "done-run_20261125_225827  #foo #bar " in line
    _, (line,) = await listed(tagged(), width=80)
    name = line[4:26]
    assert name.startswith("done-run")
    assert "…  #foo #bar" in name, "what is cut is cut before them"
    _, (line,) = await listed(tagged("done-run"), width=80)
    assert "done-run  #foo #bar" in line
    _, (line,) = await listed(tagged(tags=("x" * 90,)), width=80)
    assert "done-run…  #xxx" in line


class Sorting(MonitorApp):
    """Notes which headings were clicked."""

    CSS_PATH = Path(monitor.app.__file__).with_name("app.tcss")

    def __init__(self, *runs: RunView) -> None:
        super().__init__(StillSource(snapshot(*runs)), Path("runs"), clock=lambda: NOW)
        self.sorts: list[str] = []

    def on_run_list_sort_chosen(self, message: RunList.SortChosen) -> None:
        self.sorts.append(message.sort)


@pytest.mark.parametrize("width", [80, 200])
async def test_a_click_on_a_heading_asks_for_its_order(width: int) -> None:
    app = Sorting(tagged(loss=1.0, max_steps=9), view("b"))
    async with app.run_test(size=(width, 40)) as pilot:
        await pilot.pause()
        wanted = {"runs 2": "name", "%": "progress", "loss": "loss", "step": "progress"}
        for title, sort in {**wanted, "status": "activity"}.items():
            heading = screen_text(app).split("\n")[1]  # it names the order, so its columns move
            assert title in heading, heading
            await pilot.click("#runs", offset=(heading.index(title), 0))
            await until(pilot, lambda: bool(app.sorts))
            assert app.sorts.pop() == sort, heading
            await pilot.pause()
        assert set(wanted.values()) <= set(SORTS)
