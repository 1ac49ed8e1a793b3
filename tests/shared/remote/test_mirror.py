"""The copy of a host's folder, whatever the host says."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.skim import skim
from shared.remote.agent import Folder, Service
from shared.remote.client import LinkError, RefusedError
from shared.remote.copies import Space
from shared.remote.exchange import Pending
from shared.remote.fetching import Sizes
from shared.remote.mirror import Mirror
from shared.remote.ranking import SAMPLES
from shared.run.sketch import read_sketch
from tests.shared.remote.linked import Answering

PATHS = st.sampled_from(
    [
        "a",
        "a/b",
        "a/run_state.json",
        "../x",
        "/x",
        "a/../../x",
        "a//b",
        "",
        "a\0",
        "l",
        "l/x",
        "n" * 300,
        "\ud800",
    ]
)
ANY = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
ENTRY = st.tuples(
    PATHS | ANY, st.sampled_from(["d", "f", "l"]) | ANY, st.integers() | ANY, st.integers(),
    st.integers(), st.sampled_from(["..", "/", "a", "../..", "l"]) | ANY,
).map(list)  # fmt: skip
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "entries": st.lists(ENTRY | ANY, max_size=6) | ANY,
        "gone": st.lists(PATHS | ANY, max_size=3) | ANY,
        "health": st.dictionaries(st.text(max_size=2), ANY, max_size=2) | ANY,
        "now": ANY | st.floats() | st.just(10**400),
        "inode": ANY,
    },
)


@settings(max_examples=40, deadline=None)
@given(answers=st.lists(ANSWER, min_size=1, max_size=4), body=st.binary(max_size=20))
def test_a_hostile_host_writes_nothing_outside(tmp_path_factory, answers, body):
    top = tmp_path_factory.mktemp("top")
    (top / "mirror").mkdir()
    mirror = Mirror(top / "mirror")
    mirror.reconnected()
    for answer in answers:
        mirror.step(Answering(lambda head, a=answer: (a, body)), 0.0, budget=0.001)  # type: ignore[arg-type]
    assert os.listdir(top) == ["mirror"]  # noqa: PTH208
    for folder, _, names in os.walk(top / "mirror"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118
            assert not os.path.islink(path) or "/" not in os.readlink(path)  # noqa: PTH114, PTH115


def test_a_listing_without_an_end_is_given_up(tmp_path):
    mirror = Mirror(tmp_path)
    endless = Answering(lambda head: ({"entries": [], "more": True}, b""))
    with pytest.raises(LinkError, match="without end"):
        mirror.step(endless, 0.0)  # type: ignore[arg-type]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "runs" / "x.jsonl").write_text("1\n")
    mirror = Mirror(tmp_path / "copy")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shared.remote.copies.replace_file", full)
    link = Answering(Service(Folder(str(tmp_path / "runs")), lambda seconds: True).answer)
    mirror.step(link, 0.0)  # type: ignore[arg-type]
    assert "No space left" in mirror.incomplete


@pytest.fixture
def pair(tmp_path):
    """A folder, its copy, and a function that brings the copy up to date."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    mirror = Mirror(tmp_path / "copy", "box:")
    link = Answering(Service(Folder(str(tmp_path / "runs")), lambda seconds: True).answer)

    def update() -> None:
        mirror.step(link, 0.0, lambda: ("box:a",))  # type: ignore[arg-type]
        while mirror.behind:
            mirror.step(link, 0.0, lambda: ("box:a",))  # type: ignore[arg-type]

    return tmp_path / "runs", tmp_path / "copy", update


