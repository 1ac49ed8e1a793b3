"""What a power cut could take: the order of system calls says that it takes no saved checkpoint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trainer.loop.conftest import TINY, as_flags

CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat"
LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
FD = re.compile(r"^\d+<([^>]*)>")
PATHS = re.compile(r'"([^"]*)"')


def can_trace() -> bool:
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run(
            [strace, "-o", os.devnull, "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


@dataclass(frozen=True)
class Call:
    """One system call: its name, the file of its descriptor, the paths it names."""

    name: str
    file: str
    paths: tuple[str, ...]


def calls_of(trace: str) -> list[Call]:
    """The calls that succeeded, in order; interrupted ones are put together again."""
    found: list[Call] = []
    unfinished: dict[str, str] = {}
    for line in trace.splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            unfinished[pid] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if "resumed>" in line:
            line = unfinished.pop(pid, "") + line.partition("resumed>")[2]  # noqa: PLW2901
        match = LINE.match(line)
        if match and int(match[3]) >= 0:
            fd = FD.match(match[2])
            found.append(Call(match[1], fd[1] if fd else "", tuple(PATHS.findall(match[2]))))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="needs strace")
def test_everything_is_durable_before_it_is_named(tmp_path: Path, text_data: Path) -> None:
    """fsync of every file and of the folder, then rename, then fsync of its parent."""
    trace = tmp_path / "trace"
    settings = {**TINY, "checkpoint.interval": 6, "checkpoint.keep_last": 1}
    subprocess.run(
        [
            *("strace", "-f", "-y", "--seccomp-bpf", "-s", "0", "-e", f"trace={CALLS}"),
            *("-o", str(trace), sys.executable, "-m", "trainer", "train", "--name", "power"),
            *("--runs-dir", str(tmp_path / "runs"), "--data-path", str(text_data)),
            *as_flags(settings),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    calls = calls_of(trace.read_text())
    renames = [
        (i, *call.paths[:2])
        for i, call in enumerate(calls)
        if call.name.startswith("rename") and "/.tmp-step_" in call.paths[0]
    ]
    named = [(i, old, new) for i, old, new in renames if "/" not in new.partition("step_")[2]]
    assert {Path(new).name for _, _, new in named} == {"step_6", "step_12"}
    for at, old, new in named:
        _durable(calls, at, old)
        parent = str(Path(new).parent)
        after = [c for c in calls[at:] if c.name == "fsync" and c.file.rstrip("/") == parent]
        assert after, f"{parent} is not synced after {new} has got its name"
    _announced_last(calls, named[0])
    _not_removed_before(calls, named[1])


def _durable(calls: list[Call], at: int, folder: str) -> None:
    """Before call `at`, every file of `folder` was synced after its last write, then the folder."""
    written: dict[str, int] = {}
    synced: dict[str, int] = {}
    names = {c.paths[0]: c.paths[1] for c in calls[:at] if c.name.startswith("rename")}
    for i, call in enumerate(calls[:at]):
        if not call.file.startswith(folder):
            continue
        if call.name.endswith("sync"):
            synced[call.file] = i
        elif "write" in call.name:
            written[call.file] = i
    assert any(name.endswith("model.safetensors") for name in written)
    for name, when in written.items():
        assert max(synced.get(name, -1), synced.get(names.get(name, ""), -1)) > when, name
    assert synced.get(folder, -1) > max(written.values()), "the folder itself"


def _announced_last(calls: list[Call], named: tuple[int, str, str]) -> None:
    """No link says `latest` before the checkpoint has its name and that is durable."""
    at, _, new = named
    linked = [i for i, c in enumerate(calls) if c.name.startswith("symlink")]
    parent = str(Path(new).parent)
    safe = next(i for i in range(at, len(calls)) if calls[i].file.rstrip("/") == parent)
    assert min(linked) > safe


def _not_removed_before(calls: list[Call], named: tuple[int, str, str]) -> None:
    """The older checkpoint goes only when the newer one is durable."""
    gone = [
        i
        for i, c in enumerate(calls)
        if c.name.startswith("rename") and c.paths[0].endswith("/step_6")
    ]
    assert gone, "retention keeps one"
    assert gone[0] > named[0]
