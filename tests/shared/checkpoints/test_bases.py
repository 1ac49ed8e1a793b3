"""Which checkpoints other runs need."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.bases import (
    CLAIMS,
    bases_in,
    claim_bases,
    claimants,
    listed,
    set_aside,
    told,
)
from shared.checkpoints.catalogue import BASE_RECORD, WEIGHTS
from shared.checkpoints.manifest import file_sha256, write_manifest
from shared.library.deletion import doom_all
from shared.run.directory import RunDirectory


def run_in(runs_dir: Path, name: str, config: str = "", **state: Any) -> RunDirectory:
    run = RunDirectory(runs_dir / name)
    run.checkpoints.mkdir(parents=True)
    run.state_path.write_text(json.dumps({"run_id": name, "status": "queued", **state}))
    run.config_path.write_text(config)
    return run


def save(run: RunDirectory, step: int, weights: str = "w") -> Path:
    folder = run.checkpoints / f"step_{step}"
    folder.mkdir()
    (folder / WEIGHTS).write_text(weights)
    write_manifest(folder, step, {})
    return folder


def begins_from(folder: Path, dataset: str = "tokens") -> str:
    return f"data:\n  dataset: {dataset}\ncheckpoint:\n  begin_from: {folder}\n"


def needed(run: RunDirectory) -> dict[str, str]:
    return {name: told(needs) for name, needs in bases_in(run.checkpoints.resolve()).items()}


@pytest.fixture
def base(tmp_path: Path) -> RunDirectory:
    run = run_in(tmp_path / "runs", "base", status="completed")
    for step in (1, 2, 3):
        save(run, step, f"weights of {step}")
    return run


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"status": "queued"}, "the start of other"),
        ({"status": "running"}, "the start of other"),
        ({"status": "running", "latest_checkpoint": "step_1"}, None),
        ({"status": "failed"}, None),
        ({"status": "completed"}, None),
    ],
)
def test_what_a_run_starts_from_is_needed_until_it_has_its_own(
    base: RunDirectory, state: dict[str, Any], expected: str | None
) -> None:
    run_in(base.path.parent, "other", begins_from(base.checkpoints / "step_2"), **state)
    assert needed(base).get("step_2") == expected


@pytest.mark.parametrize(
    ("status", "expected"), [("running", True), ("failed", True), ("completed", False)]
)
def test_a_reference_is_needed_until_the_end(
    base: RunDirectory, status: str, expected: bool
) -> None:
    config = begins_from(base.checkpoints / "step_2", "pairs")
    run_in(base.path.parent, "dpo", config, status=status, latest_checkpoint="step_9")
    assert needed(base) == ({"step_2": "the reference of dpo"} if expected else {})


def adapters(run: RunDirectory, base: Path, digest: str = "") -> None:
    folder = run.checkpoints / "step_1"
    folder.mkdir()
    record = {"path": str(base.resolve()), "sha256": digest}
    (folder / BASE_RECORD).write_text(json.dumps(record))


def test_a_base_that_was_set_aside_is_known_by_its_digest(base: RunDirectory) -> None:
    folder = base.checkpoints / "step_2"
    text = f"{WEIGHTS} {file_sha256(folder / WEIGHTS)}\n"
    lora = run_in(base.path.parent, "lora", status="completed")
    adapters(lora, folder, hashlib.sha256(text.encode()).hexdigest())
    assert needed(base) == {"step_2": "the base of the adapters in lora"}
    aside = base.checkpoints / "superseded_2_step_2"
    folder.rename(aside)
    save(base, 2, "other weights")
    assert needed(base) == {"superseded_2_step_2": "the base of the adapters in lora"}
    assert set_aside(folder) == [aside]
    lora.path.rename(lora.path.with_name(".gone"))
    assert needed(base) == {}


def test_a_base_without_a_digest_is_kept_under_either_name(base: RunDirectory) -> None:
    adapters(run_in(base.path.parent, "lora"), base.checkpoints / "step_2")
    (base.checkpoints / "superseded_1_step_2").mkdir()
    assert set(needed(base)) == {"step_2", "superseded_1_step_2"}


def test_a_run_of_another_folder_is_known_by_its_note(base: RunDirectory, tmp_path: Path) -> None:
    config = begins_from(base.checkpoints / "step_3")
    far = run_in(tmp_path / "elsewhere", "far", config)
    assert needed(base) == {}
    claim_bases(far)
    claim_bases(far)
    assert needed(base) == {"step_3": "the start of far"}
    assert len(list((base.path / CLAIMS).iterdir())) == 1
    [doomed] = doom_all([base])
    assert "far cannot start without its checkpoints" in doomed.describe()[-1]
    far.state_path.write_text('{"status": "completed"}')
    assert needed(base) == {}, "the note only says where to look"
    far.path.rename(tmp_path / "moved")
    assert claimants(base) == []


def test_adapters_on_adapters_claim_the_base_of_all(base: RunDirectory, tmp_path: Path) -> None:
    middle = run_in(tmp_path / "b", "middle", status="completed")
    adapters(middle, base.checkpoints / "step_1")
    last = run_in(tmp_path / "c", "last", begins_from(middle.checkpoints / "step_1"))
    claim_bases(last)
    assert [run.run_id for run in claimants(base)] == ["last"]
    assert [run.run_id for run in claimants(middle)] == ["last"]


def test_a_neighbour_leaves_no_note(base: RunDirectory) -> None:
    claim_bases(run_in(base.path.parent, "near", begins_from(base.checkpoints / "step_3")))
    assert not (base.path / CLAIMS).exists()


def test_spoilt_notes_are_ignored(base: RunDirectory) -> None:
    (base.path / CLAIMS).mkdir()
    for number, note in enumerate((b"", b"\0", b"relative", b"/no/such/run", b"x" * 9000)):
        (base.path / CLAIMS / f"note{number}").write_bytes(note)
    (base.path / CLAIMS / "folder").mkdir()
    assert needed(base) == {}


@pytest.mark.parametrize(
    "config",
    ["", "x: [", "checkpoint: {begin_from: 5}", 'checkpoint: {begin_from: "\\0"}', "- begin_from"],
)
def test_a_spoilt_configuration_needs_nothing(base: RunDirectory, config: str) -> None:
    other = run_in(base.path.parent, "other", config)
    claim_bases(other)
    assert needed(base) == {}


def test_many_runs_are_counted() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"]) == "a, b and 2 more"
