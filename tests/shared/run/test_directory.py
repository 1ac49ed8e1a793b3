"""Runs are created without collisions and found by whatever a person types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from shared.files import write_json
from shared.run.directory import (
    NAME_LIMIT,
    RunDirectory,
    create_run,
    discover_runs,
    slug,
)
from shared.run.finding import find_run
from shared.run.records import RunState

NOW = 1_700_000_000.0


def sentence(error: UserError) -> str:
    """The message, one clear sentence on one line."""
    text = str(error)
    assert text.endswith(".")
    assert text.isprintable()
    return text


def make(runs_dir: Path, name: str, started: float = NOW) -> RunDirectory:
    run = create_run(runs_dir, name, started)
    state = RunState(run_id=run.run_id, run_name=name, started_at=started)
    write_json(run.state_path, state.to_json())
    return run


def test_runs_created_in_the_same_second_do_not_collide(tmp_path: Path) -> None:
    ids = [create_run(tmp_path / "new" / "runs", "x", NOW).run_id for _ in range(4)]
    assert re.fullmatch(r"x_\d{8}_\d{6}", ids[0])
    assert ids[1:] == [f"{ids[0]}_{n}" for n in (2, 3, 4)]
    run = RunDirectory(tmp_path / "new" / "runs" / ids[0])
    assert run.checkpoints.is_dir()
    assert run.samples.is_dir()
    assert run.control.is_dir()


def test_a_runs_dir_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="--runs-dir") as error:
            create_run(bad, "x")
        sentence(error.value)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters()))
def test_any_name_becomes_a_plain_folder_name_or_an_error(name: str) -> None:
    try:
        cleaned = slug(name)
    except UserError as error:
        sentence(error)
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", cleaned)
    assert len(cleaned) <= NAME_LIMIT
    assert slug(cleaned) == cleaned.strip("-.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("a\0b", "a-b"),
        ("mini 🚀 gpt", "mini-gpt"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("x" * 300, "x" * 100),
    ],
)
def test_hostile_names_are_made_plain(tmp_path: Path, name: str, expected: str) -> None:
    assert slug(name) == expected
    assert create_run(tmp_path, name).path.parent == tmp_path


@pytest.mark.parametrize("name", ["", "..", "🚀", "///", "\x1b"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="use letters and digits") as error:
        slug(name)
    sentence(error.value)


def test_discover_finds_states_and_bare_metrics(tmp_path: Path) -> None:
    second, first = make(tmp_path, "b"), make(tmp_path, "a")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metrics.jsonl").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "metrics.jsonl").write_text("")
    (tmp_path / "file").write_text("x")
    assert [r.run_id for r in discover_runs(tmp_path)] == [first.run_id, second.run_id, "foreign"]
    with pytest.raises(FileNotFoundError):
        discover_runs(tmp_path / "absent")


def test_a_run_is_found_by_id_path_name_beginning_and_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    old, new = make(runs, "gpt", NOW), make(runs, "gpt", NOW + 1000)
    other = make(runs, "other", NOW + 500)
    (runs / "foreign").mkdir()
    (runs / "foreign" / "metrics.jsonl").write_text("")

    def found(reference: str) -> str:
        return find_run(runs, reference).run_id

    assert found(old.run_id) == old.run_id
    assert found(str(old.path)) == old.run_id
    assert found(str(runs / "foreign")) == "foreign"
    assert found("gpt") == new.run_id
    assert found("latest") == new.run_id
    assert found("oth") == other.run_id
    monkeypatch.chdir(old.path)
    assert found(".") == old.run_id
    monkeypatch.chdir(tmp_path)
    assert found(f"runs/{old.run_id}/") == old.run_id
    assert find_run(runs, f"runs/{old.run_id}").path.is_absolute()


@pytest.mark.parametrize(
    "reference", ["", "gp", "nothing", "../x", "a\0b", "x" * 5000, "\x1b[2J", "runs/absent", "gtp"]
)
def test_what_cannot_be_found_is_told_in_one_sentence(tmp_path: Path, reference: str) -> None:
    make(tmp_path, "gpt", NOW)
    make(tmp_path, "gpt", NOW + 1000)
    with pytest.raises(UserError) as error:
        find_run(tmp_path, reference)
    sentence(error.value)
    if reference == "gp":
        assert "could mean 2 runs" in str(error.value)
    if reference == "gtp":
        assert "did you mean" in str(error.value)


def test_a_missing_runs_dir_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--runs-dir") as error:
        find_run(tmp_path / "absent", "latest")
    sentence(error.value)
    with pytest.raises(UserError, match="holds 0 runs") as error:
        find_run(tmp_path, "latest")
    sentence(error.value)


def test_hostile_run_ids_do_not_reach_the_terminal(tmp_path: Path) -> None:
    for tail in "ab":
        (tmp_path / f"evil\x1b[2J{tail}").mkdir()
        (tmp_path / f"evil\x1b[2J{tail}" / "metrics.jsonl").write_text("")
    for reference in ("evil", "evi\x1b[2Ja"):
        with pytest.raises(UserError) as error:
            find_run(tmp_path, reference)
        sentence(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\0" * 100, b"\xff"])
def test_an_unreadable_state_is_none(tmp_path: Path, content: bytes) -> None:
    run = create_run(tmp_path, "x")
    assert run.read_state() is None
    run.state_path.write_bytes(content)
    assert run.read_state() is None
    run.state_path.write_bytes(b'{"status": "running", "new_key": 1}')
    assert run.read_state() == RunState(status="running")
