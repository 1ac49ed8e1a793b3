"""Disks behind a network: no hints that files changed, and answers that fail for a while."""

from __future__ import annotations

import dataclasses
import queue
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers import Observer

from monitor.data.follower import RunFollower
from monitor.data.hints import Hints
from monitor.data.poller import DEFAULT_POLL, Poller
from monitor.data.scanner import RunScanner
from monitor.data.views import RunDetail, RunView, Snapshot
from shared.checkpoints.catalogue import LATEST, set_link
from shared.files import replace_file
from shared.json_text import encode_line
from shared.run.metrics_rows import Series
from shared.run_writer import RunWriter
from tests import waiting
from tests.faults.counts import times
from tests.faults.shaky import ShakyServer


class Watched:
    """What the real poller thread publishes of one run."""

    def __init__(
        self, writer: RunWriter, monkeypatch: pytest.MonkeyPatch, observer: type = Observer
    ) -> None:
        self._taken: queue.Queue[Snapshot] = queue.Queue()
        self.died: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", self.died.append)
        hints = partial(Hints, make_observer=observer)
        self.poller = Poller(writer.run.path.parent, DEFAULT_POLL, hints=hints)
        self.poller.select(writer.run.run_id)
        self.poller.start(self._taken.put)

    def until(self, wanted: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot for which `wanted` holds."""
        while not wanted(found := self._taken.get(timeout=waiting.SECONDS)):
            pass
        return found


def steps(snapshot: Snapshot) -> list[int]:
    return snapshot.detail.loss.steps.tolist() if snapshot.detail else []


class DeafObserver:
    """Takes every order to listen, and hears nothing, as on a network filesystem."""

    daemon = False

    def schedule(self, *_: object, **__: object) -> object:
        return object()

    def unschedule(self, _watch: object) -> None:
        """Nothing was heard anyway."""

    def start(self) -> None:
        """Listen in vain."""

    def stop(self) -> None:
        """Stop doing so."""


class RefusedObserver(DeafObserver):
    """The system has no watches left."""

    def schedule(self, *_: object, **__: object) -> object:
        raise OSError(28, "inotify watch limit reached")


class BrokenObserver(DeafObserver):
    """It cannot even start its thread."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("observer", [DeafObserver, RefusedObserver, BrokenObserver])
def test_polling_alone_shows_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observer: type
) -> None:
    rng = random.Random(1)
    with RunWriter(tmp_path, name="far", max_steps=99) as writer:
        writer.log(1, loss=1.0)
        watched = Watched(writer, monkeypatch, observer)
        try:
            watched.until(lambda s: steps(s) == [1])
            for step in range(2, 2 + times(2, 30)):
                time.sleep(rng.uniform(0.0, DEFAULT_POLL))  # anywhere between two looks
                writer.log(step, loss=1.0)
                watched.until(lambda s, step=step: step in steps(s))  # type: ignore[misc]
        finally:
            watched.poller.stop()


def comparable(value: Any) -> Any:
    """A view or detail as plain values; the version only counts changes."""
    if isinstance(value, RunDetail):
        plain = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        del plain["version"], plain["pyramids"]  # the pyramids are those of the series
        return {name: comparable(part) for name, part in plain.items()}
    if isinstance(value, dict):
        return {key: comparable(part) for key, part in value.items()}
    if isinstance(value, Series):
        return value.key, value.steps.tolist(), value.values.tolist()
    if isinstance(value, RunView):  # what follows the clock apart
        return dataclasses.replace(value, eta_seconds=None, updated_at=None, tokens_per_second=None)
    return value


class Eye:
    """A scanner and a follower, and all they see at one look."""

    def __init__(self, writer: RunWriter) -> None:
        self._runs_dir = writer.run.path.parent
        self._scanner = RunScanner(self._runs_dir, time.time)
        self._follower = RunFollower(writer.run)

    def look(self) -> tuple[Any, Any]:
        """What is seen; no runs when their directory itself cannot be read."""
        try:
            views = [comparable(v) for v in self._scanner.scan()]
        except OSError:
            views = []
        while True:
            self._follower.poll()
            if not self._follower.more:
                break
        return views, comparable(self._follower.detail())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_errors_all_is_as_if_there_had_been_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call may fail, again and again; then who watched all along sees what a newcomer sees.

    So nothing is counted twice, nothing is missing, and nothing stale stays.
    """
    server = ShakyServer(tmp_path, 2, threads=("MainThread",))
    server.install(monkeypatch)
    rng = random.Random(3)
    with RunWriter(tmp_path / "runs", name="shaky", max_steps=10**6) as writer:
        old, step = Eye(writer), 0
        for number in range(times(400, 20_000)):
            server.likely = 0.0
            for _ in range(rng.randrange(4)):
                step += 1
                writer.log(step, loss=float(step))
            _happen(rng, writer, number)
            server.likely = rng.choice((0.05, 0.3, 0.7, 1.0))
            for _ in range(rng.randrange(1, 4)):
                old.look()
            server.likely = 0.0
            writer.update(durable=True)  # the pulse would do so twice a second
            seen, fresh = old.look(), Eye(writer).look()
            assert seen == fresh, f"round {number}"
            assert seen[1]["bad_lines"] == 0
            assert [v.status for v in seen[0]] == ["running"]
    print(f"{server.raised} errors")
    assert server.raised > 1000


def _happen(rng: random.Random, writer: RunWriter, number: int) -> None:
    """Something, while nobody can look."""
    run = writer.run
    match rng.randrange(6):
        case 0:
            writer.event("warning", message=f"round {number}")
        case 1:
            writer.say(f"round {number}")
        case 2:
            run.config_path.write_text(f"name: round-{number}\n")
        case 3:
            folder = run.checkpoints / f"step_{number % 20}"
            folder.mkdir(exist_ok=True)
            about = {"step": number % 20, "created_at": number, "files": {}}
            replace_file(folder / "manifest.json", encode_line(about))
            set_link(run.checkpoints, LATEST, folder)
        case 4:  # a log that was cut by hand
            path = rng.choice((run.metrics_path, run.events_path))
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(lines[len(lines) // 2 :]))
        case _:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("likely", [0.3, 1.0])
def test_the_monitors_thread_waits_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, likely: float
) -> None:
    """The real poller goes on through errors, and shows the run and its new steps after them."""
    server = ShakyServer(tmp_path, 4, threads=("poller",))
    server.install(monkeypatch)
    with RunWriter(tmp_path / "runs", name="far", max_steps=99) as writer:
        writer.log(1, loss=1.0)
        watched = Watched(writer, monkeypatch)
        try:
            watched.until(lambda s: steps(s) == [1])
            for outage in range(times(2, 20)):
                server.likely, before = likely, server.raised
                writer.log(2 * outage + 2, loss=1.0)

                def has_failed(before: int = before) -> bool:
                    watched.poller.refresh()
                    return server.raised >= before + 20

                waiting.until(has_failed)
                assert not watched.died, watched.died[0].exc_value
                server.likely = 0.0
                writer.log(2 * outage + 3, loss=1.0)
                wanted = list(range(1, 2 * outage + 4))

                def is_over(seen: Snapshot, wanted: list[int] = wanted) -> bool:
                    return steps(seen) == wanted and [r.status for r in seen.runs] == ["running"]

                seen = watched.until(is_over)
                assert seen.problem == ""
                assert seen.detail is not None
                assert seen.detail.bad_lines == 0
        finally:
            watched.poller.stop()
    assert not watched.died
