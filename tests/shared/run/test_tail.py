"""Following a file: only whole lines, each once, whatever the pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.run.tail import Chunk, Tailer


def read_rest(tailer: Tailer, size: int) -> bytes:
    parts = []
    while True:
        chunk = tailer.read(size)
        parts.append(chunk.lines)
        if not chunk.more:
            return b"".join(parts)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_only_whole_lines_and_each_once(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    tailer = Tailer(path)
    data = b"one\n\ntwo \xff\0\nthree and a torn"
    read = b""
    for end in range(len(data) + 1):
        path.write_bytes(data[:end]) if end == 0 else path.open("ab").write(data[end - 1 : end])
        lines = read_rest(tailer, size)
        assert lines.endswith(b"\n") or not lines
        read += lines
    assert read == b"one\n\ntwo \xff\0\n"
    assert tailer.offset == len(data)


def test_a_line_longer_than_the_limit_is_dropped_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * 1000 + b"\nlast\n")
    tailer = Tailer(path, max_line=100)
    assert read_rest(tailer, 10) == b"first\nlast\n"
    assert tailer.overlong_lines == 1


def test_missing_unreadable_and_strange_paths_are_empty(tmp_path: Path) -> None:
    nothing = Chunk(b"", restarted=False, more=False)
    assert Tailer(tmp_path / "absent").read() == nothing
    assert Tailer(tmp_path).read() == nothing


def test_a_restart_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    tailer = Tailer(path)
    assert tailer.read() == Chunk(b"old\n", restarted=False, more=False)
    path.write_bytes(b"new\nnew\n")
    assert tailer.read() == Chunk(b"new\nnew\n", restarted=True, more=False)
    assert tailer.read() == Chunk(b"", restarted=False, more=False)


def test_the_half_line_of_an_old_file_does_not_leak_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\nhal")
    tailer = Tailer(path)
    tailer.read()
    path.write_bytes(b"new\n")
    assert tailer.read().lines == b"new\n"