def test_weights_are_holes_and_links_point_as_they_did(pair):
    runs, copy, update = pair
    step = runs / "a" / "checkpoints" / "step_1"
    step.mkdir(parents=True)
    with (step / "model.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    (step / "manifest.json").write_text("{}")
    (step.parent / "latest").symlink_to("step_1")
    update()
    found = copy / "box:a" / "checkpoints" / "latest"
    assert (found / "manifest.json").read_text() == "{}"
    status = (found / "model.safetensors").stat()
    assert (status.st_size, status.st_blocks) == (1 << 30, 0)


def test_a_file_that_is_replaced_or_gone_is_so_in_the_copy(pair):
    runs, copy, update = pair
    (runs / "a").mkdir()
    metrics = runs / "a" / "metrics.jsonl"
    metrics.write_text("1\n" * 900_000)  # many pieces
    update()
    here = copy / "box:a" / "metrics.jsonl"
    assert here.read_bytes() == metrics.read_bytes()
    before = here.stat().st_ino
    other = runs / "a" / ".new"
    other.write_text("2\n" * 900_001)
    other.replace(metrics)
    update()
    assert here.read_bytes() == metrics.read_bytes()
    assert here.stat().st_ino != before
    metrics.unlink()
    update()
    assert not here.exists()
    (runs / "a").rmdir()
    update()
    assert not here.parent.exists()


class Host:
    """A run's metrics on a host, which change in any way, over a link that breaks at any time."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "runs" / "a"
        self.run.mkdir(parents=True)
        (folder / "copy").mkdir()
        self.path, self.here = self.run / "metrics.jsonl", folder / "copy" / "a" / "metrics.jsonl"
        self.count = 0
        self.versions: list[bytes] = []
        self.mirror = Mirror(folder / "copy", sizes=Sizes(chunk=256, sketched=512))
        self.mirror.reconnected()
        self.connect()
        self.write("rewrite", 40)

    def connect(self) -> None:
        self.service = Service(Folder(str(self.run.parent)), lambda seconds: True)
        self.broken = False

    def write(self, how: str, lines: int) -> None:
        """Change the file as a trainer, or somebody with an editor, does."""
        self.count += 1
        new = b"".join(b'{"step":%d,"loss":%d}\n' % (n, self.count) for n in range(lines))
        if how == "remove":
            self.path.unlink(missing_ok=True)
            return
        if how == "replace":
            self.path.with_name(".new").write_bytes(new)
            self.path.with_name(".new").replace(self.path)
        else:
            with self.path.open("ab" if how == "append" else "wb") as file:
                file.write(new[: -(lines % 7) or None])  # perhaps torn
        self.versions.append(self.path.read_bytes())

    def ask(self, head: Any) -> Any:
        pending = Pending(1.0)
        pending.answer = ({}, b"") if self.broken else self.service.answer(head)
        return pending

    def answer_to(self, pending: Any, until: Any) -> Any:
        if self.broken:
            raise LinkError("broken")
        answer, body = pending.answer
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer, body

    def step(self) -> None:
        try:
            self.mirror.step(self, 0.0, lambda: ("a",), budget=0.0)  # type: ignore[arg-type]
        except LinkError:
            self.mirror.reconnected()
            self.connect()

    def check(self) -> None:
        """What is here is the beginning of what was there, and says where it is not all."""
        found = self.here.read_bytes() if self.here.exists() else b""
        assert any(version.startswith(found) for version in self.versions)
        sketch = read_sketch(self.here)
        for at, line in sketch.lines if sketch else ():
            assert any(version[at:].startswith(line + b"\n") for version in self.versions)


CHANGES = st.tuples(
    st.sampled_from(["append", "rewrite", "replace", "remove", "break", "wait"]), st.integers(0, 60)
)


@settings(max_examples=20, deadline=None)
@given(changes=st.lists(CHANGES, max_size=8))
def test_a_file_that_changes_in_any_way_over_a_link_that_breaks(tmp_path_factory, changes):
    host = Host(tmp_path_factory.mktemp("host"))
    for how, lines in changes:
        if how == "break":
            host.broken = True
        elif how != "wait":
            host.write(how, lines)
        host.step()
        host.check()
    host.step()
    while host.mirror.behind:
        host.step()
    assert host.here.exists() == host.path.exists()
    if host.path.exists():
        assert host.here.read_bytes() == host.path.read_bytes()
    assert read_sketch(host.here) is None


def test_of_a_run_nobody_looks_at_there_is_a_sketch_and_then_all_of_it(tmp_path):
    host = Host(tmp_path)
    host.write("append", 600)
    host.mirror.step(host, 0.0)  # type: ignore[arg-type]
    while host.mirror.behind:
        host.mirror.step(host, 0.0)  # type: ignore[arg-type]
    sketch = read_sketch(host.here)
    assert sketch is not None and sketch.size == host.path.stat().st_size
    assert host.here.read_bytes() == b""
    found, whole = skim(host.here), skim(host.path, SAMPLES, small=0)
    assert found.approximate
    assert found.series["loss"].values.tolist() == whole.series["loss"].values.tolist()
    host.step()
    while host.mirror.behind:
        host.step()
    assert read_sketch(host.here) is None
    assert host.here.read_bytes() == host.path.read_bytes()


def test_what_has_no_room_is_told_and_fetched_once_there_is_some(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "runs" / "x.jsonl").write_text("1\n" * 2000)
    free = [10]
    space = Space(free=lambda folder: (free[0], 10_000))
    mirror = Mirror(tmp_path / "copy", space=space)
    link = Answering(Service(Folder(str(tmp_path / "runs")), lambda seconds: True).answer)
    mirror.step(link, 0.0)  # type: ignore[arg-type]
    assert "10 B are free" in mirror.incomplete
    free[0] = 9_000
    (tmp_path / "runs" / "x.jsonl").write_text("1\n" * 2001)
    mirror.step(link, 0.0)  # type: ignore[arg-type]
    assert not mirror.incomplete
    assert (tmp_path / "copy" / "x.jsonl").stat().st_size == 4002
