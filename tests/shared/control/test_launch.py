"""Waiting for a trainer that was started apart from us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.control.launch import resume_detached, wait_until_running
from shared.control.waiting import Patience
from shared.errors import RunError
from shared.run.directory import RunDirectory, create_run
from shared.run.log import last_log_line, last_log_lines

TRAINER = """
import sys
from pathlib import Path
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
with RunWriter(run=RunDirectory(Path(sys.argv[1]))) as run:
    sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "x")


def start(code: str, run: RunDirectory) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE)


def test_a_started_trainer_is_waited_for(run: RunDirectory) -> None:
    process = start(TRAINER, run)
    assert wait_until_running(run, process) == "running"
    process.communicate(b"\n", timeout=240)


def test_a_trainer_that_ends_at_once_is_told_with_its_last_words(run: RunDirectory) -> None:
    run.log_path.write_bytes(b"x" * 100_000 + b"\nNo such\x1b checkpoint.\n\n")
    process = start("raise SystemExit(3)", run)
    with pytest.raises(RunError, match=r"exit code 3\): No such checkpoint\.$"):
        wait_until_running(run, process)


def test_a_trainer_that_never_starts_is_told(run: RunDirectory) -> None:
    process = start("import sys; sys.stdin.readline()", run)
    assert wait_until_running(run, process, Patience(timeout=0.0)) == "still starting"
    process.communicate(b"\n", timeout=240)


def test_a_log_that_says_nothing(run: RunDirectory) -> None:
    assert last_log_line(run) == "its log cannot be read"
    assert last_log_lines(run, 3) is None
    run.log_path.write_text("\n \n")
    assert last_log_line(run) == "its log is empty"
    assert last_log_lines(run, 3) == []
    run.log_path.write_text("a\n\nb\x1b\nc\nd")
    assert last_log_lines(run, 3) == ["b", "c", "d"]


def test_a_trainer_is_started_apart_with_what_its_environment_needs(
    run: RunDirectory, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@ $MORE $HOME $(ps -o sid= -p $$)"\n')
    fake.chmod(0o755)
    process = resume_detached(run, ["--max-steps", "5"], {"MORE": "more"}, str(fake))
    process.wait()
    said = run.log_path.read_text().split()
    assert said[:4] == ["-m", "trainer", "resume", str(run.path)]
    assert said[4:8] == ["--supervised", "--max-steps", "5", "more"]
    assert said[8] == os.environ["HOME"]
    assert said[9:] in ([], [str(process.pid)])


def test_a_trainer_that_cannot_be_started_is_told(run: RunDirectory) -> None:
    run.log_path.mkdir()
    with pytest.raises(RunError, match=f"Cannot start the trainer for {run.run_id}"):
        resume_detached(run)
