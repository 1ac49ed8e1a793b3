"""Names, logs and messages that try to be commands stay text."""

from __future__ import annotations

import json
import time
import unicodedata
from pathlib import Path

import pytest

from monitor.app import MonitorApp
from monitor.data.poller import Poller, read_once
from monitor.report import report
from shared.files import AppendLog
from shared.json_text import encode_line
from shared.run.directory import RunDirectory
from tests.monitor.support import metric_lines, screen_text, until, write_run

CORPUS = [
    "[/]",
    "run-[lr=3e-4]",
    "[@click=app.quit]click me[/]",
    "[bold red]x[/nope]",
    "\x1b]52;c;aGFja2Vk\x07",
    "\x1b]0;owned\x07\x1b[2J\x1b[31m",
    "\x9b31m\x90payload\x9c",
    "abc\u202edcba\u2066\u200b\ufeff",
    "界隈の名前👩‍👩‍👧‍👦é́́́",
    "a\r\nb\tc\x00d\x7f",
    "x" * 10_000,
    "\ud800 lone",
    "",
]


def hostile_run(runs_dir: Path, index: int, text: str) -> Path:
    state = {
        "run_name": text,
        "status": text or "failed",
        "current_phase": text,
        "current_step": 3,
        "max_steps": 9,
        "host": text,
        "device": text,
        "git_commit": text,
        "best_metric": text,
        "started_at": time.time() - index,
        "model": {text: text, "name": text, "parameters": text},
        "phase_transitions": [{"step": 1, "from": text, "to": text, "time": 0}],
        "exit": {"code": 1, "reason": text, "last_log_lines": [text, text]},
        "latest_checkpoint": text,
        "group": text,
        "group_limit": text,
        "swept": {text: text, "list": [text, {text: index}], "rate": index},
        "val_loss": text,
    }
    lines = (
        metric_lines(4) + encode_line({"step": 9, "loss": 1.0, "phase": "p", "odd": 2.0}) + b"\n"
    )
    lines += json.dumps({"step": 10, text: 1.5, "phase": text}).encode() + b"\n"
    folder = write_run(runs_dir, f"run{index}", state, lines)
    events = [
        {"event": kind, "time": 1.0, "step": 2, "message": text, "name": text, "phase": text,
         "previous": text, "reason": text, "status": text, "text": text, "action": text,
         "url": text, "prompt": text, "loss": text, "zscore": text}
        for kind in ("started", "status", "phase", "checkpoint_saved", "answer", "warning",
                     "uploaded", "sample", "spike", text)
    ]  # fmt: skip
    raw = "".join(json.dumps(e) + "\n" for e in events)
    (folder / "events.jsonl").write_text(raw)
    encoded = text.encode("utf-8", "surrogatepass")
    (folder / "train.log").write_bytes(encoded + b"\n\xff\xfe junk\n")
    (folder / "config.yaml").write_bytes(b"model: " + encoded + b"\n")
    (folder / "checkpoints" / f"step_{index}").mkdir()
    labels = {"name": text, "tags": [text, "x"], "note": text + "\n" + text}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def offenders(text: str) -> set[str]:
    """Control, format and surrogate characters; none may reach the terminal."""
    kinds = ("Cc", "Cs")
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        c
        for c in text
        if c != "\n" and (unicodedata.category(c) in kinds or unicodedata.bidirectional(c) in bidi)
    }


#: Keys that open a dialog.
DIALOGS = "PuetnNDUs"


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
async def test_no_field_of_a_run_can_harm(tmp_path: Path, text: str) -> None:
    folder = hostile_run(tmp_path, 1, text)
    (tmp_path / "run2\x1b]0;owned\x07[@click=app.quit]x[|]").mkdir()
    (tmp_path / "run2\x1b]0;owned\x07[@click=app.quit]x[|]" / "metrics.jsonl").write_bytes(b"")
    app = MonitorApp(Poller(tmp_path, 0.05), tmp_path)
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.selected is not None and app.detail is not None)
        for keys in ("", "d", "R", "2", "enter", "3", "4", "5", "6", "7", "8", "O"):
            if keys:
                await pilot.press(keys)
            assert not offenders(screen_text(app)), keys
        await pilot.press("1")
        app.tell(text or "x", "error")
        await pilot.pause()
        assert not offenders(screen_text(app))
        for y in range(1, 10):  # the names, the reason, the heading of the chart
            await pilot.click(offset=(20, y))
        assert app.is_running
        assert app.return_code is None
    told = report(read_once(tmp_path, RunDirectory(folder)))
    shown = json.dumps(told, ensure_ascii=False)
    assert not offenders(shown)


@pytest.mark.parametrize("text", [CORPUS[2] + CORPUS[4], CORPUS[1] + CORPUS[7]], ids=range(2))
async def test_no_dialog_can_be_harmed(tmp_path: Path, text: str) -> None:
    hostile_run(tmp_path, 1, text)
    folder = tmp_path / ("run2" + text.replace("/", "|"))
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(metric_lines(3))
    app = MonitorApp(Poller(tmp_path, 0.05), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.selected is not None and app.detail is not None)
        for way in ("k", "j"):
            await pilot.press(way)
            for opens in DIALOGS:
                await pilot.press(opens)
                await until(pilot, lambda: "Looking…" not in screen_text(app))
                assert not offenders(screen_text(app)), opens
                while len(app.screen_stack) > 1:
                    await pilot.press("escape")
        for keys in ("space j space k 2", "C", "escape", "y", "ctrl+p r u n", "escape",
                     "slash r u n enter", "escape", "question_mark", "escape", "m"):  # fmt: skip
            await pilot.press(*keys.split())
            assert not offenders(screen_text(app)), keys
        assert app.is_running
        assert app.return_code is None


async def test_a_crowd_of_hostile_runs(tmp_path: Path) -> None:
    for index, text in enumerate(CORPUS):
        hostile_run(tmp_path, index, text)
    app = MonitorApp(Poller(tmp_path, 0.05), tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.selected is not None)
        for _ in CORPUS:
            await until(pilot, lambda: app.detail is not None)  # fmt: skip
            assert not offenders(screen_text(app))
            await pilot.press("j")


async def test_a_log_that_grows_hostile_is_read_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "failed"}, metric_lines(3))
    app = MonitorApp(Poller(tmp_path, 0.05), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss 2.667" in screen_text(app))
        log = AppendLog(folder / "metrics.jsonl")
        for text in CORPUS:
            log.append(text.replace("\n", " ").encode("utf-8", "surrogatepass"))
        log.append(b'{"step": 3, "loss": 7.5}')
        log.close()
        await until(pilot, lambda: "loss 7.500" in screen_text(app))
