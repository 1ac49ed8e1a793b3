"""Runs thrown away: never a living one, always whole, and back until the trash is emptied."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.catalogue import (
    BASE_RECORD,
    FINAL,
    LATEST,
    in_use,
    is_in_use,
    list_checkpoints,
    set_link,
    step_folder,
)
from shared.checkpoints.manifest import write_manifest
from shared.checkpoints.trash import JOURNAL, TRASH
from shared.control.daemons import DaemonDirectory
from shared.errors import RunError, UserError
from shared.files import write_json
from shared.library.deletion import doom, doom_all
from shared.library.labels import change_labels, read_labels
from shared.library.run_trash import (
    empty_run_trash,
    list_trash,
    restore_runs,
    throw_away_runs,
    trash_bytes,
)
from shared.ownership.claim import hold_lock
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock, lock_is_held
from shared.run.directory import RunDirectory, discover_runs
from shared.run_writer import RunWriter
from tests.shared.killing import kill_at_each_step


def make(runs_dir: Path, name: str, **state: Any) -> RunDirectory:
    """A run that has ended, with two checkpoints; `final` is hard links to the last."""
    run = RunDirectory(runs_dir / name)
    run.path.mkdir(parents=True)
    record = {"run_id": name, "run_name": name, "status": "completed", "current_step": 20}
    run.state_path.write_text(json.dumps(record | state))
    run.metrics_path.write_text('{"step": 20, "loss": 1.5}\n')
    for step in (10, 20):
        folder = step_folder(run.checkpoints, step)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"%03d" % step * 100)
        write_manifest(folder, step, {"loss": 1.0, "val_loss": step / 10})
    (run.checkpoints / FINAL).mkdir()
    for path in step_folder(run.checkpoints, 20).iterdir():
        os.link(path, run.checkpoints / FINAL / path.name)
    set_link(run.checkpoints, LATEST, step_folder(run.checkpoints, 20))
    return run


def delete(*runs: RunDirectory) -> None:
    throw_away_runs([doom(run) for run in runs])


def runs_in(runs_dir: Path) -> list[str]:
    return [run.run_id for run in discover_runs(runs_dir)]


def trashed(runs_dir: Path) -> list[str]:
    return [item.run_id for item in list_trash(runs_dir)]


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


# -- what would go -----------------------------------------------------------------------------


def test_the_preview_tells_what_would_be_lost(tmp_path: Path) -> None:
    run = make(tmp_path, "a", hub_repo="me/a")
    doomed = doom(run)
    files = [p for p in run.path.rglob("*") if p.is_file() and not p.is_symlink()]
    on_disk = {p.stat().st_ino: p.stat().st_size for p in files}
    link = (run.checkpoints / LATEST).lstat().st_size
    assert doomed.bytes == sum(on_disk.values()) + link, "what is shared counts once"
    assert doomed.files == len(files) + 1
    assert doomed.newest is not None
    assert (doomed.newest.name, doomed.checkpoints, doomed.refusal) == (FINAL, 3, "")
    text = "\n".join(doomed.describe())
    assert "a: completed, step 20; " in text
    assert "3 checkpoints, the newest final (val loss 2)" in text
    assert "uploaded to me/a" in text


def test_the_last_upload_counts(tmp_path: Path) -> None:
    run = make(tmp_path, "a", hub_repo="me/old")
    run.events_path.write_text(
        '{"event": "uploaded", "url": "https://hub/me/new"}\n{"event": "x"}\n'
    )
    assert doom(run).uploaded == "https://hub/me/new"
    assert "uploaded nowhere" in "\n".join(doom(make(tmp_path, "b")).describe())


def test_the_preview_tells_which_adapters_need_the_run(tmp_path: Path) -> None:
    base, other = make(tmp_path, "a"), make(tmp_path, "lora")
    record = {"path": str(base.checkpoints.resolve() / FINAL), "sha256": "0"}
    (other.checkpoints / FINAL / BASE_RECORD).write_text(json.dumps(record))
    alone, together = doom_all([base]), doom_all([base, other])
    assert "the adapters in lora need its checkpoints" in alone[0].describe()[-1]
    assert [item.needed_by for item in together] == [(), ()], "they go too"


def test_looking_touches_nothing(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    before = sorted(tmp_path.rglob("*"))
    doom(run)
    assert (trash_bytes(tmp_path), list_trash(tmp_path), empty_run_trash(tmp_path)) == (0, [], 0)
    with pytest.raises(UserError, match="nothing to restore"):
        restore_runs(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


# -- what may not go ---------------------------------------------------------------------------


def refused(run: RunDirectory, told: str) -> None:
    with pytest.raises(UserError, match=told):
        delete(run)
    assert run.path.is_dir()
    assert trashed(run.path.parent) == []


def test_a_living_run_stays(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "live") as writer:
        writer.log(1, loss=1.0)
        refused(writer.run, rf"is running \(process {os.getpid()} on .*\); stop it first")
        assert "stop it first" in doom(writer.run).refusal
    delete(writer.run)


def test_a_run_that_began_after_the_preview_stays(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    doomed = doom(run)
    with RunWriter(run=run), pytest.raises(UserError, match="stop it first"):
        throw_away_runs([doomed])
    assert trashed(tmp_path) == []


def test_a_run_whose_lock_is_held_stays_and_so_do_those_with_it(tmp_path: Path) -> None:
    free, held = make(tmp_path, "a"), make(tmp_path, "b")
    lock = RunLock(held.lock_path)
    lock.acquire()
    try:
        with pytest.raises(UserError, match=rf"b is in use by process {os.getpid()} on"):
            delete(free, held)
    finally:
        lock.release()
    assert runs_in(tmp_path) == ["a", "b"]
    delete(free, held)


def test_a_run_whose_checkpoint_is_read_stays(tmp_path: Path, spawn) -> None:
    run = make(tmp_path, "a")
    with in_use(run.checkpoints / FINAL):
        refused(run, "of a is in use by another process; nothing was deleted")


def test_nobody_can_begin_to_train_while_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "a")
    rename, seen = os.rename, []

    def looking(source: Path, target: Path) -> None:
        if source == run.path:
            seen.append((lock_is_held(run.lock_path), is_in_use(run.checkpoints / "step_10")))
        rename(source, target)

    monkeypatch.setattr(os, "rename", looking)
    delete(run)
    assert seen == [(True, True)]


def test_a_run_of_another_program_stays_while_it_is_written(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    run.state_path.unlink()
    refused(run, "being written by another program")
    os.utime(run.metrics_path, (0, time.time() - 60))
    delete(run)


def test_a_run_under_the_care_of_a_daemon_stays(tmp_path: Path) -> None:
    run = make(tmp_path, "a", status="failed")
    daemon = DaemonDirectory.of(tmp_path)
    daemon.control.mkdir(parents=True)
    write_json(daemon.state_path, {"runs": {run.run_id: {"status": "waiting"}}})
    heartbeat = HeartbeatFile(daemon.heartbeat_path)
    heartbeat.beat()
    with hold_lock(daemon.lock_path):
        refused(run, "about to be started by a daemon; stop it first: trainer stop a")
    heartbeat.close()
    delete(run)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "far", "a")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to(tmp_path / "far" / "a")
    refused(RunDirectory(tmp_path / "runs" / "a"), r"a is a link to .*/far/a; remove the link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError, match="cannot be changed: Permission denied"):
            throw_away_runs([doom(run)], wait=0.0)
    finally:
        tmp_path.chmod(0o755)


def test_what_cannot_be_moved_is_told_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make(tmp_path, name) for name in "ab"]
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if source == runs[1].path:
            raise OSError(16, "Device or resource busy", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(RunError, match="b cannot be changed: Device or resource busy"):
        delete(*runs)
    monkeypatch.undo()
    assert (runs_in(tmp_path), trashed(tmp_path)) == (["b"], ["a"])
    assert restore_runs(tmp_path) == {"a": "a"}


# -- there and back ----------------------------------------------------------------------------


def test_a_run_goes_and_comes_back_as_it_was(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    change_labels(run, note="dear")
    before = content(run.path)
    size = doom(run).bytes
    delete(run)
    assert runs_in(tmp_path) == []
    (item,) = list_trash(tmp_path)
    assert (item.run_id, item.bytes) == ("a", size)
    assert abs(item.time - time.time()) < 60
    assert restore_runs(tmp_path) == {"a": "a"}
    assert content(run.path) == before
    assert read_labels(run).note == "dear"
    assert [info.is_latest for info in list_checkpoints(run.checkpoints)] == [False, True, False]
    assert (list_trash(tmp_path), trash_bytes(tmp_path)) == ([], 0)


def test_the_last_delete_comes_back_first_or_the_one_named(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    delete(a, b)
    delete(c)
    assert trashed(tmp_path) == ["c", "a", "b"]
    assert restore_runs(tmp_path) == {"c": "c"}
    assert restore_runs(tmp_path, ["b"]) == {"b": "b"}
    assert (runs_in(tmp_path), trashed(tmp_path)) == (["b", "c"], ["a"])
    with pytest.raises(UserError, match="'b' is not in the trash"):
        restore_runs(tmp_path, ["a", "b"])
    assert restore_runs(tmp_path) == {"a": "a"}


def test_a_name_that_is_taken_gets_a_suffix(tmp_path: Path) -> None:
    delete(make(tmp_path, "a"))
    delete(make(tmp_path, "a", current_step=77))
    (tmp_path / "a").mkdir()  # also an empty one: a rename would swallow it
    assert restore_runs(tmp_path, ["a"]) == {"a": "a_2"}
    state = RunDirectory(tmp_path / "a_2").read_state()
    assert state is not None
    assert state.current_step == 77, "the last one thrown away"
    assert restore_runs(tmp_path) == {"a": "a_3"}
    assert list((tmp_path / "a").iterdir()) == []


def test_checkpoints_elsewhere_stay_where_they_are(tmp_path: Path) -> None:
    run = make(tmp_path / "runs", "a")
    outside = run.checkpoints.rename(tmp_path / "outside")
    run.checkpoints.symlink_to(outside)
    before = content(outside)
    doomed = doom(run)
    assert (doomed.outside, doomed.newest) == (outside, None)
    assert doomed.bytes < 2000
    assert f"its checkpoints are in {outside} and stay there" in "\n".join(doomed.describe())
    throw_away_runs([doomed])
    restore_runs(run.path.parent)
    assert len(list_checkpoints(run.checkpoints)) == 3
    delete(run)
    empty_run_trash(run.path.parent)
    assert content(outside) == before


def test_emptying_frees_what_was_said_and_leaves_nothing_to_restore(tmp_path: Path) -> None:
    runs = [make(tmp_path, name) for name in "ab"]
    expected = sum(doom(run).bytes for run in runs)
    for run in runs:
        delete(run)
    journals = sum(p.stat().st_size for p in tmp_path.glob(f"{TRASH}/*/{JOURNAL}"))
    locks = sum(p.stat().st_size for p in tmp_path.glob(f"{TRASH}/*/*/lock"))
    assert empty_run_trash(tmp_path) == expected + journals + locks
    assert (list_trash(tmp_path), trash_bytes(tmp_path)) == ([], 0)
    with pytest.raises(UserError, match="nothing to restore"):
        restore_runs(tmp_path)
    delete(make(tmp_path, "c"))
    assert restore_runs(tmp_path) == {"c": "c"}


def test_what_cannot_be_deleted_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete(make(tmp_path, "a"))
    delete(make(tmp_path, "b"))

    def failing(path: Path) -> None:
        if path.name.endswith("1"):
            raise PermissionError(13, "Permission denied", str(path / "a"))
        rmtree(path)

    import shutil

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", failing)
    with pytest.raises(RunError, match="a cannot be deleted: Permission denied"):
        empty_run_trash(tmp_path)
    assert list_trash(tmp_path) == []
    assert trash_bytes(tmp_path) > 0, "it still takes its place"
    monkeypatch.undo()
    assert empty_run_trash(tmp_path) > 0
    assert trash_bytes(tmp_path) == 0


def test_a_trash_that_is_being_changed_is_left(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    delete(make(tmp_path, "b"))
    lock = RunLock(tmp_path / TRASH / "lock")
    lock.acquire()
    try:
        with pytest.raises(RunError, match="is being changed by process"):
            throw_away_runs([doom(run)], wait=0.0)
    finally:
        lock.release()
    assert runs_in(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "journal",
    [
        "",
        "[]",
        '{"state": "restoring", "restore": {"a": "../../a", "../x": "b"}}',
        '{"state": "restoring", "restore": {"a": ".hidden", "b": 3}}',
        '{"state": "moving", "runs": 3}',
        '{"state": 7, "runs": [{"run_id": 3, "files": "x", "bytes": null}, 4], "time": "x"}',
    ],
)
def test_no_journal_leads_a_run_astray(tmp_path: Path, journal: str) -> None:
    runs_dir = tmp_path / "in" / "runs"
    delete(make(runs_dir, "a"))
    (runs_dir / TRASH / "000001" / JOURNAL).write_text(journal)
    list_trash(runs_dir)
    if "restoring" in journal:
        delete(make(runs_dir, "other"))  # settles what was begun
        assert runs_in(runs_dir) == ["a"]
    else:
        assert restore_runs(runs_dir) == {"a": "a"}
    assert sorted(p.name for p in tmp_path.rglob("*") if p.name in {"a", "x"}) == ["a"]


# -- killed ------------------------------------------------------------------------------------


def nowhere_half(folder: Path) -> None:
    """Each of the two runs is whole in one place, and the trash works on."""
    found = runs_in(folder) + trashed(folder)
    assert sorted(found) == ["a", "b"]
    for item in list_trash(folder):
        assert len(list_checkpoints(RunDirectory(item.path).checkpoints)) == 3
        assert item.bytes > 0, "the journal was there first"


def test_killed_while_deleting(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        for name in "ab":
            make(folder, name)

    def check(folder: Path) -> None:
        nowhere_half(folder)
        gone = trashed(folder)
        delete(make(folder, "c"))
        journals = [json.loads(p.read_bytes()) for p in folder.glob(f"{TRASH}/*/{JOURNAL}")]
        assert {journal["state"] for journal in journals} == {"done"}, "what was begun is ended"
        restore_runs(folder, [*gone, "c"])
        assert runs_in(folder) == ["a", "b", "c"]
        delete(*(RunDirectory(folder / name) for name in "ab"))
        assert trashed(folder) == ["a", "b"]

    killed = kill_at_each_step(
        tmp_path, prepare, lambda f: delete(RunDirectory(f / "a"), RunDirectory(f / "b")), check
    )
    assert killed > 8


def test_killed_while_restoring(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        delete(make(folder, "a"), make(folder, "b"))
        (folder / "b").mkdir()

    def check(folder: Path) -> None:
        (folder / "b").rmdir()
        found = [p.name for p in folder.iterdir() if p.name != TRASH]
        assert sorted([*(n.removesuffix("_2") for n in found), *trashed(folder)]) == ["a", "b"]
        delete(make(folder, "c"))
        restore_runs(folder, ["c"])
        left = trashed(folder)
        assert not left or set(restore_runs(folder)) == set(left)
        back = {run.run_id.removesuffix("_2") for run in discover_runs(folder)}
        assert back == {"a", "b", "c"}
        assert not list((folder / TRASH).glob("0*"))

    assert kill_at_each_step(tmp_path, prepare, restore_runs, check) > 6


def test_killed_while_emptying(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        delete(make(folder, "a"))
        delete(make(folder, "b"))

    def check(folder: Path) -> None:
        for item in list_trash(folder):
            assert len(list_checkpoints(RunDirectory(item.path).checkpoints)) == 3, "whole or gone"
        empty_run_trash(folder)
        assert [p.name for p in (folder / TRASH).iterdir()] == ["lock"]

    assert kill_at_each_step(tmp_path, prepare, empty_run_trash, check) > 20
