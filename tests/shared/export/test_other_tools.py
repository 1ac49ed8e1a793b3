"""A run exported for TensorBoard and W&B; tests/peers lets the real ones read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import RunError, UserError
from shared.export.curves import read_curves, read_facts
from shared.export.tensorboard import export_tensorboard, tensorboard_target
from shared.export.wandb import export_wandb, wandb_target
from shared.foreign.interface import Reader
from shared.foreign.walking import Walk
from shared.foreign.wandb_blocks import BLOCK, HEADER, Blocks, Records
from shared.json_text import encode_line
from shared.library.labels import change_labels
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsReader
from shared.run_writer import RunWriter
from tests.conftest import RunCli
from tests.shared.foreign.making import Numbers, numbers, read_all

NAN, INF = float("nan"), float("inf")
WRITERS = {
    "TensorBoard": (tensorboard_target, export_tensorboard),
    "W&B": (wandb_target, export_wandb),
}
CONFIG = {
    "optim": {"learning_rate": 3e-4, "name": "adamw", "nesterov": False},
    "train": {"max_steps": 12_345_678},
}
FLAT = {
    "optim.learning_rate": "0.0003",
    "optim.name": "adamw",
    "optim.nesterov": "false",
    "train.max_steps": "12345678",
}


def exported(run: RunDirectory, logs: Path, tool: str, *, force: bool = True) -> Reader:
    """`run` written for a tool, and read back by our reader of that tool's files."""
    target_of, write = WRITERS[tool]
    facts = read_facts(run)
    written = write(facts, read_curves(run), target_of(facts, logs, force=force))
    [found] = [one for one in Walk(logs).find() if one.path == written.folder]
    assert found.format == tool
    return read_all(found)


def newest_curves(run: RunDirectory, *, bits: int) -> Numbers:
    """What the monitor shows of a run, without an attempt that was given up."""
    table = MetricsReader(run.metrics_path, quiet=0).read_all()
    front = table.facts.given_up_after
    found: Numbers = {}
    for key in table.keys():  # noqa: SIM118  not a dict
        series = table.series(key)
        values = series.values if bits == 64 else series.values.astype(np.float32).astype(float)
        pairs = zip(series.steps.tolist(), values.tolist(), strict=True)
        own = [(step, repr(value)) for step, value in pairs if front is None or step <= front]
        found |= {key: own} if own else {}
    return found


RECORDS = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 12)},
        optional={
            "time": st.floats(1e9, 2e9),
            "attempt": st.integers(1, 3),
            "loss": st.floats(),
            "eval/π": st.floats(width=16),
            "a.b": st.integers(-5, 1 << 40),
        },
    ),
    max_size=30,
)


@pytest.mark.parametrize("tool", WRITERS)
def test_our_own_reader_reads_what_was_exported(tmp_path: Path, tool: str) -> None:
    run = RunDirectory(tmp_path / "mine")
    run.path.mkdir()

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
    )
    @given(records=RECORDS)
    def read_back(records: list[dict[str, Any]]) -> None:
        run.metrics_path.write_bytes(b"".join(encode_line(one) + b"\n" for one in records))
        expected = newest_curves(run, bits=32 if tool == "TensorBoard" else 64)
        if not expected:
            with pytest.raises(UserError, match="no metrics yet"):
                exported(run, tmp_path / "logs", tool)
            return
        reader = exported(run, tmp_path / "logs", tool)
        assert numbers(reader.table) == expected
        assert not reader.facts.problem

    with np.errstate(over="ignore"):
        read_back()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with settings, labels and a dead attempt's tail."""
    with RunWriter(tmp_path / "runs", "it", max_steps=9) as writer:
        writer.write_config(CONFIG)
        for step in range(1, 10):
            writer.log(step, loss=NAN if step == 2 else 1 / step, big=1e300)
    change_labels(writer.run, name="Nice", note="first\nsecond", add_tags=["good"])
    return writer.run


