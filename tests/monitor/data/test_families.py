"""The runs of a pipeline: together in the list, with their stages and what those measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.data.follower import RunFollower
from monitor.data.stages import StagesFollower
from monitor.list_order import ListOrder, arrange
from monitor.report import report
from shared.checkpoints.suites import Figure, SuiteResult, add_suites
from shared.run.directory import RunDirectory
from tests.monitor.support import NOW, screen_text, snapshot, still_app, until, view

RUNS = (
    view("other_1"),
    view("p-rl_1", name="p-rl", group="p", stage="rl", started_at=NOW, is_best=True),
    view("alone_1"),
    view("p_1", name="p", group="p", stage="pipeline", phase="rl", started_at=NOW - 9),
    view("p-supervised_1", name="p-supervised", group="p", stage="supervised", started_at=NOW - 5),
)
FAMILY = ["p_1", "p-supervised_1", "p-rl_1"]


@pytest.mark.parametrize(("sort", "grouped"), [("activity", False), ("newest", True)])
def test_the_runs_of_a_pipeline_stay_together(sort: str, grouped: bool) -> None:
    listing = arrange(RUNS, ListOrder(sort, grouped=grouped))
    ids = [run.run_id for run in listing.runs]
    at = ids.index("p_1")
    assert ids[at : at + 3] == FAMILY
    assert sorted(ids) == sorted(run.run_id for run in RUNS)
    assert listing.stages == set(FAMILY[1:])


def test_other_orders_and_lost_pipelines_are_borne() -> None:
    assert arrange(RUNS, ListOrder("loss")).stages == frozenset()
    without = [run for run in RUNS if run.run_id != "p_1"]
    assert arrange(without, ListOrder()).stages == frozenset()
    assert len(arrange(without, ListOrder()).runs) == len(without)


async def test_the_list_shows_a_family() -> None:
    app = still_app(*RUNS)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "└ p-supervised" in screen_text(app))
        assert "p · rl" in screen_text(app)


def test_stages_and_suites_are_told(tmp_path: Path) -> None:
    stages = [
        {"name": "prepare", "status": "done", "seconds": 3.5, "facts": {"result": "2,000 tasks"}},
        {"name": "rl", "status": "skipped", "reason": "no rustc\x1b[2J"},
    ]
    (tmp_path / "pipeline.json").write_text(json.dumps({"name": "p", "stages": stages}))
    folder = tmp_path / "checkpoints" / "step_10"
    folder.mkdir(parents=True)
    figures = {"compile_rate": Figure(0.61, 0.5, 0.7, 64), "complexity": Figure(2.0)}
    add_suites(folder, [SuiteResult("tasks", "rust", "a", 64, 64, {}, figures, NOW, 1.0)])
    follower = RunFollower(RunDirectory(tmp_path))
    while follower.more:
        follower.poll()
    detail = follower.detail()
    assert [(s.name, s.status, s.text) for s in detail.stages] == [
        ("prepare", "done", "2,000 tasks"),
        ("rl", "skipped", "no rustc[2J"),
    ]
    assert detail.suites == {"step_10": ("tasks: compiles 61.0 %",)}
    (told,) = report(snapshot(view(tmp_path.name), detail=detail))["runs"]
    assert told["stages"][0]["seconds"] == 3.5
    assert told["suites"] == {"step_10": ["tasks: compiles 61.0 %"]}


JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["stages", "name", "status", "facts"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JUNK)
def test_any_file_is_borne(tmp_path: Path, value: object) -> None:
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps({"stages": value}))
    follower = StagesFollower(path)
    follower.poll()
    assert all(stage.name == stage.name.replace("\x1b", "") for stage in follower.stages)
