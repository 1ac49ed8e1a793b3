"""Fixtures of the monitor's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from textual.css.stylesheet import Stylesheet

from monitor.data.views import EventView, RunDetail, RunView, SampleView
from shared.checkpoints.catalogue import CheckpointInfo
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory
from shared.run.records import PhaseTransition
from tests.monitor.idle import until_idle
from tests.monitor.stylesheets import remembering
from tests.monitor.support import NOW, metric_lines, series, view, write_run


@pytest.fixture(autouse=True, scope="session")
def brisk_apps() -> Iterator[None]:
    """Keys are pressed as soon as the one before has had its effect; styles are parsed once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("textual.app", "textual.pilot"):
            patch.setattr(f"{module}.wait_for_idle", until_idle)
        patch.setattr(Stylesheet, "_parse_rules", remembering(Stylesheet._parse_rules))
        yield


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times on the screen must not depend on where the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def showcase() -> tuple[tuple[RunView, ...], RunDetail]:
    """Runs in every interesting state, and the detail of the first."""
    rng = np.random.default_rng(7)
    steps = np.arange(4000)
    loss = 1.4 + 9 * np.exp(-steps / 700) + rng.normal(0, 0.06, 4000)
    loss[2222] = np.nan
    loss[3100] = 30.0
    val = 1.5 + 9 * np.exp(-np.arange(17) * 250 / 700)
    transitions = tuple(
        PhaseTransition(s, a, b, NOW)
        for s, a, b in (
            (0, "", "warmup"),
            (300, "warmup", "full"),
            (1500, "full", "predict"),
            (2100, "predict", "correct"),
            (2400, "correct", "full"),
        )
    )
    first = view(
        "hybrid-25m_20260921_131320",
        name="hybrid-25m",
        step=3999,
        max_steps=10_000,
        loss=1.4321,
        best_loss=1.5021,
        best_step=3750,
        best_metric="val_loss",
        phase="full",
        transitions=transitions,
        eta_seconds=4321.0,
        tokens_per_second=341_000.0,
        tokens_total=65_520_000,
        total_forward=4000,
        total_backward=2900,
        host="box",
        pid=4242,
        attempt=2,
        device="cuda:0",
        git_commit="3f2a91c0d4e5",
        model=(("name", "llama"), ("parameters", "25580000"), ("num_layers", "8")),
        tags=("baseline",),
        sparkline=tuple(float(x) for x in loss[::125]),
    )
    others = (
        view("rl_20260921_120000", name="rl", status="paused", step=40, max_steps=2000, loss=8.77),
        view(
            "grow_20260921_110000", name="grow", status="stalled", step=9, reason="no step for 99 s"
        ),
        view(
            "sft_20260921_100000",
            name="sft",
            status="failed",
            alive=False,
            step=1199,
            max_steps=4000,
            loss=1.785,
            reason="RuntimeError: CUDA out of memory",
            exit_code=1,
            last_log_lines=("step 1199  loss 1.785", "RuntimeError: CUDA out of memory"),
        ),
        view(
            "base_20260920_100000",
            name="base",
            status="completed",
            alive=False,
            step=5000,
            max_steps=5000,
            loss=1.276,
        ),
    )
    checkpoints = tuple(
        CheckpointInfo(
            path=Path(f"step_{s}"),
            step=s,
            bytes=102_400_000,
            created_at=NOW - (4000 - s),
            whole=s != 1000,
            loss=1.4 + 1000 / s,
            val_loss=1.5 + 1000 / s,
            is_latest=s == 3000,
            is_best=s == 2000,
        )
        for s in (1000, 2000, 3000)
    )
    events = (
        EventView(NOW - 3600, 0, "started", "attempt 2, was preempted"),
        EventView(NOW - 900, 3000, "checkpoint saved", "step_3000, 97.7 MiB, val loss 1.833"),
        EventView(NOW - 60, 3900, "warning", "loss spike at step 3100: 30.0"),
    )
    detail = RunDetail(
        run_id=first.run_id,
        loss=series("loss", loss),
        val_loss=series("val_loss", val, 250),
        version=1,
        newest={"learning_rate": 3e-4, "gradient_norm": 0.8123, "step_time_ms": 48.0, "mfu": 0.31},
        checkpoints=checkpoints,
        events=events,
        log_lines=("step 3999  loss 1.4321",),
        config_lines=("model:", "  flavour: llama", "  num_layers: 8"),
        config={"model.flavour": "llama", "model.num_layers": "8"},
        samples=(SampleView(3000, NOW, "Once upon a time there was a loss."),),
        protected={"step_3000": "latest", "step_2000": "best"},
        uploads={"step_2000": "https://huggingface.co/me/hybrid-25m"},
    )
    return (first, *others), detail


@pytest.fixture
def crashed_run(tmp_path: Path) -> RunDirectory:
    """A run whose trainer is gone without a word."""
    folder = write_run(
        tmp_path,
        "crashed_1",
        {
            "status": "running",
            "pid": 999_999,
            "host": host_name(),
            "current_step": 3,
            "max_steps": 9,
        },
        metric_lines(4),
    )
    (folder / "train.log").write_text("step 3\nSegmentation fault\n")
    (folder / "config.yaml").write_text("train: {device: cpu}\n")
    return RunDirectory(folder)
