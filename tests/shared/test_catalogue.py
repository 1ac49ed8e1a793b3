"""Which checkpoints there are, through damage, half-done removals and lying links."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared import catalogue
from shared.catalogue import (
    BEST,
    FINAL,
    LATEST,
    clean_leftovers,
    is_checkpoint,
    link_target,
    list_checkpoints,
    newest_sound,
    remove_checkpoint,
    set_link,
    step_folder,
)
from shared.manifest import MANIFEST, write_manifest


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
        patch.setattr(catalogue.shutil, "rmtree", killed)
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
    assert names(tmp_path) == ["step_1"]
    assert clean_leftovers(tmp_path) == [
        ".removing-step_4",
        ".tmp-step_5-4242",
        ".latest.tmp-4242-3",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".keep", "step_1"]
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