@pytest.mark.parametrize("tool", WRITERS)
def test_facts_and_times_are_kept(run: RunDirectory, tmp_path: Path, tool: str) -> None:
    reader = exported(run, tmp_path / "logs", tool)
    state, facts = run.read_state(), reader.facts
    assert state is not None
    assert state.started_at is not None
    assert facts.status == "completed"
    assert facts.started_at == pytest.approx(state.started_at, abs=1e-5)
    times = MetricsReader(run.metrics_path).read_all().series("time")
    assert reader.table.series("time").values.tolist() == times.values.tolist()
    own = {key: text for key, text in facts.config.items() if not key.startswith("wandb.")}
    assert own == FLAT
    if tool == "W&B":
        assert (facts.name, facts.tags, facts.host) == ("Nice", ("good",), state.host)
        assert facts.config["wandb.notes"] == "first\nsecond"


def test_a_failed_run_and_one_that_has_not_ended(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "it")
    writer.write_config(CONFIG)
    writer.log(1, loss=1.0)
    for tool in WRITERS:
        assert exported(writer.run, tmp_path / "logs", tool).facts.status == ""
    writer.finish("failed", 3, "out of luck")
    for tool in WRITERS:
        assert exported(writer.run, tmp_path / "logs", tool).facts.status == "failed"


def test_the_command_writes_both_and_overwrites_nothing(
    run: RunDirectory, tmp_path: Path, run_cli: RunCli
) -> None:
    logs = tmp_path / "new" / "logs"
    line = ["runs", "export", run.path, "--tensorboard", logs, "--wandb-offline", logs]
    done = run_cli(*line)
    assert (done.code, done.out.count("18 values of 2 metrics")) == (0, 2)
    assert done.err == "note: 9 values too large for TensorBoard's 32 bits are inf\n"
    before = {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    assert len(before) == 2
    again = run_cli(*line)
    assert again.code == 2
    assert again.err.endswith("already exists; --force replaces it.\n")
    assert run_cli(*line, "--force").code == 0
    assert before == {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    (logs / run.run_id / "notes.txt").write_text("mine")
    refused = run_cli(*line, "--force")
    assert refused.code == 2
    assert "holds something else" in refused.err
    own = run_cli("runs", "export", run.path, "--tensorboard", run.path.parent, "--force")
    assert (own.code, run.metrics_path.exists()) == (2, True)
    for wrong in (run.config_path, run.config_path / "x"):
        done = run_cli("runs", "export", run.path, "--wandb-offline", wrong)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "is not a folder" in done.err


def test_nothing_is_left_where_it_cannot_be_written(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    logs = tmp_path / "a" / "b"
    for target_of, write in WRITERS.values():
        facts = read_facts(run)
        target = target_of(facts, logs, force=False)
        with monkeypatch.context() as edge:
            edge.setattr(os, "fsync", full)
            with pytest.raises(RunError, match="No space left on device"):
                write(facts, read_curves(run), target)
        assert not (tmp_path / "a").exists()


def test_a_run_with_a_hostile_name_and_state_is_exported(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run #1; \u202ex")
    run.path.mkdir()
    run.state_path.write_text('{"started_at": 1e300, "ended_at": -1, "status": "completed"}')
    line = b'{"step": 1, "time": 1e300, "loss": 1, "x\\u001b[31m": 2}\n'
    run.metrics_path.write_bytes(line)
    run.config_path.write_text("a: 1\na.b: 2\nn: 123456789012345678901234567890\nx: .nan\n")
    for tool in WRITERS:
        reader = exported(run, tmp_path / "logs", tool)
        assert numbers(reader.table) == {"loss": [(1, "1.0")], "x[31m": [(1, "2.0")]}
        assert dict(reader.facts.config)["a.b"] == "2"
        assert dict(reader.facts.config)["n"] == "123456789012345678901234567890"


@given(sizes=st.lists(st.integers(0, 3 * BLOCK), max_size=6))
@settings(deadline=None)
def test_records_of_any_size_fit_into_blocks(sizes: list[int]) -> None:
    records = [bytes([number]) * size for number, size in enumerate(sizes, start=1)]
    blocks, reader = Blocks(), Records()
    data = b"".join(map(blocks.add, records))
    assert not records or data.startswith(HEADER)
    assert list(reader.feed(data)) == records
    assert not reader.damaged
