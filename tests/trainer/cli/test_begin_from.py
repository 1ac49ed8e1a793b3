"""`--begin-from`: the weights of a run, a checkpoint or a model folder in a new run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.run.directory import RunDirectory, discover_runs
from shared.run.record_lines import read_records
from tests.conftest import RunCli

#: A rate so low that the weights stay what they were.
STILL = ("--set", "optim.warmup_steps=1000000000", "--set", "optim.weight_decay=0")
SHORT = ("--dataset", "synthetic", "--seq-len", 8, "--batch-size", 2, "--device", "cpu", *STILL)
WEIGHTS = ("model.safetensors", "config.json")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def source(finished: Callable[[str], Path]) -> RunDirectory:
    """A completed run `done` of 4 steps."""
    return RunDirectory(finished("done_20260101_000000"))


@pytest.fixture
def weights_only(source: RunDirectory, tmp_path: Path) -> Path:
    """What transformers would save of it."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in WEIGHTS:
        shutil.copy(source.checkpoints / "step_4" / name, folder)
    return folder


@pytest.fixture
def begin(run_cli: RunCli, runs: Path) -> Callable[..., RunDirectory]:
    """Train a new run of 2 steps."""

    def run(*flags: object) -> RunDirectory:
        before = {r.run_id for r in discover_runs(runs)}
        common = (*SHORT, "--runs-dir", runs, "--name", "new", "--max-steps", 2)
        output = run_cli("train", *common, *flags)
        assert output.code == 0, output.err
        return next(r for r in discover_runs(runs) if r.run_id not in before)

    return run


def same_weights(run: RunDirectory, folder: Path) -> bool:
    ours = load_file(run.checkpoints / "final" / WEIGHTS[0])
    theirs = load_file(folder / WEIGHTS[0])
    return all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.parametrize("reference", ["done", "done:2", "step folder", "weights only"])
def test_a_new_run_starts_at_step_0_with_weights_and_shape(
    begin: Callable[..., RunDirectory], source: RunDirectory, weights_only: Path, reference: str
) -> None:
    step_2, step_4 = source.checkpoints / "step_2", source.checkpoints / "step_4"
    places = {"step folder": step_2, "weights only": weights_only}
    run = begin("--begin-from", places.get(reference, reference))
    assert same_weights(run, step_4 if reference in ("done", "weights only") else step_2)
    state = run.read_state()
    assert state is not None
    assert (state.current_step, state.total_backward) == (2, 2)
    [begun] = [e for e in read_records(run.events_path) if e["event"] == "begun_from"]
    assert Path(begun["checkpoint"]).is_absolute()
    assert not [e for e in read_records(run.events_path) if e["event"] in ("resumed", "warning")]


def test_a_configuration_may_name_a_run_and_agree_with_its_shape(
    begin: Callable[..., RunDirectory], source: RunDirectory, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {hidden_size: 8, vocab_size: null}\ncheckpoint: {begin_from: done}\n")
    run = begin("--config", file)
    assert same_weights(run, source.checkpoints / "step_4")
    again = begin("--config", run.config_path)
    assert same_weights(again, source.checkpoints / "step_4")


def test_sequences_are_not_as_long_as_a_long_context_allows(
    run_cli: RunCli, runs: Path, weights_only: Path
) -> None:
    """A published model's context may be longer than any memory holds in training."""
    file = weights_only / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 8192}))
    plan = ("train", "--begin-from", weights_only, "--runs-dir", runs, "--dry-run")
    data = ("--dataset", "synthetic", "--device", "cpu")
    for flags, told, length in (((), True, 2048), (("--seq-len", 4096), False, 4096)):
        output = run_cli(*plan, *data, *flags)
        assert output.code == 0, output.err
        assert f"seq_len: {length}\n" in output.out
        assert ("sequences have 2048 tokens" in output.err) is told


def test_its_state_is_continued_when_asked(
    begin: Callable[..., RunDirectory], source: RunDirectory
) -> None:
    run = begin("--begin-from", "done:2", "--begin-with", "state", "--max-steps", 3)
    [resumed] = [e for e in read_records(run.events_path) if e["event"] == "resumed"]
    assert (resumed["step"], resumed["checkpoint"]) == (2, "step_2")
    assert run.read_state().current_step == 3  # type: ignore[union-attr]


def test_a_run_that_began_so_resumes_from_its_own_checkpoints(
    begin: Callable[..., RunDirectory], run_cli: RunCli, weights_only: Path
) -> None:
    run = begin("--begin-from", weights_only)
    shutil.rmtree(weights_only)
    output = run_cli("resume", run.path, "--max-steps", 3)
    assert output.code == 0, output.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--begin-from", "done", "--config", "tiny-cpu"), "model.hidden_size is 8 there and 256"),
        (("--begin-from", "done", "--set", "model.num_layers=2"), "model.num_layers is 1 there"),
        (("--begin-from", "done", "--set", "model.num_layers=two"), "must be a valid integer"),
        (("--begin-from", "done:3"), "no checkpoint of step 3"),
        (("--begin-from", "nobody"), "There is no run 'nobody'"),
        (("--begin-from", "done", "--resume", "done"), "are both given"),
        (("--begin-from", "done", "--begin-with", "luck"), "must be 'weights' or 'state'"),
        (("--set", "checkpoint.begin_from=3"), "must be a valid string"),
    ],
)
def test_what_cannot_be_begun_from_is_told_in_a_sentence(
    run_cli: RunCli, source: RunDirectory, runs: Path, flags: tuple[str, ...], told: str
) -> None:
    output = run_cli("train", *SHORT, "--runs-dir", runs, "--max-steps", 2, *flags)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1
    assert [r.run_id for r in discover_runs(runs)] == [source.run_id], "no run was made"


def test_the_state_of_weights_is_refused(
    run_cli: RunCli, runs: Path, weights_only: Path, source: RunDirectory
) -> None:
    flags = ("--begin-from", weights_only, "--begin-with", "state", "--max-steps", 2)
    output = run_cli("train", *SHORT, "--runs-dir", runs, *flags)
    assert (output.code, "holds weights only" in output.err) == (2, True)


def test_text_is_tokenized_with_the_models_tokenizer(
    run_cli: RunCli, runs: Path, token_data: Path, tmp_path: Path
) -> None:
    """And tokens of another one are refused."""
    text = tmp_path / "text.txt"
    text.write_text("def main() -> None:\n    return None\n" * 40)
    shape = ("model.hidden_size=8", "model.num_layers=1", "model.num_heads=2")
    small = [word for key in (*shape, "model.max_seq_len=16") for word in ("--set", key)]
    few = ("--max-steps", 1, "--seq-len", 8, "--batch-size", 2, "--device", "cpu")
    common = ("train", "--runs-dir", runs, *few)
    first = run_cli(*common, "--name", "first", "--data-path", token_data, *small)
    assert first.code == 0, first.err
    second = run_cli(*common, "--name", "second", "--begin-from", "first", "--data", text)
    assert second.code == 0, second.err
    [folder] = (runs / ".data").iterdir()
    assert (folder / "tokenizer.json").read_bytes() == (token_data / "tokenizer.json").read_bytes()
    other = tmp_path / "ascii"
    ascii_ = ("--kind", "char", "--charset", "ascii", "--text", text, "--output", other)
    assert run_cli("prepare-data", *ascii_).code == 0
    third = run_cli(*common, "--begin-from", "first", "--data-path", other)
    assert third.code == 2
    assert "another tokenizer" in third.err
