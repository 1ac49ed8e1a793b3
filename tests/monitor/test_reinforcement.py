"""Runs with rewards: their figures, the page of rewards, the answers on the page of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pytest_textual_snapshot import SVGImageExtension

from monitor.data.main_metric import beside, main_key
from monitor.data.views import AnswerView, EventView, RunDetail, RunView
from monitor.plots.spread import spread_of
from monitor.reinforcement import Reinforcement, has_rewards, reinforcement
from monitor.report import report
from monitor.widgets.answers_page import AnswerText
from shared.run.metrics_rows import Series
from tests.monitor.support import NOW, screen_text, series, snapshot, still_app, until, view

ITERATIONS = 40
WARNED = "The reward rises, but held-out code compiles no more often."


def figures() -> dict[str, Series]:
    """The records of iterations of two steps each, and of four evaluations."""
    rise = np.linspace(0, 1, ITERATIONS)
    per_iteration = {
        "iteration": 1 + np.arange(ITERATIONS),
        "reward_mean": 0.2 + 0.3 * rise,
        "reward_std": 0.2 - 0.1 * rise,
        "reward_parse": 0.08 + 0.02 * rise,
        "reward_compile": 0.12 + 0.28 * rise,
        "parse_rate": 0.8 + 0.2 * rise,
        "compile_rate": 0.3 + 0.5 * rise,
        "entropy": 1.0 - 0.5 * rise,
        "completion_length": 100 - 20 * rise,
        "dropped_groups": 4 - 2 * rise,
        "rollout_seconds": np.full(ITERATIONS, 6.0),
        "reward_seconds": np.full(ITERATIONS, 2.0),
    }
    found = {key: series(key, values, every=2) for key, values in per_iteration.items()}
    found["loss"] = series("loss", np.zeros(2 * ITERATIONS))
    found["step_time_ms"] = series("step_time_ms", [9000.0, 1000.0] * ITERATIONS)
    held_out = {"val_reward": [0.2, 0.25, 0.3, 0.32], "val_compile_rate": [0.3, 0.3, 0.31, 0.3]}
    found |= {key: series(key, values, every=20) for key, values in held_out.items()}
    return found


def an_answer(number: int, **fields: Any) -> AnswerView:
    values: dict[str, Any] = {
        "prompt_id": f"slices/sum-{number}",
        "prompt": "/// The sum of `values`.\npub fn sum(values: &[i64]) -> i64 {\n",
        "completion": "    let mut total = 0;\n    total = values\n}\n",
        "given": 22,
        "reward": 0.15,
        "parts": (("parse", 0.1), ("compile", 0.0), ("tests", 0.0), ("style", 0.05)),
        "parsed": True,
        "compiled": False,
        "messages": ("error[E0308]: mismatched types\n --> 3:13",),
        "tokens": 42,
    }
    return AnswerView(iteration=40, **{**values, **fields})


def run(**fields: Any) -> tuple[RunView, RunDetail]:
    found = figures()
    solved = {"reward": 1.0, "compiled": True, "tested": True, "messages": ()}
    values: dict[str, Any] = {
        "answers": tuple(an_answer(n, **(solved if n % 3 == 0 else {})) for n in range(12)),
        "events": (EventView(NOW, 60, "advice", WARNED),),
        "version": 1,
        "newest": {"step": 2.0 * ITERATIONS - 1},
    }
    detail = RunDetail(
        "run_1", found["reward_mean"], series("val_loss", ()), found, **{**values, **fields}
    )
    return view(step=79, max_steps=100, phase="rl", loss=-0.01), detail


def test_figures_of_the_first_and_the_last_iterations() -> None:
    _, detail = run()
    found = reinforcement(detail)
    rows = {row.key: row for row in found.rows}
    assert found.iteration == ITERATIONS
    reward = rows["reward_mean"]
    assert reward.training is not None
    assert reward.held_out is not None
    rise = np.linspace(0, 1, ITERATIONS)
    assert reward.training.first == pytest.approx(0.2 + 0.3 * rise[:10].mean())
    assert reward.training.now == pytest.approx(0.2 + 0.3 * rise[-10:].mean())
    assert reward.held_out.now == 0.32
    assert rows["compile_rate"].held_out is not None
    assert rows["entropy"].held_out is None
    assert {"reward_parse", "reward_compile"} <= rows.keys()
    assert "reward_seconds" not in rows
    assert "kl" not in rows
    assert found.time is not None
    spent = (found.time.rollout, found.time.reward, found.time.step)
    assert spent == pytest.approx((6.0, 2.0, 2.0)), "both steps of an iteration count"
    assert [event.text for event in found.advice] == [WARNED]


def test_a_run_without_rewards_has_no_such_figures() -> None:
    plain = RunDetail("run_1", series("loss", [1.0]), series("val_loss", ()))
    assert not has_rewards(plain)
    assert not has_rewards(None)
    assert reinforcement(plain) == Reinforcement()


def test_figures_that_are_not_finite_or_single_are_borne() -> None:
    odd = {
        "reward_mean": series("reward_mean", [np.nan]),
        "rollout_seconds": series("rollout_seconds", [np.nan]),
        "step_time_ms": series("step_time_ms", [np.inf]),
        "iteration": series("iteration", [np.inf]),
    }
    found = reinforcement(RunDetail("run_1", odd["reward_mean"], series("val_loss", ()), odd))
    assert (found.iteration, found.time) == (None, None)
    assert found.rows[0].training is not None
    assert found.rows[0].training.now is None


def test_the_reward_is_the_main_metric_beside_its_held_out_value() -> None:
    keys = ["loss", "val_loss", "reward_mean", "val_reward"]
    assert main_key(keys) == "reward_mean"
    assert beside("reward_mean", keys) == ("val_reward",)
    assert main_key(["loss", "reward"]) == "loss"


def test_the_band_of_a_mean_is_its_deviation_where_that_is_known() -> None:
    mean = series("reward_mean", [1.0, 2.0, 3.0, np.nan])
    deviation = Series("reward_std", np.array([0, 2]), np.array([0.5, np.nan]))
    points = spread_of("reward_mean", {"reward_mean": mean, "reward_std": deviation})
    assert points is not None
    found = points.between(np.arange(5))
    np.testing.assert_array_equal(found.low, [0.5, 2.0, 3.0, np.nan])
    np.testing.assert_array_equal(found.high, [1.5, 2.0, 3.0, np.nan])
    assert found.nonfinite == 1
    assert spread_of("reward_mean", {"reward_mean": mean}) is None


def test_the_report_has_figures_and_answers() -> None:
    of, detail = run()
    (found,) = report(snapshot(of, detail=detail))["runs"]
    told = found["reinforcement"]
    assert told["figures"]["reward_mean"]["held_out"]["now"] == 0.32
    assert told["seconds"] == pytest.approx({"rollout": 6.0, "reward": 2.0, "step": 2.0})
    assert found["answers"][1]["messages"] == ("error[E0308]: mismatched types\n --> 3:13",)
    assert found["answers"][1]["parts"]["parse"] == 0.1


async def test_answers_are_browsed_and_the_page_is_of_rewards(snapshot: Any) -> None:
    of, detail = run()
    app = still_app(of, detail=detail)
    kept = snapshot.use_extension(SVGImageExtension)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: "iteration 40" in screen_text(app))
        shown = screen_text(app)
        assert "3 rewards" in shown
        assert WARNED[:40] in shown
        assert app.export_screenshot(simplify=True) == kept(name="rewards")
        await pilot.press("8")
        await until(pilot, lambda: "slices/sum-0" in screen_text(app))
        await pilot.press("j", "j")
        await until(pilot, lambda: "slices/sum-2" in screen_text(app))
        assert "error[E0308]: mismatched types" in screen_text(app)
        await pilot.press("k")
        await until(pilot, lambda: "slices/sum-1" in screen_text(app))
        await pilot.press("pagedown")
        await until(pilot, lambda: "total = values" in screen_text(app))
        await pilot.press("G")
        await until(pilot, lambda: "12 of 12" in screen_text(app))
        await pilot.resize_terminal(200, 50)
        await until(pilot, lambda: "what the compiler said" in screen_text(app))
        await until(pilot, lambda: app.query_one(AnswerText).size.width > 100)
        assert "reward 0.500" in screen_text(app), "in place of the loss"
        assert app.export_screenshot(simplify=True) == kept(name="answers")
