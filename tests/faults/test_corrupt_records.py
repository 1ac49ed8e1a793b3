"""Run directories full of damage: the monitor and `trainer status` show what is left of them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import queue
import random
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from monitor.__main__ import main as show
from monitor.data.follower import RunFollower
from monitor.data.machine import HostView, Machine
from monitor.data.poller import Poller, read_once
from monitor.data.run_files import event_view
from monitor.data.scanner import RunScanner
from monitor.data.views import RunDetail, RunView, SampleView, Snapshot
from monitor.report import report
from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_rows import Series
from tests import waiting
from tests.conftest import RunCli
from tests.faults.corruption import REPLACEMENTS, VALUE, a_pipe, damage, request_record
from tests.faults.counts import times
from tests.trainer.loop.conftest import TINY, as_flags
from trainer.cli.main import main

REQUEST = "1790000000000000000-0123abcd"
FILES = (
    *("metrics.jsonl", "events.jsonl", "run_state.json", "config.yaml", "heartbeat", "lock"),
    *("train.log", f"control/{REQUEST}.json", "checkpoints/step_8/manifest.json"),
)
REPLACED = 0.05  # how often the file gives way to something that is none


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text_data: Path) -> RunDirectory:
    """A run of 12 steps as its trainer left it."""
    where = tmp_path_factory.mktemp("whole")
    arguments = ["train", "--name", "r", "--runs-dir", str(where), "--data-path", str(text_data)]
    assert main([*arguments, *as_flags(TINY)]) == 0
    (run,) = discover_runs(where)
    return run


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy to damage, with a request that nobody has answered."""
    folder = tmp_path / "runs" / whole.run_id
    shutil.copytree(whole.path, folder, symlinks=True)
    (folder / f"control/{REQUEST}.json").write_bytes(request_record(REQUEST))
    return RunDirectory(folder)


class Patient:
    """Puts damage in the place of a file, and the file back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()

    def write(self, data: bytes) -> None:
        """Another file of that name, as a reader sees one that was replaced."""
        fresh = self.path.with_name(".fresh")
        fresh.write_bytes(data)
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        fresh.replace(self.path)

    def replace(self, make: Callable[[Path], None]) -> None:
        self.path.unlink()
        make(self.path)

    def heal(self) -> None:
        self.write(self.data)


class PipeGuard:
    """Refuses to open a pipe in a way that would wait for a writer."""

    def __init__(self) -> None:
        self._pipe: Path | None = None
        self._refused = False
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._pipe is None or event != "open" or arguments[2] & (os.O_NONBLOCK | os.O_RDWR):
            return
        if isinstance(arguments[0], str | os.PathLike) and Path(arguments[0]) == self._pipe:
            self._refused = True
            raise OSError(errno.EDEADLK, "a reader would wait at this pipe", str(self._pipe))

    @contextlib.contextmanager
    def nobody_waits(self, path: Path) -> Iterator[None]:
        """Fails when somebody opens the pipe at `path` and would wait."""
        self._pipe, self._refused = path, False
        try:
            yield
        finally:
            self._pipe = None
        assert not self._refused, f"a reader waits at the pipe {path.name}"


PIPES = PipeGuard()


def strings(value: Any) -> Iterator[str]:
    """Every string in a snapshot or a report that may come to the screen."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, RunView):  # its id and path are keys, never shown
        shown = (f.name for f in dataclasses.fields(value) if f.name not in ("run_id", "path"))
        for name in shown:
            yield from strings(getattr(value, name))
    elif isinstance(value, Series):
        yield value.key
    elif isinstance(value, SampleView):  # several lines, each by itself
        yield from value.text.split("\n")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from strings(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)


def assert_harmless(value: Any) -> None:
    for text in strings(value):
        assert not any(c < " " or "\x7f" <= c <= "\x9f" for c in text), text[:200]
        text.encode()  # no lone surrogate, which a terminal cannot be sent


