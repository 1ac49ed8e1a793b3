"""Which checkpoints there are, through damage, half-done removals and lying links."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.catalogue import (
    BEST,
    FINAL,
    LATEST,
    claimed,
    clean_leftovers,
    in_use,
    is_checkpoint,
    is_in_use,
    link_target,
    list_checkpoints,
    list_set_aside,
    newest_sound,
    remove_checkpoint,
    remove_counterparts,
    set_aside_damaged,
    set_link,
    step_folder,
)
from shared.checkpoints.manifest import MANIFEST, PACKED, write_manifest
from shared.errors import RunError


def save(checkpoints: Path, step: int, name: str = "", **facts: float | None) -> Path:
    folder = checkpoints / name if name else step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights %d" % step * 50)
    (folder / "config.json").write_text("{}")
    write_manifest(folder, step, facts)
    return folder


def names(checkpoints: Path) -> list[str]:
    return [c.name for c in list_checkpoints(checkpoints)]


def test_checkpoints_are_listed_by_step_with_their_facts(tmp_path: Path) -> None:
    save(tmp_path, 100, loss=2.5, val_loss=2.75)
    save(tmp_path, 9, loss=None)
    save(tmp_path, 100, FINAL)
    set_link(tmp_path, LATEST, tmp_path / FINAL)
    set_link(tmp_path, BEST, step_folder(tmp_path, 100))
    (tmp_path / "step_x").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "step_7").write_text("a file")
    nine, hundred, final = list_checkpoints(tmp_path)
    assert (nine.name, hundred.name, final.name) == ("step_9", "step_100", "final")
    assert (hundred.loss, hundred.val_loss, nine.loss) == (2.5, 2.75, None)
    assert (hundred.is_best, hundred.is_latest, final.is_latest) == (True, False, True)
    assert all(c.whole and c.created_at > 0 for c in (nine, hundred, final))
    assert hundred.bytes == len(b"weights 100") * 50 + 2
    assert list_checkpoints(tmp_path / "absent") == []


def test_a_damaged_checkpoint_is_listed_but_not_whole(tmp_path: Path) -> None:
    (save(tmp_path, 1) / MANIFEST).unlink()
    (save(tmp_path, 2) / "model.safetensors").write_bytes(b"short")
    (save(tmp_path, 3) / "config.json").unlink()
    save(tmp_path, 4)
    assert [(c.step, c.whole) for c in list_checkpoints(tmp_path)] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
    ]


def test_the_newest_sound_one_is_found_whatever_the_links_say(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    set_link(tmp_path, LATEST, step_folder(tmp_path, 4))
    assert newest_sound(tmp_path)[0] == list_checkpoints(tmp_path)[-1]
    weights = step_folder(tmp_path, 4) / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"4", b"5", 1))  # same size
    (step_folder(tmp_path, 3) / MANIFEST).write_bytes(b"{")
    found, problems = newest_sound(tmp_path)
    assert found is not None
    assert found.step == 2
    assert problems == [
        "step_4/model.safetensors does not match its checksum",
        "step_3/manifest.json is missing or unreadable",
    ]
    for step in (1, 2):
        shutil.rmtree(step_folder(tmp_path, step))
    assert newest_sound(tmp_path)[0] is None
    assert newest_sound(tmp_path / "absent") == (None, [])


def test_a_removal_killed_halfway_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    doomed = save(tmp_path, 2)

    def killed(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_checkpoint(doomed)
    assert names(tmp_path) == ["step_1"]
    save(tmp_path, 2)
    remove_checkpoint(step_folder(tmp_path, 2))  # over the leftover
    assert names(tmp_path) == ["step_1"]
    assert [p.name for p in tmp_path.iterdir()] == ["step_1"]
    with pytest.raises(FileNotFoundError):
        remove_checkpoint(step_folder(tmp_path, 2))


def test_leftovers_are_cleaned_and_nothing_else(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 5, ".tmp-step_5-4242")
    save(tmp_path, 4, ".removing-step_4")
    (tmp_path / ".latest.tmp-4242-3").symlink_to("step_1")
    (tmp_path / ".keep").mkdir()
    save(tmp_path / ".trash" / "000001", 3)
    assert names(tmp_path) == ["step_1"]
    assert clean_leftovers(tmp_path) == [
        ".removing-step_4",
        ".tmp-step_5-4242",
        ".latest.tmp-4242-3",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".keep", ".trash", "step_1"]
    assert names(tmp_path / ".trash" / "000001") == ["step_3"]
    assert clean_leftovers(tmp_path / "absent") == []


def test_links_are_hints(tmp_path: Path) -> None:
    assert link_target(tmp_path, LATEST) is None
    set_link(tmp_path, LATEST, tmp_path / "step_1")
    set_link(tmp_path, LATEST, tmp_path / "step_2")
    assert link_target(tmp_path, LATEST) == "step_2"
    assert not (tmp_path / LATEST).exists()  # dangling, and still no trouble
    save(tmp_path, 1)
    assert [(c.name, c.is_latest) for c in list_checkpoints(tmp_path)] == [("step_1", False)]


def test_what_looks_like_a_checkpoint(tmp_path: Path) -> None:
    assert is_checkpoint(save(tmp_path, 1))
    assert not is_checkpoint(tmp_path)
    (tmp_path / "step_1" / "model.safetensors").unlink()
    assert not is_checkpoint(tmp_path / "step_1")


# -- damaged ones set aside --------------------------------------------------------------------


def spoil(folder: Path) -> None:
    """Another byte in the weights, of the same size."""
    weights = folder / "model.safetensors"
    weights.write_bytes(b"W" + weights.read_bytes()[1:])


def test_damaged_newer_ones_are_renamed_and_their_links_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    save(tmp_path, 4, FINAL)
    spoil(step_folder(tmp_path, 1))  # older: nobody looks at it
    spoil(step_folder(tmp_path, 3))
    (step_folder(tmp_path, 4) / MANIFEST).write_bytes(b"{")
    (tmp_path / FINAL / "config.json").unlink()
    (tmp_path / "step_4.corrupt").mkdir()
    set_link(tmp_path, LATEST, step_folder(tmp_path, 4))
    set_link(tmp_path, BEST, step_folder(tmp_path, 2))
    sound, _ = newest_sound(tmp_path)
    assert sound is not None
    moved = set_aside_damaged(tmp_path, sound.path)
    assert [(m.name, m.moved_to, m.message) for m in moved] == [
        ("step_3", "step_3.corrupt", "step_3/model.safetensors does not match its checksum"),
        ("step_4", "step_4.corrupt-2", "step_4/manifest.json is missing or unreadable"),
        ("final", "final.corrupt", "final/config.json cannot be read: No such file or directory"),
    ]
    assert names(tmp_path) == ["step_1", "step_2"]
    assert link_target(tmp_path, LATEST) is None
    assert link_target(tmp_path, BEST) == "step_2"
    assert (tmp_path / "step_3.corrupt" / "model.safetensors").is_file()
    save(tmp_path, 9, "superseded_2_step_9")
    assert [[p.name for p in paths] for paths in list_set_aside(tmp_path)] == [
        ["final.corrupt", "step_3.corrupt", "step_4.corrupt", "step_4.corrupt-2"],
        ["superseded_2_step_9"],
    ]
    assert set_aside_damaged(tmp_path, sound.path) == []


def test_sound_newer_ones_and_those_of_another_run_are_let_be(tmp_path: Path) -> None:
    for place in ("one", "two"):
        save(tmp_path / place, 1)
        save(tmp_path / place, 2)
    spoil(tmp_path / "two" / "step_2")
    assert set_aside_damaged(tmp_path / "one", tmp_path / "one" / "step_1") == []
    assert set_aside_damaged(tmp_path / "two", tmp_path / "one" / "step_1") == []
    assert names(tmp_path / "two") == ["step_1", "step_2"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", ["model.safetensors", MANIFEST])
def test_what_cannot_be_read_now_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    spoil(step_folder(tmp_path, 2))  # and who knows, since it cannot be read
    original = Path.open

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path == step_folder(tmp_path, 2) / name:
            raise OSError(code, os.strerror(code), str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    found, problems = newest_sound(tmp_path)
    assert found is not None
    assert (found.name, len(problems)) == ("step_1", 1)
    assert set_aside_damaged(tmp_path, found.path) == []
    assert names(tmp_path) == ["step_1", "step_2"]


# -- use ---------------------------------------------------------------------------------------


def test_readers_share_and_an_owner_to_be_waits(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    assert not is_in_use(folder)
    with in_use(folder):
        with in_use(folder):
            assert is_in_use(folder)
        with claimed(folder) as free:
            assert not free
    with claimed(folder) as free:
        assert free
    assert not is_in_use(folder)
    (folder / MANIFEST).unlink()
    with in_use(folder), claimed(folder) as free:
        assert free, "nothing to lock is nothing in use"


def test_a_reader_does_not_wait_for_ever(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    with (
        claimed(folder),
        pytest.raises(RunError, match="being removed or compressed"),
        in_use(folder, patience=0.05),
    ):
        pass


def test_a_reader_that_opened_the_manifest_too_early_locks_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, 1)
    original, calls = fcntl.flock, []

    def late(fd: int, kind: int) -> None:
        if not calls:  # between our opening and our locking another process packed it
            shutil.copy(folder / MANIFEST, folder / "new")
            (folder / "new").replace(folder / MANIFEST)
        calls.append(fd)
        original(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with in_use(folder):
        assert is_in_use(folder)


def test_without_flock_nothing_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)

    def refuse(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with in_use(folder):
        assert not is_in_use(folder)


# -- packed ------------------------------------------------------------------------------------


def test_the_other_form_of_a_file_is_a_leftover(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    name = "model.safetensors" + PACKED
    (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("a person's")
    assert clean_leftovers(tmp_path) == [f"step_1/{name}"]
    (folder / name).write_bytes(b"whole")
    plain = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    write_manifest(folder, 1, {}, packed={"model.safetensors": (5, "0" * 64)})
    assert is_checkpoint(folder)
    assert list_checkpoints(tmp_path)[0].packed
    (folder / "model.safetensors").write_bytes(plain)
    assert remove_counterparts(folder) == ["model.safetensors"]
    (folder / "model.safetensors").write_bytes(plain)
    (folder / name).unlink()  # the manifest's own file is gone: then nothing is sure
    assert remove_counterparts(folder) == []


def test_checkpoints_of_transformers_count_once_they_have_a_manifest(tmp_path: Path) -> None:
    for step in (5, 20):
        save(tmp_path, step, f"checkpoint-{step}", val_loss=1.0)
    (tmp_path / "checkpoint-30").mkdir()  # being saved, or saved by a trainer we know nothing of
    set_link(tmp_path, LATEST, tmp_path / "checkpoint-20")
    assert [(c.name, c.step, c.whole) for c in list_checkpoints(tmp_path)] == [
        ("checkpoint-5", 5, True),
        ("checkpoint-20", 20, True),
    ]
    (tmp_path / "checkpoint-20" / "model.safetensors").write_bytes(b"cut")
    assert [c.whole for c in list_checkpoints(tmp_path)] == [True, False]
    sound, problems = newest_sound(tmp_path)
    assert sound is not None and sound.name == "checkpoint-5" and len(problems) == 1
    (aside,) = set_aside_damaged(tmp_path, sound.path)
    assert aside.moved_to == "checkpoint-20.corrupt"
    assert [p.name for p in list_set_aside(tmp_path)[0]] == ["checkpoint-20.corrupt"]
