"""`trainer profile`: tables and a trace of a few steps, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.run.directory import discover_runs
from tests.conftest import RunCli
from trainer.profiling.stages import PREFIX, STAGES

pytestmark = pytest.mark.slow


def test_it_tells_the_stages_and_writes_a_trace(
    run_cli: RunCli, tiny: tuple[object, ...], tmp_path: Path
) -> None:
    trace, runs = tmp_path / "trace.json", tmp_path / "runs"
    flags = ("--steps", 2, "--warmup", 1, "--top", 3, "--accumulation-steps", 2, "--json")
    done = run_cli("profile", *tiny, "--runs-dir", runs, "--trace", trace, *flags)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [stage["name"] for stage in told["stages"]] == list(STAGES)
    assert sum(stage["share"] for stage in told["stages"]) == pytest.approx(1)
    assert all(stage["host_ms"] > 0 for stage in told["stages"])
    assert sum(stage["host_ms"] for stage in told["stages"]) == pytest.approx(told["step_ms"])
    assert len(told["operators"]) == 4
    assert told["operators"][-1]["name"].endswith(" more")
    assert 0 < sum(operator["share"] for operator in told["operators"]) <= 1
    assert told["mfu"] is None
    assert told["device_busy"] is None
    assert not runs.exists()

    spans = [
        event["name"].removeprefix(PREFIX)
        for event in json.loads(trace.read_text())["traceEvents"]
        if event.get("cat") == "user_annotation" and event["name"].startswith(PREFIX)
    ]
    assert spans.count("forward") == spans.count("backward") == 2 * 2
    assert spans.count("records") == 2


def test_a_kept_run_is_one_like_any_other(run_cli: RunCli, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be\n" * 100)
    runs = tmp_path / "runs"
    done = run_cli(
        "profile", "--data", text, "--runs-dir", runs, "--keep", "--steps", 1, "--warmup", 0,
        "--seq-len", 8, "--batch-size", 2, "--device", "cpu", "--set", "model.hidden_size=8",
        "--set", "model.intermediate_size=8", "--set", "model.num_heads=2",
        "--set", "model.num_layers=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Stages of a step, the mean of 1 step:" in done.out
    assert "GPU ms" not in done.out
    (run,) = discover_runs(runs)
    state = run.read_state()
    assert state is not None
    assert state.status == "completed"
    assert not list(run.checkpoints.iterdir())
    assert not (runs / ".data").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], ["--config", "--data"]),
        (["--config", "tiny-cpuu"], ["'tiny-cpuu'", "tiny-cpu?"]),
        (["--config", "tiny-cpu", "--steps", "0"], ["--steps is 0"]),
        (["--config", "tiny-cpu", "--steps", "5000"], ["--steps is 5000", "100"]),
        (["--config", "tiny-cpu", "--warmup", "-1"], ["--warmup is -1"]),
        (["--config", "tiny-cpu", "--top", "-1"], ["--top is -1"]),
        (["--config", "tiny-cpu", "--trace", "-"], ["--trace -"]),
        (["--config", "tiny-cpu", "--trace", "no/such/t.json"], ["no/such/t.json"]),
        (["--config", "tiny-cpu", "--trace", "there.json"], ["there.json", "--force"]),
        (["--config", "tiny-cpu", "--data", "a", "--data-path", "b"], ["--data a", "b"]),
        (["--config", "tiny-cpu", "--text-field", "x"], ["--text-field"]),
        (["--config", "tiny-cpu", "--batch-size", "0"], ["train.batch_size is 0"]),
        (["--config", "tiny-cpu", "--device", "cuda:99"], ["cuda:99"]),
        (["--config", "finetune"], ["--begin-from"]),
        (["--chat", "talk.jsonl"], ["--chat", "--begin-from"]),
        (["--config", "tiny-cpu", "--chat", "a", "--data", "b"], ["--chat a", "--data"]),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(
    run_cli: RunCli,
    options: list[str],
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("{}")
    done = run_cli("profile", *options)
    assert (done.code, done.out) == (2, "")
    (sentence,) = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert sentence.startswith("trainer: ")
    for part in named:
        assert part in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]


def test_it_is_for_one_process(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 says so for all."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    done = run_cli("profile", "--config", "tiny-cpu")
    assert done.code == 2
    assert "rank 0 of 2" in done.err
