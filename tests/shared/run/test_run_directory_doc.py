"""What `docs/run-directory.md` says is so: its writer works, its tables name what the code has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from shared.checkpoints import catalogue
from shared.control import requests as control
from shared.ownership import health, heartbeat
from shared.ownership.health import observe
from shared.ownership.heartbeat import read_beat
from shared.ownership.lock import lock_is_held
from shared.run import records
from shared.run.finding import find_run
from shared.run.metrics_log import MetricsReader

TEXT = (Path(__file__).parents[3] / "docs" / "run-directory.md").read_text()
[WRITER] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def section(title: str) -> str:
    return re.split(r"\n#+ ", TEXT.partition(f"# {title}\n")[2])[0]


def first_column(text: str) -> set[str]:
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_writer_on_the_page_can_be_watched(tmp_path: Path, spawn) -> None:
    paused = WRITER.replace("# your training step", "; step == 40 and (print(run), input())")
    child = spawn(paused.replace("sys.argv[1]", "sys.argv[-1]"), tmp_path)
    child.stdout.readline()
    run = find_run(tmp_path, "tiny")
    state = run.read_state()
    assert state is not None
    assert lock_is_held(run.lock_path)
    assert (state.status, state.current_step, state.max_steps) == ("running", 39, 50)
    assert observe(run, state).status == "running"
    beat = read_beat(run.heartbeat_path)
    assert beat is not None
    assert beat.process.is_alive()
    assert (beat.process.pid, run.heartbeat_path.stat().st_size) == (child.pid, 512)

    child.communicate("\n", timeout=240)
    state = run.read_state()
    assert state is not None
    assert observe(run, state) == health.Health("completed", alive=False)
    series = MetricsReader(run.metrics_path).read_all().series("loss")
    assert series.steps.tolist() == list(range(1, 51))
    assert series.values[-1] == state.current_loss == 4.0 / 50 + 1.0


def test_the_writer_of_the_page_seen_dead(tmp_path: Path, spawn) -> None:
    child = spawn(WRITER.replace("# your training step", "; step == 9 and input(run)"), tmp_path)
    child.stdout.read(1)
    child.kill()
    child.wait()
    run = find_run(tmp_path, "latest")
    assert observe(run, run.read_state()).status == "crashed"  # type: ignore[arg-type]


def test_every_field_of_the_state_is_on_the_page() -> None:
    named = {n for n in first_column(section("`run_state.json`")) if "." not in n}
    assert named == {f.name for f in dataclasses.fields(records.RunState)}


def test_statuses_actions_and_keys_are_those_of_the_code() -> None:
    status = section("Status")
    assert first_column(status) - {"crashed", "stalled"} == records.STATUSES
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", section("`control/`"), re.MULTILINE)
    served = {action: frozenset(who.split(", ")) for action, who in rows}
    assert {action: served.get(action) for action in control.ACTIONS} == dict(control.ACTIONS)
    assert first_column(section("`metrics.jsonl`")) >= records.RECORD_KEYS
    assert f"{health.STALLED_AFTER:.0f} s and more than {health.STALLED_STEPS:.0f} " in status
    assert f"younger than {heartbeat.DEAD_AFTER:.0f} s" in status
    assert {catalogue.LATEST, catalogue.BEST} <= first_column(section("`checkpoints/`"))
    assert f"`schema_version` is {records.SCHEMA_VERSION}" in section("Versions")
