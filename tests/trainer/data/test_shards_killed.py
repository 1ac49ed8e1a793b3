"""Shards made by several processes: a kill, a full disk, a process that dies; all of them go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import pytest

from tests.conftest import RunCli
from tests.waiting import until
from trainer.data.prepare import PrepareSettings, prepare
from trainer.data.shards.manifest import read_manifest
from trainer.data.tokens import MANIFEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A megabyte of source."""
    folder = tmp_path_factory.mktemp("source")
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    (folder / "all.txt").write_text(
        "".join(f.read_text("utf-8", "replace") for f in files)[: 1 << 20]
    )
    return folder / "all.txt"


@pytest.fixture(scope="module")
def whole(corpus: Path) -> Path:
    """The same in one file."""
    out = corpus.parent / "one"
    return prepare(PrepareSettings([str(corpus)], str(out), vocab_size=400)).train


def command(corpus: Path, whole: Path, out: Path) -> list[object]:
    tokenizer = ["--tokenizer", whole.parent]
    return ["prepare-data", "--text", corpus, *tokenizer, "--output", out, "--shards", 12]


def check(out: Path, whole: Path) -> None:
    shards = [out / shard.file for shard in read_manifest(out / MANIFEST).shards]
    assert b"".join(shard.read_bytes() for shard in shards) == whole.read_bytes()
    assert (out / "val.bin").read_bytes() == whole.with_name("val.bin").read_bytes()
    assert sorted(path.suffix for path in shards[0].parent.iterdir()) == sorted(
        [".json", *[".bin", ".json"] * 12]
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_was_ended_goes_on(
    run_cli: RunCli, corpus: Path, whole: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    arguments = command(corpus, whole, tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, arguments), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )

    def finished() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/shards-*/?????.bin.json")}

    try:
        until(lambda: finished() or process.poll() is not None)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    until(lambda: not any(child.is_running() for child in children))
    if ending == signal.SIGINT and process.returncode:
        assert "finished shards are kept" in err
    before = finished()
    for folder in tmp_path.glob("out/shards-*"):  # as a process leaves it that dies while it writes
        (folder / ".00000.bin.json.tmp-1-0").touch()
    done = run_cli(*arguments, "--workers", 1)
    assert done.code == 0, done.err
    check(tmp_path / "out", whole)
    assert before.items() <= finished().items()


def test_a_process_that_dies_is_told(corpus: Path, whole: Path, tmp_path: Path) -> None:
    arguments = command(corpus, whole, tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, arguments), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        (tmp_path / "out").mkdir()
        until(
            lambda: process.poll() is not None or len(psutil.Process(process.pid).children()) == 2
        )
        assert process.poll() is None, process.communicate()[1]
        os.kill(psutil.Process(process.pid).children()[0].pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "A process that made shards was ended by SIGKILL; was there too little memory?" in err


def test_a_full_disk_is_told_and_nothing_is_lost(
    run_cli: RunCli, corpus: Path, whole: Path, tmp_path: Path
) -> None:
    arguments = [*command(corpus, whole, tmp_path / "out"), "--workers", "2"]
    limited = "import resource, runpy, sys; sys.argv = ['trainer', *sys.argv[1:]]\n"
    # No file may be larger, which is how a full disk looks to a process.
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))\n"
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "runpy.run_module('trainer', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "no space left for the shards: those that are finished are kept" in done.stderr
    assert not (tmp_path / "out" / MANIFEST).exists()
    again = run_cli(*arguments)
    assert again.code == 0, again.err
    check(tmp_path / "out", whole)
