"""RUN, RUN:STEP and PATH, as every command reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.run.state import StateFile
from trainer.checkpoint.references import resolve_reference

RUNS = Path("runs")
RUN = "shakes_20260101_000000"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a run `shakes` that has two checkpoints below `runs/`."""
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "runs" / RUN)
    run.path.mkdir(parents=True)
    StateFile(run).update(run_name="shakes", started_at=1.0)
    run.config_path.write_text("name: shakes\n")
    for name in ("step_4", "step_8"):
        weights(run.checkpoints / name)
    return tmp_path


def weights(folder: Path) -> Path:
    """What looks like a checkpoint from outside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(16))
    (folder / "manifest.json").write_text('{"files": {}}')
    return folder


@pytest.mark.parametrize(
    ("reference", "path", "checkpoint"),
    [
        ("shakes", f"runs/{RUN}", False),
        ("latest", f"runs/{RUN}", False),
        (f"runs/{RUN}", f"runs/{RUN}", False),
        (f"runs/{RUN}/checkpoints", f"runs/{RUN}/checkpoints", False),
        ("shakes:4", f"runs/{RUN}/checkpoints/step_4", True),
        ("shakes:step_8", f"runs/{RUN}/checkpoints/step_8", True),
        ("latest:4", f"runs/{RUN}/checkpoints/step_4", True),
        (f"runs/{RUN}:4", f"runs/{RUN}/checkpoints/step_4", True),
        (f"runs/{RUN}/checkpoints:4", f"runs/{RUN}/checkpoints/step_4", True),
        (f"runs/{RUN}/checkpoints/step_8", f"runs/{RUN}/checkpoints/step_8", True),
    ],
)
def test_every_form(here: Path, reference: str, path: str, checkpoint: bool) -> None:
    meant = resolve_reference(reference, RUNS)
    assert meant.path == here / path
    assert meant.checkpoint is checkpoint
    assert meant.run is not None
    assert meant.run.run_id == RUN


def test_a_folder_of_text_does_not_hide_the_run(here: Path) -> None:
    (here / "shakes").mkdir()
    (here / "shakes/a.txt").write_text("text")
    assert resolve_reference("shakes", RUNS).path.name == RUN
    assert resolve_reference("./shakes", RUNS).path == here / "shakes"


def test_a_model_of_the_same_name_makes_the_word_ambiguous(here: Path) -> None:
    weights(here / "shakes")
    for reference in ("shakes", "shakes:4"):
        with pytest.raises(UserError) as told:
            resolve_reference(reference, RUNS)
        assert RUN in str(told.value)
        assert "./shakes" in str(told.value)
    assert resolve_reference("./shakes", RUNS).checkpoint


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", "is empty"),
        ("shakse", "did you mean shakes"),
        ("shakes:5", "the nearest are 4 and 8"),
        ("nothing:5", "no run 'nothing'"),
        ("500", "name its run too, such as RUN:500"),
        ("~nobody-of-this-name/x", "home folder of a user"),
        ("./nothing", "no checkpoint at ./nothing"),
        (f"runs/{RUN}/checkpoints/step_4:8", "one checkpoint already"),
        ("a\0b", "not a name or a path"),
        ("x" * 5000, "no run"),
        ("\udcff\udcfe", "no run"),
    ],
)
def test_what_names_nothing_is_one_sentence(here: Path, reference: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve_reference(reference, RUNS)
