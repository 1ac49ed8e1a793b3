"""`--json --follow`: every change once, one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.__main__ import main
from monitor.data.poller import Poller
from monitor.following import Changes, follow
from shared.foreign import walking
from shared.json_text import Json
from tests.monitor.support import metric_lines, write_run


def test_every_run_point_and_event_is_told_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {}, metric_lines(3))
    (folder / "events.jsonl").write_text('{"event": "warning", "message": "careful"}\n')
    write_run(tmp_path, "other", {}, metric_lines(3))
    told: list[Json] = []
    grown = False

    def is_over() -> bool:
        nonlocal grown
        points = [line for line in told if line["type"] == "point"]
        if len(points) == 3 and not grown:
            grown = True
            with (folder / "metrics.jsonl").open("ab") as file:
                file.write(metric_lines(2, start=3))
        return len(points) >= 5

    follow(Poller(tmp_path, 0.05), told.append, only="r", is_over=is_over)
    assert told[0]["type"] == "start"
    points = [line for line in told if line["type"] == "point"]
    assert [point["step"] for point in points] == [0, 1, 2, 3, 4]
    assert "loss" in points[0]["metrics"]
    assert {line["run"]["run_id"] for line in told if line["type"] == "run"} == {"r"}
    assert [line["text"] for line in told if line["type"] == "event"] == ["careful"]


def test_nothing_new_is_nothing_told_and_a_run_that_goes_is_gone(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {}, metric_lines(3))
    changes = Changes()
    first = Poller(tmp_path).look(lambda _: "r")
    assert [line["type"] for line in changes.of(first)] == ["start", "run"]
    assert list(changes.of(first)) == []
    folder.rename(tmp_path / ".r")
    gone = list(changes.of(Poller(tmp_path).look(lambda _: None)))
    assert [(line["type"], line["run_id"]) for line in gone] == [("gone", "r")]


def test_what_was_not_searched_is_told_and_when_all_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MOST_FOLDERS", 2)
    for name in "abc":
        (tmp_path / name).mkdir()
    changes = Changes()
    first = list(changes.of(Poller(tmp_path).look(lambda _: None)))
    assert [line["type"] for line in first] == ["start", "notice"]
    assert first[1]["notice"].startswith("Only 2 folders in ")
    monkeypatch.setattr(walking, "MOST_FOLDERS", 9)
    [line] = changes.of(Poller(tmp_path).look(lambda _: None))
    assert (line["type"], line["notice"]) == ("notice", "")


def test_it_is_for_json_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs-dir", str(tmp_path), "--follow"]) == 2
    assert "use it with --json" in capsys.readouterr().err
