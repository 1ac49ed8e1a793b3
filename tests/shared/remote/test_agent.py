"""What is served, and what is not: nothing outside of the folder."""

from __future__ import annotations

import ast
import json
import os

import pytest

from shared.remote.agent import Folder, Service
from shared.remote.client import agent_program


@pytest.fixture
def folder(tmp_path):
    served = tmp_path / "runs"
    run = served / "a"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("123456")
    (tmp_path / "secret").write_text("secret")
    (run / "out").symlink_to(tmp_path / "secret")
    (run / "up").symlink_to("../..")
    (run / "in").symlink_to("metrics.jsonl")
    os.mkfifo(run / "pipe")
    return served


def service(folder):
    return Service(Folder(str(folder)), lambda seconds: True)


def test_links_out_and_pipes_are_not_listed(folder):
    answer, _ = service(folder).answer({"op": "look"})
    assert {entry[0] for entry in answer["entries"]} == {"a", "a/metrics.jsonl", "a/in"}


@pytest.mark.parametrize(
    "path",
    ["../secret", "a/../../secret", "/etc/passwd", "a/out", "a/up/secret", "a/pipe", "a", "", "a\0",
     None, 7, ["a"], "a//metrics.jsonl", "x" * 5000],
)  # fmt: skip
def test_nothing_else_is_read(folder, path):
    for request in ({"op": "read", "start": 0, "size": 9}, {"op": "stat"}):
        answer, body = service(folder).answer({**request, "path": path})
        assert answer.keys() == {"error"}
        assert body == b""


def test_a_range_is_read_and_changes_are_told(folder):
    one = service(folder)
    assert one.answer({"op": "look"})[0]["entries"]
    answer, body = one.answer({"op": "read", "path": "a/metrics.jsonl", "start": 2, "size": 3})
    assert (answer["size"], body) == (6, b"345")
    assert not one.answer({"op": "look"})[0]["entries"]
    (folder / "a" / "metrics.jsonl").write_text("1234567")
    (folder / "a" / "in").unlink()
    told, _ = one.answer({"op": "look", "wait": 1})
    assert [entry[:3] for entry in told["entries"]] == [["a/metrics.jsonl", "f", 7]]
    assert told["gone"] == ["a/in"]


@pytest.mark.parametrize("head", [{}, {"op": 3}, {"op": "act", "action": "stop"}, {"op": "read"}])
def test_other_requests_are_answered_with_a_sentence(folder, head):
    assert service(folder).answer(head)[0]["error"]


def test_a_sketch_is_lines_of_the_whole_file_and_where_they_begin(folder):
    lines = [b'{"step":%d}' % n for n in range(1000)]
    text = b"\n".join(lines) + b"\n" + b'{"torn":'
    (folder / "a" / "metrics.jsonl").write_bytes(text)
    head = {"op": "sketch", "path": "a/metrics.jsonl", "start": 0, "end": 1 << 60, "samples": 50}
    told, body = service(folder).answer(head)
    places, *found = body.split(b"\n")
    assert told["size"] == len(text)
    assert (found[0], found[-1]) == (lines[0], lines[-1])
    assert 40 < len(found) <= 51
    for at, line in zip(json.loads(places), found, strict=True):
        assert text[at:].startswith(line + b"\n")
    for wrong in ({"path": "../secret"}, {"start": "x"}, {"samples": None}, {"end": None}):
        assert "error" in service(folder).answer({**head, **wrong})[0]
    assert service(folder).answer({**head, "start": 1 << 50})[1] == b"[]"


def test_the_agent_is_a_program_for_an_old_python():
    ast.parse(agent_program(), feature_version=(3, 8))
