"""A run of another tool on the screen: it is drawn, and nothing acts on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.app import MonitorApp
from monitor.data.poller import Poller, read_once
from monitor.report import report
from shared.foreign import walking
from tests.monitor.support import screen_text, until


async def test_it_is_drawn_and_no_key_acts_on_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"iteration": {s}, "loss": {9 / s}}}\n' for s in range(1, 30)))
    before = path.read_bytes()
    app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.detail is not None and len(app.detail.loss) == 29)
        await until(pilot, lambda: "mine.jsonl" in screen_text(app))
        for key in "pscRPutnNaDe":
            await pilot.press(key)
            await until(pilot, lambda: "another program's (JSON Lines)" in app.notice)
            app.tell("", "primary")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mine.jsonl"]


async def test_the_monitor_warns_of_folders_that_were_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MOST_FOLDERS", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
    (tmp_path / "mine.jsonl").write_text('{"iteration": 1, "loss": 2}\n' * 3)
    told = report(read_once(tmp_path))["notice"]
    assert told.startswith("Only 2 folders in ") and told.endswith("watch a folder inside it.")
    app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "Only 2 folders in" in app.notice)
        assert [run.run_id for run in app.snapshot.runs] == ["mine.jsonl"]  # type: ignore[union-attr]
