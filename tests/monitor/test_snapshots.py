"""How it looks, kept as SVG. After a wanted change: pytest --snapshot-update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitor.data.views import RunDetail, RunView
from tests.monitor.support import still_app

Showcase = tuple[tuple[RunView, ...], RunDetail]
Compare = Callable[..., bool]


async def _settled(pilot: Any) -> None:
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=str)
def test_a_run(snap_compare: Compare, showcase: Showcase, size: tuple[int, int]) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    assert snap_compare(app, terminal_size=size, run_before=_settled)


def test_details(snap_compare: Compare, showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    assert snap_compare(app, terminal_size=(80, 24), press=["d"], run_before=_settled)


def test_a_failed_run(snap_compare: Compare, showcase: Showcase) -> None:
    runs, _ = showcase
    app = still_app(*runs)
    assert snap_compare(app, terminal_size=(80, 24), press=["j", "j", "j", "d"])


def test_help(snap_compare: Compare, showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    assert snap_compare(app, terminal_size=(80, 24), press=["question_mark"])


def test_stopping_asks(snap_compare: Compare, showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    assert snap_compare(app, terminal_size=(80, 24), press=["s"])


def test_no_colour(
    snap_compare: Compare, showcase: Showcase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    assert snap_compare(app, terminal_size=(80, 24), press=["R"])


def test_an_empty_folder(snap_compare: Compare) -> None:
    assert snap_compare(still_app(), terminal_size=(80, 24), run_before=_settled)
