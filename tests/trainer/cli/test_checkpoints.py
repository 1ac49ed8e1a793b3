"""`trainer checkpoints`, on copies of a real run."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import in_use, list_checkpoints
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from tests.conftest import RunCli
from tests.waiting import SECONDS

Finished = Callable[..., Path]


@pytest.fixture
def run(finished: Finished) -> RunDirectory:
    """Steps 2 and 4, and final."""
    return RunDirectory(finished("it"))


def names(run: RunDirectory) -> list[str]:
    return [info.name for info in list_checkpoints(run.checkpoints)]


def events(run: RunDirectory, kind: str) -> list[str]:
    return [e["name"] for e in read_records(run.events_path) if e["event"] == kind]


# -- looking -----------------------------------------------------------------------------------


def test_list(run_cli: RunCli, run: RunDirectory) -> None:
    (run.checkpoints / "step_1.corrupt").mkdir()
    with in_use(run.checkpoints / "step_2"):
        code, out, _ = run_cli("checkpoints", "list", run.path)
        rows = json.loads(run_cli("checkpoints", "list", run.path, "--json").out)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["name", "step", "size", "age", "loss", "val", "loss"]
    assert [line.split()[0] for line in lines[1:]] == [
        "step_2",
        "step_4",
        "final",
        "step_1.corrupt",
    ]
    assert lines[1].endswith("in use")
    assert "latest" in lines[2]
    assert lines[4].endswith("corrupt")
    by_name = {row["name"]: row for row in rows}
    assert by_name["step_2"]["in_use"]
    assert by_name["step_4"]["latest"]
    assert by_name["step_1.corrupt"]["corrupt"]
    assert (by_name["final"]["step"], by_name["final"]["final"]) == (4, True)
    assert all(row["bytes"] > 0 for row in rows[:3])
    assert run_cli("checkpoints", "list", "it", "--runs-dir", run.path.parent).out.count("\n") == 5
    assert run_cli("checkpoints", "list", run.checkpoints).code == 0


def test_verify(run_cli: RunCli, run: RunDirectory) -> None:
    code, out, _ = run_cli("checkpoints", "verify", run.path)
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["ok"] * 3
    path = run.checkpoints / "step_2" / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, out, _ = run_cli("checkpoints", "verify", run.path)
    assert code == 1
    assert "step_2/optimizer.safetensors does not match its checksum" in out
    assert run_cli("checkpoints", "verify", run.path, 4, "final").code == 0
    assert run_cli("checkpoints", "verify", run.checkpoints / "step_4").code == 0
    assert run_cli("checkpoints", "verify", run.checkpoints / "step_2").code == 1
    assert run_cli("checkpoints", "verify", run.path, "latest").code == 0
    code, out, _ = run_cli("checkpoints", "verify", run.path, "--json")
    assert code == 1
    assert [row["ok"] for row in json.loads(out)] == [False, True, True]
    (run.checkpoints / "step_4" / "manifest.json").unlink()
    assert run_cli("checkpoints", "verify", run.checkpoints / "step_4").code == 1


# -- throwing away -----------------------------------------------------------------------------


def test_a_dry_run_touches_nothing(run_cli: RunCli, run: RunDirectory) -> None:
    before = sorted(run.path.rglob("*"))
    code, out, _ = run_cli("checkpoints", "prune", run.path, "--keep-last", 1, "--dry-run")
    size = sum(p.stat().st_size for p in (run.checkpoints / "step_2").iterdir())
    files = len(list((run.checkpoints / "step_2").iterdir()))
    assert code == 0
    assert f"1 checkpoint ({files} files, {size / 1024:.1f} KiB)" in out
    assert "keep    step_4" in out
    assert sorted(run.path.rglob("*")) == before
    assert events(run, "checkpoint_removed") == []


def test_pruned_brought_back_and_gone(run_cli: RunCli, run: RunDirectory) -> None:
    prune = ("checkpoints", "prune", run.path)
    code, _, err = run_cli(*prune, "--keep-last", 1)
    assert code == 2
    assert "give --yes" in err
    assert "step_2" in names(run)
    code, out, _ = run_cli(*prune, "--keep-last", 1, "--yes")
    assert code == 0
    assert "--undo" in out
    assert "the trash holds" in out
    assert names(run) == ["step_4", "final"]
    assert run_cli(*prune, "--undo").code == 0
    assert names(run) == ["step_2", "step_4", "final"]
    assert run_cli(*prune, 2, "--yes").code == 0
    assert run_cli(*prune, "--empty-trash").code == 2
    assert "freed (1 checkpoint)" in run_cli(*prune, "--empty-trash", "--yes").out
    assert run_cli(*prune, "--undo").code == 2
    assert events(run, "checkpoint_removed") == ["step_2", "step_2"]
    assert events(run, "checkpoint_restored") == ["step_2"]
    assert "nothing to prune" in run_cli(*prune, "--keep-last", 3, "--yes").out


def test_final_and_its_step_are_packed_together(run_cli: RunCli, run: RunDirectory) -> None:
    for path in (run.checkpoints / "final").iterdir():  # as a trainer makes it; a copy does not
        path.unlink()
        os.link(run.checkpoints / "step_4" / path.name, path)
    code, out, _ = run_cli("checkpoints", "compress", run.path, "latest")
    assert code == 1
    assert "shares its files with final" in out
    assert run_cli("checkpoints", "compress", run.path, "latest", "final").code == 0


def test_now_leaves_no_way_back(run_cli: RunCli, run: RunDirectory) -> None:
    code, out, _ = run_cli("checkpoints", "prune", run.path, "--keep-last", 1, "--now", "--yes")
    assert code == 0
    assert "permanently deleted" in out
    assert not (run.checkpoints / ".trash").exists()
    assert run_cli("resume", run.path, "--max-steps", 5).code == 0


@pytest.mark.parametrize(("answer", "left"), [("y\n", 2), ("n\n", 3)])
def test_a_terminal_is_asked(run: RunDirectory, answer: str, left: int) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "trainer", "checkpoints", "prune", str(run.path), "2"]
    with subprocess.Popen(
        command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(child)
        os.write(parent, answer.encode())
        out, err = process.communicate(timeout=SECONDS)
    os.close(parent)
    assert "to the trash? [y/N]" in out
    assert len(names(run)) == left
    assert process.returncode == (0 if left == 2 else 130), err


def test_what_another_process_reads_is_left(run_cli: RunCli, run: RunDirectory) -> None:
    with in_use(run.checkpoints / "step_2"):
        code, _, err = run_cli("checkpoints", "prune", run.path, 2, "--yes")
        assert code == 2
        assert "step_2 cannot be removed: it is in use" in err
        output = run_cli("checkpoints", "prune", run.path, "--keep-last", 1)
        assert "nothing to prune" in output.out


def test_a_live_run_is_asked_and_its_answer_told(run_cli: RunCli, run: RunDirectory) -> None:
    """The owner answers from a thread, as the trainer's loop does between two steps."""
    import threading

    from shared.checkpoints.prune import serve_prune
    from shared.errors import UserError

    writer = RunWriter(run=run)
    done = threading.Event()

    def serve() -> None:
        while not done.wait(0.02):
            for request in writer.take_requests():
                try:
                    told = serve_prune(run, request.arguments, writer.event, ["step_4"])
                    writer.answer(request, ok=True, message=told)
                except UserError as error:
                    writer.answer(request, ok=False, message=str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        code, out, err = run_cli("checkpoints", "prune", run.path, "--keep-last", 1, "--yes")
        assert code == 0, err
        assert "moved to the trash" in out
        assert names(run) == ["step_4", "final"]
        assert run_cli("checkpoints", "prune", run.path, "--undo").code == 0
        assert "step_2" in names(run)
        code, _, err = run_cli("checkpoints", "prune", run.path, "--undo")
        assert code == 1
        assert "nothing to restore" in err
        code, _, err = run_cli("checkpoints", "compress", run.path)
        assert code == 2
        assert "wait until it has ended" in err
    finally:
        done.set()
        thread.join()
        writer.finish("completed")
    asked = [e for e in read_records(run.events_path) if e["event"] == "answer"]
    assert [e["ok"] for e in asked] == [True, True, False]
    assert list(run.control.iterdir()) == []


# -- packing -----------------------------------------------------------------------------------


def test_packed_and_unpacked(run_cli: RunCli, run: RunDirectory) -> None:
    code, out, _ = run_cli("checkpoints", "compress", run.path, "--dry-run")
    assert code == 0
    assert "step_2: " in out
    assert not any(info.packed for info in list_checkpoints(run.checkpoints))
    code, out, _ = run_cli("checkpoints", "compress", run.path)
    assert code == 0
    assert "step_4: not changed: it is the latest" in out
    assert {i.name for i in list_checkpoints(run.checkpoints) if i.packed} == {"step_2"}
    assert events(run, "checkpoint_compressed") == ["step_2"]
    assert "packed" in run_cli("checkpoints", "list", run.path).out
    assert run_cli("checkpoints", "verify", run.path).code == 0
    assert run_cli("checkpoints", "compress", run.path, "latest", "final", "--level", 9).code == 0
    assert all(info.packed for info in list_checkpoints(run.checkpoints))
    assert run_cli("resume", run.path, "--max-steps", 5).code == 0
    assert run_cli("checkpoints", "decompress", run.path).code == 0
    assert not any(info.packed for info in list_checkpoints(run.checkpoints))
    assert run_cli("checkpoints", "verify", run.path).code == 0
    assert "nothing to unpack" in run_cli("checkpoints", "decompress", run.path).out


def test_a_damaged_one_is_not_packed_but_the_others_are(run_cli: RunCli, run: RunDirectory) -> None:
    path = run.checkpoints / "step_2" / "meta.json"
    path.write_text(path.read_text().replace("step", "stop", 1))
    code, _, err = run_cli("checkpoints", "compress", run.path, 2, 4, "final")
    assert code == 1
    assert "step_2/meta.json does not match its checksum" in err
    assert [i.packed for i in list_checkpoints(run.checkpoints)] == [False, True, True]


# -- wrong use ---------------------------------------------------------------------------------

WRONG = {
    "unknown run": (("list", "nope"), "nope"),
    "unknown run to prune": (("prune", "nope", "--keep-last", 1), "nope"),
    "a folder that is no run": (("verify", "{}/..", "x"), "no run"),
    "no rule": (("prune", "{}"), "No checkpoints are selected"),
    "keep none": (("prune", "{}", "--keep-last", 0), "--keep-last is 0"),
    "keep less than none": (("prune", "{}", "--keep-best", -1), "--keep-best is -1"),
    "no steps": (("prune", "{}", "--keep-every", 0), "--keep-every is 0"),
    "a word": (("prune", "{}", "--keep-last", "two"), "'two'"),
    "unknown step": (("prune", "{}", 3), "no checkpoint of step 3; the nearest are 2 and 4"),
    "unknown name": (("prune", "{}", "stepp_2"), "did you mean step_2"),
    "unknown step to verify": (("verify", "{}", 77), "no checkpoint of step 77"),
    "unknown step to pack": (("compress", "{}", 77), "no checkpoint of step 77"),
    "the latest": (("prune", "{}", 4, "--yes"), "step_4 cannot be removed: it is latest"),
    "final": (("prune", "{}", "final", "--yes"), "final cannot be removed"),
    "undo with a rule": (("prune", "{}", "--undo", "--keep-last", 1), "--undo cannot be combined"),
    "both": (("prune", "{}", "--undo", "--empty-trash"), "--undo cannot be combined"),
    "a look at now": (("prune", "{}", 2, "--dry-run", "--now"), "--dry-run and --now"),
    "nothing to undo": (("prune", "{}", "--undo"), "nothing to restore"),
    "no such level": (("compress", "{}", "--level", 0), "--level is 0"),
    "no threads": (("compress", "{}", "--threads", 0), "--threads is 0"),
    "unknown command": (("polish", "{}"), "polish"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_a_sentence(run_cli: RunCli, run: RunDirectory, case: str) -> None:
    arguments, told = WRONG[case]
    filled = [str(a).replace("{}", str(run.path)) for a in arguments]
    code, _, err = run_cli("checkpoints", *filled, "--runs-dir", run.path.parent)
    assert code == 2, err
    assert told in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert names(run) == ["step_2", "step_4", "final"]


def test_a_run_without_checkpoints(run_cli: RunCli, tmp_path: Path) -> None:
    with RunWriter(tmp_path, "bare") as writer:
        bare = writer.run.path
    assert "no checkpoints yet" in run_cli("checkpoints", "list", bare).out
    for command in (("prune", "--keep-last", "1"), ("verify",)):
        code, _, err = run_cli("checkpoints", command[0], bare, *command[1:])
        assert code == 2
        assert "holds no checkpoints" in err
    assert "nothing to pack" in run_cli("checkpoints", "compress", bare).out


@pytest.mark.parametrize("what", ["lock", ".trash"])
def test_no_permission(
    run_cli: RunCli, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As root everything may be written, so the system's refusal is made up."""
    originals = {"open": os.open, "mkdir": os.mkdir}

    def refusing(name: str) -> Callable[..., object]:
        def call(path: object, mode: int = 0o777, *rest: object, **more: object) -> object:
            writing = name == "mkdir" or mode & os.O_RDWR
            if writing and str(path).endswith(what):
                raise PermissionError(13, "Permission denied", str(path))
            return originals[name](path, mode, *rest, **more)  # type: ignore[operator]

        return call

    for name in originals:
        monkeypatch.setattr(os, name, refusing(name))
    code, _, err = run_cli("checkpoints", "prune", run.path, 2, "--yes")
    assert code == 2
    assert "cannot be changed: Permission denied" in err
    assert "step_2" in names(run)
