"""The copy of a host's folder, whatever the host says."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.remote.agent import Folder, Service
from shared.remote.client import LinkError, RefusedError
from shared.remote.mirror import Mirror

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


class Link:
    """Answers without a process: by a service, or with what is given."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def request(self, head: Any, timeout: float = 0.0) -> Any:
        answer, body = self._answer(head)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer, body


@settings(max_examples=40, deadline=None)
@given(answers=st.lists(ANSWER, min_size=1, max_size=4), body=st.binary(max_size=20))
def test_a_hostile_host_writes_nothing_outside(tmp_path_factory, answers, body):
    top = tmp_path_factory.mktemp("top")
    (top / "mirror").mkdir()
    mirror = Mirror(top / "mirror")
    mirror.reconnected()
    for answer in answers:
        mirror.step(Link(lambda head, a=answer: (a, body)), 0.0, budget=0.001)  # type: ignore[arg-type]
    assert os.listdir(top) == ["mirror"]  # noqa: PTH208
    for folder, _, names in os.walk(top / "mirror"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118
            assert not os.path.islink(path) or "/" not in os.readlink(path)  # noqa: PTH114, PTH115


def test_a_listing_without_an_end_is_given_up(tmp_path):
    mirror = Mirror(tmp_path)
    endless = Link(lambda head: ({"entries": [], "more": True}, b""))
    with pytest.raises(LinkError, match="without end"):
        mirror.step(endless, 0.0)  # type: ignore[arg-type]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "runs" / "x.jsonl").write_text("1\n")
    mirror = Mirror(tmp_path / "copy")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shared.remote.mirror.replace_file", full)
    link = Link(Service(Folder(str(tmp_path / "runs")), lambda seconds: True).answer)
    mirror.step(link, 0.0)  # type: ignore[arg-type]
    assert "No space left" in mirror.incomplete


@pytest.fixture
def pair(tmp_path):
    """A folder, its copy, and a function that brings the copy up to date."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "copy").mkdir()
    mirror = Mirror(tmp_path / "copy", "box:")
    link = Link(Service(Folder(str(tmp_path / "runs")), lambda seconds: True).answer)

    def update() -> None:
        mirror.step(link, 0.0)  # type: ignore[arg-type]
        while mirror.behind:
            mirror.step(link, 0.0)  # type: ignore[arg-type]

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
