"""Files that are whole or absent, and lines that wait for room, under real kills and limits."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.files import (
    AppendLog,
    fsync_directory,
    fsync_file,
    read_json,
    remove_temporaries,
    replace_file,
    replace_link,
    write_json,
)

WRITER = """
import sys
from pathlib import Path
from shared.files import replace_file
version = int(sys.argv[2])
while True:
    version += 1
    replace_file(Path(sys.argv[1]), b"%d\\n" % version * 30_000, durable=False)
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def whole_version(data: bytes) -> int:
    words = data.split()
    assert len(words) == 30_000
    assert len(set(words)) == 1
    assert data.endswith(b"\n")
    return int(words[0])


def test_readers_see_whole_versions_while_writers_are_killed(tmp_path: Path, spawn) -> None:
    path = tmp_path / "state"
    version = 0
    for _ in range(6):
        child = spawn(WRITER, path, version)
        seen: set[int] = set()
        while len(seen) < 15:
            assert child.poll() is None
            if path.exists():
                now = whole_version(path.read_bytes())
                assert now >= version
                version = now
                seen.add(now)
        child.kill()
        child.wait()
        version = whole_version(path.read_bytes())
    leftovers = set(names(tmp_path)) - {"state"}
    assert set(remove_temporaries(tmp_path)) == leftovers
    assert names(tmp_path) == ["state"]


def test_remove_temporaries_takes_nothing_else(tmp_path: Path) -> None:
    for name in ("a.tmp-1-2", ".a.tmp-1", ".hidden", "state", ".tmp-1-2"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".state.tmp-77-0").write_text("x")
    (tmp_path / ".latest.tmp-77-1").symlink_to("nowhere")
    assert remove_temporaries(tmp_path) == [".latest.tmp-77-1", ".state.tmp-77-0"]
    assert len(names(tmp_path)) == 5
    assert remove_temporaries(tmp_path / "absent") == []


def test_a_failed_replacement_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    with pytest.raises(OSError, match="target"):
        replace_file(folder, b"data")
    assert names(tmp_path) == ["target"]


