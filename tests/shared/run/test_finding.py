"""Which run a reference names."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.run.finding import find_run
from shared.run.state import StateFile


def make(folder: Path, name: str = "shakes", started: float = 1.0) -> RunDirectory:
    folder.mkdir(parents=True)
    run = RunDirectory(folder)
    StateFile(run).update(run_name=name, started_at=started)
    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a run `shakes` below `runs/`."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/shakes_20260101_000000")
    return tmp_path


@pytest.mark.parametrize(
    "reference", ["shakes", "latest", "shakes_2026", "runs/shakes_20260101_000000"]
)
def test_a_run_by_name_id_beginning_latest_and_path(here: Path, reference: str) -> None:
    assert find_run(Path("runs"), reference).run_id == "shakes_20260101_000000"


@pytest.mark.parametrize("beside", ["shakes", "latest"])
def test_a_folder_of_the_same_name_does_not_hide_the_run(here: Path, beside: str) -> None:
    (here / beside).mkdir()
    (here / beside / "a.txt").write_text("text")
    assert find_run(Path("runs"), beside).run_id == "shakes_20260101_000000"


def test_a_run_and_another_run_in_a_folder_of_that_name_are_both_named(here: Path) -> None:
    other = make(here / "shakes", "other")
    with pytest.raises(UserError, match=r"could be the run shakes_2026\S+ or the run in \./shakes"):
        find_run(Path("runs"), "shakes")
    assert find_run(Path("runs"), "./shakes").path == other.path
    assert find_run(Path("runs"), "shakes_20260101_000000").run_id == "shakes_20260101_000000"


def test_a_run_is_itself_when_the_current_folder_is_the_runs_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / "runs")
    assert find_run(Path(), "shakes_20260101_000000").run_id == "shakes_20260101_000000"


@pytest.mark.parametrize("reference", ["", " ", "~nobody-of-this-name/x", "a\0b", "x" * 5000])
def test_what_names_no_run_is_a_sentence(here: Path, reference: str) -> None:
    with pytest.raises(UserError):
        find_run(Path("runs"), reference)