class Watcher:
    """What watches a run for long: the same scanner and follower, look after look."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._scanner = RunScanner(run.path.parent, time.time)
        self._follower = RunFollower(run)

    def look(self) -> Snapshot:
        runs = self._scanner.scan()
        while True:
            self._follower.poll()
            if not self._follower.more:
                break
        return Snapshot("runs", time.time(), runs, self._follower.detail())


def detail_of(snapshot: Snapshot) -> RunDetail:
    assert snapshot.detail is not None
    return snapshot.detail


def as_read(line: bytes) -> bytes:
    """A line without what an editor adds and a reader overlooks."""
    return line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\r")


def assert_intact_steps(was: bytes, now: bytes, detail: RunDetail) -> None:
    """Every line that is as it was is in the curve; every line that is none is counted.

    A file that the damage turned into another form, such as UTF-16, has no lines to compare.
    """
    if detail.read_as:
        return
    known = {line: orjson.loads(line) for line in was.splitlines()}
    lines = [line for line in now.split(b"\n")[:-1] if line.strip()]
    intact = [known[as_read(line)] for line in lines if as_read(line) in known]
    curve = dict(zip(detail.loss.steps.tolist(), detail.loss.values.tolist(), strict=True))
    if "loss" in detail.abandoned:  # shuffled lines look like a run that went back
        tail = detail.abandoned["loss"]
        curve |= dict(zip(tail.steps.tolist(), tail.values.tolist(), strict=True))
    for record in intact:
        assert record["step"] in curve
        if now.count(b'"step":%d,' % record["step"]) == 1:
            assert curve[record["step"]] == record["loss"]
    hopeless = sum(b'"step"' not in line for line in lines)
    # A CR may end a line too, and the last line may have no end.
    pieces = sum(bool(piece.strip()) for piece in re.split(rb"[\r\n]", now))
    assert hopeless <= detail.bad_lines <= pieces - len(intact)


def assert_intact_events(was: bytes, now: bytes, detail: RunDetail) -> None:
    known = {line: event_view(orjson.loads(line)) for line in was.splitlines()}
    for line in now.split(b"\n")[:-1]:
        if as_read(line) in known:
            assert known[as_read(line)] in detail.events


def assert_rest_is_shown(damaged: str, healthy: Snapshot, seen: Snapshot) -> None:
    """What the damaged file does not tell is as ever."""
    was, now = detail_of(healthy), detail_of(seen)
    (view,) = seen.runs
    if damaged != "run_state.json":
        assert (view.status, view.step, view.loss) == ("completed", 12, healthy.runs[0].loss)
    if damaged != "metrics.jsonl":
        assert np.array_equal(now.loss.values, was.loss.values)
        assert now.bad_lines == 0
    if damaged != "events.jsonl":
        assert now.events == was.events
    if damaged != "config.yaml":
        assert now.config_lines == was.config_lines
    if damaged != "train.log":
        assert now.log_lines == was.log_lines
    if not damaged.startswith("checkpoints"):
        assert now.checkpoints == was.checkpoints
    else:
        kept = [c for c in was.checkpoints if c.name != "step_8"]
        assert [c for c in now.checkpoints if c.name != "step_8"] == kept


def as_json(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `train-monitor --json` tells of a run."""
    capsys.readouterr()
    assert show(["--runs-dir", str(run.path.parent), "--run", str(run.path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "\x1b" not in out
    return orjson.loads(out)["runs"][0]


class Ward:
    """A run whose files fall ill one after another, always in the same way for the same seed."""

    def __init__(self, run: RunDirectory, seed: int) -> None:
        self.rng = random.Random(seed)
        self._patients = {name: Patient(run.path / name) for name in FILES}

    @contextlib.contextmanager
    def one_ill(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Damage one file: its name, what was in it, what is. It is healed on leaving."""
        name = self.rng.choice(FILES[:5] if self.rng.random() < 0.7 else FILES)
        patient = self._patients[name]
        if self.rng.random() < REPLACED:
            make = self.rng.choice(REPLACEMENTS)
            patient.replace(make)
            data, what = b"", [make.__name__]
        else:
            data, what = damage(self.rng, patient.data)
            patient.write(data)
        pipe = what == [a_pipe.__name__]
        try:
            with PIPES.nobody_waits(patient.path) if pipe else contextlib.nullcontext():
                yield name, patient.data, data
        except BaseException as error:
            error.add_note(f"{name} suffered {', '.join(what)}: {data[:2000]!r}")
            raise
        patient.heal()

    def all_ill(self) -> None:
        """Damage every file."""
        for patient in self._patients.values():
            patient.write(damage(self.rng, patient.data)[0])

    def heal(self) -> None:
        """Put every file back."""
        for patient in self._patients.values():
            patient.heal()


def assert_shown(snapshot: Snapshot, healthy: Snapshot, ill: tuple[str, bytes, bytes]) -> None:
    """Nothing harmful is in the snapshot, and whatever the damage has left."""
    name, was, now = ill
    detail = detail_of(snapshot)
    assert_harmless(snapshot)
    assert_harmless(report(snapshot))
    assert_rest_is_shown(name, healthy, snapshot)
    if name == "metrics.jsonl":
        assert_intact_steps(was, now, detail)
    if name == "events.jsonl":
        assert_intact_events(was, now, detail)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_damage_stops_the_monitor(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of mutations of every file: nothing raised, nothing harmful, the rest is read."""
    watcher, ward = Watcher(run), Ward(run, 3)
    healthy = watcher.look()
    bad_lines = 0
    machine = Machine(run.path.parent, host=HostView)  # nothing to measure, which takes a while
    for turn in range(times(150, 10_000)):
        with ward.one_ill() as ill:
            watched, fresh = watcher.look(), read_once(run.path.parent, run, machine)
            assert_shown(watched, healthy, ill)
            assert_shown(fresh, healthy, ill)
            told = orjson.loads(orjson.dumps(report(fresh)))["runs"][0]
            if turn % 10 == 0:
                assert as_json(run, capsys).keys() == told.keys()
            assert_harmless(told)
            assert told["bad_lines"] == detail_of(watched).bad_lines == detail_of(fresh).bad_lines
            bad_lines += told["bad_lines"]
        assert_rest_is_shown("", healthy, watcher.look())
    print(f"{bad_lines} bad lines counted")
    assert bad_lines


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_monitors_thread_outlives_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real poller on a directory in which all files are damaged, again and again."""
    deaths: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", deaths.append)
    taken: queue.Queue[Snapshot] = queue.Queue()
    ward = Ward(run, 4)
    poller = Poller(run.path.parent, 60.0)
    poller.select(run.run_id)
    poller.start(taken.put)

    def look() -> Snapshot:
        """What is shown of the files as they are now."""
        while not taken.empty():
            taken.get()
        for _ in range(2):  # the look in progress began before
            poller.refresh()
            found = taken.get(timeout=waiting.SECONDS)
        return found

    try:
        healthy = look()
        while healthy.detail is None or healthy.detail.loading is not None:
            healthy = look()
        for _ in range(times(40, 1000)):
            ward.all_ill()
            assert_harmless(look())
            assert not deaths, deaths[0].exc_value
            ward.heal()
            assert_rest_is_shown("", healthy, look())
    finally:
        poller.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["checkpoints", "list"]], ids=" ".join
)
def test_no_damage_stops_the_commands(
    run: RunDirectory, run_cli: RunCli, command: list[str]
) -> None:
    """They answer with what there is, exit with 0, and send nothing to the terminal but text."""
    reference = [str(run.path)] if command[0] == "checkpoints" else []
    ward = Ward(run, 5)
    for _ in range(times(30, 2000)):
        with ward.one_ill():
            done = run_cli(*command, *reference, "--runs-dir", run.path.parent)
            assert (done.code, done.err) == (0, "")
            text = done.out.replace("\n", "")
            if "--json" in command:  # for programs: the values as they are, escaped by JSON's rules
                assert isinstance(orjson.loads(done.out), list)
                assert not any(c < " " for c in text)
            else:
                assert_harmless(text)
            shown = "step_12" if reference else run.run_id
            assert shown in done.out


DEEP = b"[" * 1010 + b"]" * 1010
HUGE = b"9223372036854775807"


@pytest.mark.slow
@pytest.mark.parametrize("value", [DEEP, HUGE, b"-1e999"], ids=["deep", "huge", "infinite"])
def test_every_value_may_be_absurd(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], value: bytes
) -> None:
    """Each in its turn, and all at once: such nesting is parsed, and breaks whoever prints it."""
    watcher = Watcher(run)
    for name in FILES:
        if not name.endswith(".yaml") and name != "train.log":
            patient = Patient(run.path / name)
            found = list(VALUE.finditer(patient.data))[:60]
            for match in found:
                patient.write(patient.data[: match.start()] + value + patient.data[match.end() :])
                assert_harmless(watcher.look())
            patient.write(VALUE.sub(value, patient.data))
            assert_harmless(watcher.look())
            assert_harmless(as_json(run, capsys))
            patient.heal()


def test_a_line_of_ten_megabytes(run: RunDirectory) -> None:
    """One such line costs a moment, counts as bad, and the rest is read."""
    watcher = Watcher(run)
    before = detail_of(watcher.look()).loss
    with run.metrics_path.open("ab") as file:
        file.write(b"\x1b[2J" * (10 << 18) + b"\n")
        file.write(b'{"step": 13, "loss": 2.5, "attempt": 1}\n')
    after = detail_of(watcher.look())
    assert after.bad_lines == 1
    assert after.loss.steps.tolist() == [*before.steps.tolist(), 13]
    assert after.loss.values[-1] == 2.5


def contents(folder: Path) -> dict[str, object]:
    """All there is in a folder: bytes and times of files, targets of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        regular = stat.S_ISREG(about.st_mode)
        data = path.read_bytes() if regular else path.readlink() if path.is_symlink() else None
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_mtime_ns, data)
    return found


BROKEN_CONFIGS: dict[str, bytes] = {
    "half a line": b"name: r\nmodel:\n  flavour: llama\n  hidden_size: [32",
    "NULs": b"name: r\nmodel:\n" + b"\0" * 512,
    "not UTF-8": b"name: r\nmodel:\n  flavour: \xff\xfe\xc3\n",
    "escapes": b"name: \x1b]0;owned\x07\nmodel: {}\n",
    "an escaped escape": b'name: r\n"\\u001b]0;owned\\u0007": 1\n',
    "deep": b"model: " + b"[" * 3000,
    "a list": b"- 1\n- 2\n",
    "an alias": b"model: &a {hidden_size: 32}\ndata: *a\n",
    "a huge number": b"model: {hidden_size: " + b"9" * 6000 + b"}\n",
    "a huge size": b"model: {hidden_size: 1e300}\n",
    "10 MB": b"name: " + b"x" * (10 << 20),
    "UTF-16": "name: r\n".encode("utf-16"),
    "an impossible date": b"name: 2026-99-99\n",
    "another word": b"modle: {hidden_size: 32}\n",
    "a text for a number": b"model: {hidden_size: many}\n",
    "emptied": b"",
    "only blanks": b"\n  \n# name: r\n",
}


@pytest.mark.parametrize("by", ["path", "id"])
@pytest.mark.parametrize("what", [*BROKEN_CONFIGS, *(f.__name__ for f in REPLACEMENTS)])
def test_resume_with_a_corrupt_configuration(
    run: RunDirectory, run_cli: RunCli, what: str, by: str
) -> None:
    """One sentence, exit code 2, the run directory as it was, and no other run begun."""
    config = Patient(run.config_path)
    if what in BROKEN_CONFIGS:
        config.write(BROKEN_CONFIGS[what])
    else:
        config.replace(next(f for f in REPLACEMENTS if f.__name__ == what))
    before = contents(run.path)
    reference = run.path if by == "path" else run.run_id
    with PIPES.nobody_waits(run.config_path) if what == "a_pipe" else contextlib.nullcontext():
        done = run_cli("resume", reference, "--runs-dir", run.path.parent, "--max-steps", 24)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("trainer: ")
    assert done.err.endswith(".\n")
    assert done.err.count("\n") == 1
    assert_harmless(done.err.rstrip("\n"))
    assert contents(run.path) == before
    assert discover_runs(run.path.parent) == [run]
