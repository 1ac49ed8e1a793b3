"""Folders and globs of text do not bring in what this program wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from trainer.data.inputs import find_inputs
from trainer.data.prepare import PrepareSettings, prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Text, beside what two preparations, a run, a checkpoint and an export left."""
    (tmp_path / "a.txt").write_text("some text\n" * 200)
    for output in ("data", "older"):
        prepare(PrepareSettings([str(tmp_path / "a.txt")], str(tmp_path / output), vocab_size=270))
    for path in (
        "runs/x_1/run_state.json",
        "runs/x_1/train.log",
        "runs/x_1/samples/step_5.txt",
        "runs/y_1/metrics.jsonl",
        "runs/y_1/events.jsonl",
        "kept/step_5/manifest.json",
        "kept/step_5/config.json",
        "kept/step_5/README.md",
        "exported/config.json",
        "exported/tokenizer.json",
        "notes/config.json",
        "notes/tokenizer.md",
    ):
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*", "/**/*"])
def test_they_are_skipped_and_counted(folder: Path, pattern: str) -> None:
    found = find_inputs([str(folder) + pattern])
    names = {file.path.relative_to(folder).as_posix() for file in found.files}
    texts = {name for name in names if not name.endswith(".bin")}
    assert texts == {"a.txt", "notes/config.json", "notes/tokenizer.md"}
    assert found.own_folders == 3
    assert found.own_files >= 8


def test_what_is_named_is_read(folder: Path) -> None:
    log = folder / "runs/x_1/train.log"
    assert [file.path for file in find_inputs([str(log)]).files] == [log]
    samples = find_inputs([str(folder / "runs/x_1/samples")])
    assert [file.path.name for file in samples.files] == ["step_5.txt"]


def test_the_second_preparation_reads_the_same_text(folder: Path) -> None:
    first = prepare(PrepareSettings([str(folder)], str(folder / "one"), vocab_size=270))
    again = prepare(PrepareSettings([str(folder)], str(folder / "two"), vocab_size=270))
    assert again.train_sidecar == first.train_sidecar
    assert any("of runs or checkpoints skipped" in note for note in again.notes)


@pytest.mark.parametrize("pattern", ["", "  "])
def test_an_empty_name_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match="empty"):
        find_inputs([pattern])
