"""`trainer pipeline`: what is wrong with a file is told in a sentence, and nothing begins."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from tests.conftest import RunCli
from trainer.pipeline.config import assignments_of, load
from trainer.pipeline.place import Place
from trainer.pipeline.stages.registry import STAGES, sections
from trainer.pipeline.start import check

ROOT = Path(__file__).parents[3]
CONFIGS = ("production.yaml", "production-small.yaml")


@pytest.mark.parametrize("name", CONFIGS)
def test_our_files_are_right(name: str, tmp_path: Path) -> None:
    text = tmp_path / "main.rs"
    text.write_text("fn main() {}")
    config = load(
        ROOT / "configs" / name, sections(), {"prepare.text": [str(text)], "outputs": "o"}
    )
    check(config, Place(config.name, tmp_path, Path(config.outputs)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must hold the keys of a pipeline"),
        ("[1]", "must hold the keys of a pipeline"),
        ("name: [", "is not valid YAML (line 1)"),
        ("supervisd: {}", "unknown keys: supervisd (did you mean supervised?)"),
        ("prepare: {taks: 3}", "prepare.taks"),
        ("prepare: {tasks: many}", "prepare.tasks is 'many'"),
        ("name: a/b", "'a/b' must be letters"),
        ("device: gpu", "'gpu' is not auto, cpu, cuda"),
        ("supervised: {train: {max_stps: 3}}\nprepare: {tasks: 1}", "did you mean train.max_steps"),
        ("supervised: {config: nosuch}\nprepare: {tasks: 1}", "'nosuch' is neither"),
        ("prepare: {}", "needs text (files to train on), tokens"),
        ("prepare: {text: [a], tokens: b}", "has text and tokens"),
        ("prepare: {text: [no-such-file.txt]}", "no-such-file.txt"),
        ("export: {quant: Q9_9}\nprepare: {tasks: 1}", "Q9_9"),
        ("rl: {rl: {prompts: none.jsonl}}\nprepare: {tasks: 1}", "none.jsonl is not a file"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(text)
    done = run_cli("pipeline", "--config", "p.yaml")
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.yaml"], "nothing has begun"


def test_a_missing_file_and_a_wrong_flag(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("pipeline", "--config", tmp_path / "none.yaml")
    assert (done.code, "configs/production.yaml" in done.err) == (2, True)
    file = tmp_path / "p.yaml"
    file.write_text("prepare: {tasks: 1}")
    for flags, told in (
        (("--set", "prepare"), "needs the form"),
        (("--set", "name.x=3"), "name is a mapping"),
        (("--detach", "--queue"), "both given"),
        (("--target-steps", "0"), "supervised"),
    ):
        done = run_cli("pipeline", "--config", file, "--runs-dir", tmp_path / "runs", *flags)
        assert (done.code, told in done.err) == (2, True), done.err


def test_one_pipeline_at_a_time_in_a_folder(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"name: one\noutputs: {tmp_path}/outputs\nprepare: {{tasks: 1}}")
    (tmp_path / "outputs").mkdir()
    lock = RunLock(Place("one", tmp_path, tmp_path / "outputs").lock_path)
    lock.acquire()
    try:
        done = run_cli("pipeline", "--config", file, "--runs-dir", tmp_path / "runs")
    finally:
        lock.release()
    assert done.code == 2
    assert f"is run by process {os.getpid()}" in done.err
    assert "trainer stop one" in done.err


def test_queued_it_is_a_run_that_a_daemon_starts(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        f"name: one\noutputs: {tmp_path}/outputs\nlog: {tmp_path}/log-{{time}}.log\n"
        "device: cuda\nprepare: {tasks: 1}"
    )
    for _ in range(2):
        done = run_cli("pipeline", "--config", file, "--runs-dir", tmp_path / "runs", "--queue")
        assert done.code == 0, done.err
    (path,) = (tmp_path / "runs").glob("one_*")
    run = RunDirectory(path)
    state = run.read_state()
    assert state is not None
    assert (state.status, state.supervised) == ("queued", True)
    assert (state.group, state.stage, state.max_steps) == ("one", "pipeline", len(STAGES))
    kept = yaml.safe_load(run.config_path.read_text())
    assert kept["train"]["device"] == "cuda", "for the daemon, which gives it a GPU"
    (log,) = tmp_path.glob("log-*.log")
    assert log.resolve() == run.log_path
    told = run_cli("resume", "one", "--runs-dir", tmp_path / "runs", "--max-steps", "3")
    assert (told.code, "trainer pipeline --config" in told.err) == (2, True)
    other = run_cli("pipeline", "--config", file, "--runs-dir", tmp_path / "other", "--queue")
    assert (other.code, "give that as --runs-dir" in other.err) == (2, True)


def test_flags_and_assignments_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("name: one\nsupervised: {train: {max_steps: 3}}")
    given = assignments_of(["supervised.train.batch_size=4", "rl.rl.iterations=7"])
    config = load(file, sections(), given)
    assert config.section("supervised").train == {"max_steps": 3, "batch_size": 4}
    assert config.section("rl").rl == {"iterations": 7}


def test_paths_hold_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "own.yaml", "tasks.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "p.yaml").write_text(
        "prepare: {text: [a.txt, 'b/*.txt'], output: o}\n"
        "supervised: {config: own.yaml}\nrl: {config: rl, rl: {prompts: tasks.jsonl}}\n"
        "evaluation: {suites: [held-out, rust, tasks.jsonl]}"
    )
    config = load(Path("p.yaml"), sections())
    prepare, evaluation = config.section("prepare"), config.section("evaluation")
    assert prepare.text == [str(tmp_path / "a.txt"), str(tmp_path / "b/*.txt")]
    assert (prepare.output, prepare.tokens) == (str(tmp_path / "o"), None)
    assert config.section("supervised").config == str(tmp_path / "own.yaml")
    assert config.section("rl").config == "rl"
    assert config.section("rl").rl["prompts"] == str(tmp_path / "tasks.jsonl")
    assert evaluation.suites == ["held-out", "rust", str(tmp_path / "tasks.jsonl")]


VARIABLES = {
    "BATCH_SIZE": "--batch-size",
    "TARGET_STEPS": "--target-steps",
    "CHECKPOINT_INTERVAL": "--checkpoint-interval",
    "RL_ITERATIONS": "--rl-iterations",
    "DEVICE": "--device",
}


def printed(command: list[object], environment: dict[str, str]) -> list[str]:
    """The lines that a command prints."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_guides_script_has_its_variables(tmp_path: Path) -> None:
    """The script calls `$PYTHON -m trainer`: here a program that prints its arguments."""
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    values = {name: str(number) for number, name in enumerate(VARIABLES, 1)}
    script = ROOT / "scripts" / "train_production.sh"
    base = {"BASE_CHECKPOINT": "checkpoints/rust-6hour/step_2000", "PYTHON": str(echo)}
    said = printed([script, "--dry-run"], {**values, **base})
    assert said[:4] == ["-m", "trainer", "pipeline", "--config"]
    for name, option in VARIABLES.items():
        assert said[said.index(option) + 1] == values[name]
    assert "supervised.checkpoint.begin_from=checkpoints/rust-6hour/step_2000" in said
    assert "--dry-run" in said
    monitor = ROOT / "scripts" / "monitor_production.sh"
    assert printed([monitor], base) == ["-m", "monitor", "--runs-dir", "runs"]


def test_the_page_answers_every_line_of_the_guides_list() -> None:
    page = (ROOT / "docs" / "production.md").read_text()
    for asked in (
        "Training crashes immediately",
        "OOM errors persist",
        "Training seems stuck",
        "Loss not decreasing",
        "Checkpoints not saving",
    ):
        assert re.search(rf"^#+ {asked}$", page, re.MULTILINE), asked
