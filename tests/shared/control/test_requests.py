"""Requests reach the trainer whole and in order; junk in their folder does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.control.requests import ACTIONS, names_of_requests, pending, served_by, submit


def test_requests_arrive_in_order_and_go_when_answered(tmp_path: Path) -> None:
    ids = [submit(tmp_path, action, {"n": n}) for n, action in enumerate(sorted(ACTIONS))]
    found = pending(tmp_path)
    assert [r.request_id for r in found] == ids
    assert [r.action for r in found] == sorted(ACTIONS)
    assert [r.arguments for r in found] == [{"n": n} for n in range(len(ACTIONS))]
    assert all(r.asked_by.endswith(f"@{os.uname().nodename}:{os.getpid()}") for r in found)
    found[0].remove()
    found[0].remove()
    assert [r.request_id for r in pending(tmp_path)] == ids[1:]


def test_who_serves_what() -> None:
    both = ["evaluated", "prune", "resume", "stop", "upload", "uploaded"]
    assert served_by("trainer") == sorted([*both, "checkpoint", "pause"])
    assert served_by("daemon") == sorted([*both, "cancel"])
    assert served_by("nobody") == []


def test_names_are_listed_without_opening(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert names_of_requests(tmp_path / "absent") == names_of_requests(tmp_path) == []
    ids = [submit(tmp_path, "stop") for _ in range(3)]
    assert names_of_requests(str(tmp_path)) == [f"{i}.json" for i in ids]


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    assert pending(tmp_path / "absent") == []
    with pytest.raises(OSError, match="No such file"):
        submit(tmp_path / "absent", "stop")


def test_files_that_are_no_request_are_left_alone(tmp_path: Path) -> None:
    name = f"{1:019d}-{'a' * 8}.json"
    for junk in ("stop", f".{name}.tmp-1-1", f"{name}~", "1-a.json", name.upper(), f"x{name}"):
        (tmp_path / junk).write_text('{"action": "stop"}')
    (tmp_path / f"{2:019d}-{'b' * 8}.json").mkdir()
    os.mkfifo(tmp_path / f"{3:019d}-{'c' * 8}.json")
    (tmp_path / f"{4:019d}-{'d' * 8}.json").symlink_to("nowhere")
    assert pending(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 9


@pytest.mark.parametrize(
    ("content", "action"),
    [
        (b"", ""),
        (b"\xff\0", ""),
        (b"[1]", ""),
        (b'{"action": 5, "arguments": [], "asked_by": null}', ""),
        (b'{"action": "\\u001b[2J rm -rf /"}', "\x1b[2J rm -rf /"),
        (b'{"action": "stop", "arguments": "now", "id": "../../x"}', "stop"),
    ],
)
def test_a_request_of_any_content_is_a_request_to_refuse(
    tmp_path: Path, content: bytes, action: str
) -> None:
    path = tmp_path / f"{1:019d}-{'a' * 8}.json"
    path.write_bytes(content)
    [request] = pending(tmp_path)
    assert (request.action, request.arguments) == (action, {})
    assert request.request_id == path.stem
    assert isinstance(request.asked_by, str)
    request.remove()
    assert pending(tmp_path) == []