def test_links_are_replaced_even_over_leftovers(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    replace_link(link, "step_1")
    for number in range(2000):  # a killed namesake may have left any of the next names
        (tmp_path / f".latest.tmp-{os.getpid()}-{number}").symlink_to("old")
    replace_link(link, "step_2")
    assert str(link.readlink()) == "step_2"


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a":', b"\xff", b"null", b"\0" * 9])
def test_what_is_no_json_object_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert read_json(path) is None
    assert read_json(tmp_path) is None
    assert read_json(tmp_path / "absent") is None
    assert read_json(Path("nul\0byte")) is None


def test_json_is_written_for_people_and_for_any_value(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": float("nan"), "b": Path("p"), "c": "\udc80", "d": 10**30, 5: [1]})
    assert path.read_text().startswith('{\n  "a": null')
    assert read_json(path) == {"a": None, "b": "p", "c": "?", "d": 1e30, "5": [1]}
    fsync_file(path)
    fsync_directory(tmp_path)


# -- appending -----------------------------------------------------------------------------------


def test_each_line_is_one_write_at_the_end(tmp_path: Path) -> None:
    first, second = AppendLog(tmp_path / "log"), AppendLog(tmp_path / "log")
    for number in range(50):
        assert first.append(b"a%d" % number)
        assert second.append(b"b%d" % number)
    lines = (tmp_path / "log").read_bytes().split()
    assert lines == [b"%c%d" % (c, n) for n in range(50) for c in b"ab"]
    first.close()
    first.close()
    assert not first.append(b"after closing")


LIMITED = """
import json, resource, sys
from pathlib import Path
from shared.files import AppendLog, replace_file
path, limit = Path(sys.argv[1]), int(sys.argv[2])
log = AppendLog(path)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
accepted = [log.append(json.dumps({"step": n, "pad": "x" * 20}).encode()) for n in range(60)]
waiting = log.waiting
try:
    replace_file(path.with_name("state"), b"y" * (limit + 1))
    failed = False
except OSError:
    failed = True
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
done = log.append(b'{"step": 60}')
print(json.dumps([accepted, waiting, failed, done, log.waiting]))
log.close()
"""


@pytest.mark.parametrize("limit", [0, 1, 41, 42, 43, 44, 85, 86, 1000])
def test_lines_wait_for_room_and_go_out_in_order(tmp_path: Path, spawn, limit: int) -> None:
    path = tmp_path / "log"
    (tmp_path / "state").write_text("before")
    output, _ = spawn(LIMITED, path, limit).communicate(timeout=240)
    accepted, waiting, replacing_failed, done, waiting_later = json.loads(output)
    assert waiting == accepted.count(False) > 0
    assert accepted == sorted(accepted, reverse=True)  # none overtakes a waiting one
    assert (done, waiting_later, replacing_failed) == (True, 0, True)
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    assert [r["step"] for r in records] == list(range(61))
    assert (tmp_path / "state").read_text() == "before"
    assert names(tmp_path) == ["log", "state"]


def test_what_waits_is_bounded_and_keeps_the_newest() -> None:
    log = AppendLog(Path("/dev/full"), pending_limit=10)
    assert not any(log.append(b"line") for _ in range(25))
    assert log.waiting == 10
    assert not log.flush()
    log.close()


# -- devices that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE])
def test_a_failing_device_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "state"
    replace_file(path, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    class Failing(io.BytesIO):
        write = fail  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(Path, "open", lambda self, mode: self.touch() or Failing())
        else:
            patch.setattr(f"os.{call}", fail)
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_that_did_not_become_durable_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failure = os.fsync, [errno.EIO]

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(failure[0], os.strerror(failure[0]))
        real(fd)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
        replace_file(tmp_path / "state", b"new")
    assert names(tmp_path) == ["state"]
    failure[0] = errno.EINVAL  # a filesystem that knows no such thing
    replace_file(tmp_path / "state", b"newer")


def test_a_link_that_cannot_be_moved_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
            replace_link(tmp_path / "latest", "step_1")
    assert names(tmp_path) == []


def test_lines_wait_while_the_device_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AppendLog(tmp_path / "log")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", fail)
        assert not log.append(b"one")
        assert not log.append(b"two")
    assert log.problem is not None
    assert log.problem.errno == errno.EIO
    assert log.append(b"three")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_any_thread_may_flush_while_one_appends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, doubled or overtaken, while writes fail every now and then."""
    log, real, count = AppendLog(tmp_path / "log"), os.write, itertools.count()

    def flaky(fd: int, data: bytes) -> int:
        if next(count) % 3 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            log.flush()

    with monkeypatch.context() as patch:
        patch.setattr("os.write", flaky)
        thread = threading.Thread(target=flush)
        thread.start()
        for number in range(3000):
            log.append(b"%d" % number)
        stop.set()
        thread.join()
    log.close()
    assert (tmp_path / "log").read_bytes().split() == [b"%d" % n for n in range(3000)]


FULL = """
import json, os, sys
from pathlib import Path
from shared.files import AppendLog, replace_file
folder = Path(sys.argv[1])
replace_file(folder / "state", b"old")
log = AppendLog(folder / "log")
log.append(b"first")
filler = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(filler, b"x" * 4096)
except OSError:
    pass
accepted = [log.append(b"y" * 3000) for _ in range(4)]
try:
    replace_file(folder / "state", b"z" * 100_000)
    failed = False
except OSError as error:
    failed = error.strerror
before = sorted(p.name for p in folder.iterdir())
os.ftruncate(filler, 0)
freed = log.append(b"last")
log.close()
replace_file(folder / "state", b"z" * 100_000)
lines = [len(x) for x in (folder / "log").read_bytes().split()]
print(json.dumps([accepted, failed, before, freed, lines]))
"""


def test_a_full_disk_really(tmp_path: Path) -> None:
    """On a filesystem of 300 KiB of our own, which takes the right to mount one."""
    if not shutil.which("unshare"):
        pytest.skip("no unshare here")
    mount = f"mount -t tmpfs -o size=300k none {tmp_path} && exec {sys.executable} -c"
    command = ["unshare", "-m", "sh", "-c", f'{mount} "$0" {tmp_path}', FULL]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if "ermitted" in result.stderr or "denied" in result.stderr:
        pytest.skip("no right to mount a filesystem")
    accepted, failed, before, freed, lines = json.loads(result.stdout or result.stderr)
    assert not all(accepted)
    assert failed == os.strerror(errno.ENOSPC)
    assert before == ["filler", "log", "state"]
    assert freed
    assert [n for n in lines if n in (5, 3000, 4)] == [5, 3000, 3000, 3000, 3000, 4]
