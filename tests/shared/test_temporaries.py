"""Temporary files: gone with their process, or swept by the next one; never those of a live one."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from shared.errors import RunError
from shared.output_file import write_output
from shared.temporaries import (
    put_folder,
    sweep,
    temporary_file,
    temporary_folder,
    temporary_place,
)


def leftover(target: Path, *, folder: bool = False) -> Path:
    """What a process leaves that is killed while it writes `target`."""
    if folder:
        with temporary_folder(target) as path:
            pass
        path.mkdir()
        (path / "weights").write_bytes(b"half")
        return path
    with temporary_file(target) as (path, _):
        pass
    path.write_bytes(b"half")
    return path


@pytest.mark.parametrize("name", ["model.gguf", "x" * 255, "é" * 127, "\udcff.svg"])
def test_the_next_output_sweeps_what_a_killed_process_left(name: str, tmp_path: Path) -> None:
    leftover(tmp_path / "other.gguf")
    leftover(tmp_path / "folder", folder=True)
    leftover(tmp_path / name)
    assert write_output(tmp_path / name, [b"whole"]) == 5
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_running_process_writes_stays(tmp_path: Path) -> None:
    with (
        temporary_file(tmp_path / "a") as (path, file),
        temporary_folder(tmp_path / "b") as folder,
    ):
        write_output(tmp_path / "c", [b"c"])
        sweep(tmp_path)
        file.write(b"whole")
        file.flush()
        assert path.read_bytes() == b"whole" and folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_other_names_are_not_temporaries(tmp_path: Path) -> None:
    names = ["a.part-00000000-1-1", ".a.part-1-1", ".a.part", ".replaced", ".a.tmp-1-1"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".link.part-00000000-1-1").symlink_to(tmp_path / names[0])
    (tmp_path / ".config.replaced").mkdir()
    (tmp_path / ".notes.replaced").write_text("mine")
    (tmp_path / "config").mkdir()
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_another_host_may_still_write_it(tmp_path: Path) -> None:
    path = leftover(tmp_path / "model.gguf")
    other = path.rename(path.with_name(re.sub("part-[0-9a-f]{8}", "part-01234567", path.name)))
    sweep(tmp_path)
    assert other.exists()
    os.utime(other, (1, 1))
    sweep(tmp_path)
    assert not other.exists()


def test_a_folder_set_aside_is_given_back(tmp_path: Path) -> None:
    """A process was killed between the two renames that replace a folder."""
    other = tmp_path / ".model.replaced-01234567-1-1"  # another host may be at work on it
    other.mkdir()
    sweep(tmp_path)
    assert other.exists()
    mark = leftover(tmp_path / "model").name.rpartition(".part-")[2]
    sweep(tmp_path)
    aside = tmp_path / f".model.replaced-{mark}"
    other.rename(aside)
    (aside / "weights").write_text("old")
    sweep(tmp_path)
    assert (tmp_path / "model" / "weights").read_text() == "old" and not aside.exists()
    aside.mkdir()  # the new one is in its place
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with temporary_folder(target) as folder:
            (folder / "weights").write_text(content)
            put_folder(folder, target)
        assert (target / "weights").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_no_place_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", full)
    with pytest.raises(RunError, match="TMPDIR"):
        temporary_place()
