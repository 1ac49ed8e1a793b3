"""`trainer sweep` and its subcommands on files; with a daemon: tests/trainer/daemon."""

from __future__ import annotations

import csv
import inspect
import io
import json
from pathlib import Path
from typing import Any

import pytest

from shared.files import write_json
from shared.run.directory import RunDirectory, create_run, discover_runs
from shared.run.records import ExitRecord, RunState
from trainer.config.resolve import parse_settings

RATES = ("--set", "optim.learning_rate=1e-3,3e-3")
#: Settings of `train` that make no sense for many runs at once.
OF_ONE_RUN = {"name", "checkpoint_dir", "upload", "hf_user"}


def test_it_takes_what_train_takes() -> None:
    from trainer.cli.options import SETTINGS
    from trainer.cli.sweeps.sweep import sweep
    from trainer.cli.training.train import train

    of_train, own = (set(inspect.signature(command).parameters) for command in (train, sweep))
    assert (of_train - own) & (SETTINGS.keys() | {"source"}) == OF_ONE_RUN


def test_every_run_is_queued_with_its_own_configuration(run_cli, tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    flags = (*tiny, *RATES, "--seeds", 2, "--seed", 5, "--max-steps", 10, "--runs-dir", tmp_path)
    planned = run_cli("sweep", *flags, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert discover_runs(tmp_path) == []
    plan = json.loads(planned.out)
    assert (plan["points"], plan["seeds"], plan["tokens"]) == (2, [5, 6], 4 * 10 * 16)
    shown = run_cli("sweep", *flags, "--group", "rates")
    assert shown.code == 0, shown.err
    assert "4 runs in group rates: 2 points x 2 seeds" in shown.out
    assert "640 tokens in all, 160 each" in shown.out
    assert "no daemon watches" in shown.out
    runs = sorted(discover_runs(tmp_path), key=lambda run: state_of(run).started_at or 0.0)
    names = [state_of(run).run_name for run in runs]
    assert names == [run["name"] for run in plan["runs"]]
    assert names[:2] == ["lr=0.001,seed=5", "lr=0.003,seed=5"], "all points with one seed first"
    for run, name in zip(runs, names, strict=True):
        settings = parse_settings(run.config_path.read_text(), "")
        swept = state_of(run).swept
        assert {key: settings[key] for key in swept} == swept
        assert settings["name"] == name


def state_of(run: RunDirectory) -> RunState:
    return run.read_state() or RunState()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "Nothing is varied"),
        (("--seeds", 1), "Nothing is varied"),
        (("--seeds", 0), "--seeds is 0"),
        (("--seeds", 10**6), "at most 1,000"),
        ((*RATES, "--max-parallel", -1), "--max-parallel is -1"),
        ((*RATES, "--random", 3), "the grid has 2 points"),
        (("--set", "train.seed=1,2", "--seeds", 2), "are both given"),
        (("--set", "optim.learning_rate=1e-3,fast"), "'fast'"),
        (("--set", "optim.learning_rate=1e-3,-1"), "learning_rate is -1"),
        (("--set", "optim.learning_rate=1e-3,1e-3"), "optim.learning_rate 0.001 is given twice"),
        (("--set", "optim.learning_rate=0.001,1e-3"), "is given twice"),
        (("--set", "optim.learning_rates=1,2"), "did you mean optim.learning_rate?"),
        (("--set", "optim.learning_rate=1e-4..1e-2"), "--random N"),
        (("--set", "optim.name=adamw,adamm"), "adamm"),
        (("--set", "train.seq_len=4,17"), "longer than model.max_seq_len"),
        (("--set", "train.device=cpu,tpu"), "'tpu'"),
        (("--set", "optim.name=adamw,\x1b[2J"), "optim.name"),
        (("--set", "train.max_steps=1,2", "--epochs", 1), "are both given"),
        ((*RATES, "--set", "checkpoint.dir=x"), "its own checkpoints folder"),
        ((*RATES, "--group", "a\nb"), "is not a name"),
        ((*RATES, "--data-path", "missing"), "data.dataset is synthetic"),
        ((*RATES, "--nproc-per-node", 99), "too few for 99 ranks"),
    ],
)
def test_nothing_is_queued_where_one_run_is_wrong(
    run_cli,  # type: ignore[no-untyped-def]
    tiny: tuple[object, ...],
    tmp_path: Path,
    flags: tuple[object, ...],
    words: str,
) -> None:
    output = run_cli("sweep", *tiny, *flags, "--runs-dir", tmp_path)
    assert output.code == 2, output
    assert words in output.err
    assert "\x1b" not in output.err
    assert discover_runs(tmp_path) == []


def test_every_wrong_value_is_named(run_cli, tiny, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wrong = ("--set", "optim.learning_rate=x,y,0.1")
    output = run_cli("sweep", *tiny, *wrong, "--runs-dir", tmp_path)
    assert output.code == 2
    assert "'x'" in output.err
    assert "'y'" in output.err


def test_without_data_it_says_what_is_missing(run_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    output = run_cli("sweep", *RATES, "--runs-dir", tmp_path)
    assert output.code == 2
    assert "trainer sweep needs to know what to train" in output.err


# -- results -----------------------------------------------------------------------------------


def member(runs_dir: Path, rate: object, seed: int, **state: Any) -> RunDirectory:
    run = create_run(runs_dir, f"lr={rate},seed={seed}")
    fields = {
        "status": "queued",
        "group": "g",
        "swept": {"optim.learning_rate": rate, "train.seed": seed},
        "max_steps": 10,
        "started_at": 1000.0 + seed,
        **state,
    }
    write_json(run.state_path, RunState(run_id=run.run_id, **fields).to_json())
    return run


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A group: one setting completed with two seeds, one with a failure, one that waits."""
    ended = {"status": "completed", "current_step": 10}
    member(tmp_path, 0.1, 1, **ended, val_loss=3.0)
    member(tmp_path, 0.1, 2, **ended, val_loss=3.5)
    member(tmp_path, 0.2, 1, **ended, val_loss=2.0)
    why = ExitRecord(1, "the disk is full \x1b[2J")
    member(tmp_path, 0.2, 2, status="failed", current_step=4, exit=why)
    member(tmp_path, "=cmd\x1b|x", 1)
    create_run(tmp_path, "other")
    return tmp_path


def test_the_table_begins_with_the_lowest_loss_and_marks_the_best(run_cli, group: Path) -> None:  # type: ignore[no-untyped-def]
    output = run_cli("sweep", "status", "g", "--runs-dir", group)
    assert output.code == 0, output.err
    assert "\x1b" not in output.out
    lines = output.out.splitlines()
    assert lines[0] == "group g: 5 runs, 3 completed, 1 queued, 1 failed"
    assert lines[1].split() == [
        "lr", "seed", "val", "loss", "mean", "spread", "status", "steps", "note",
    ]  # fmt: skip
    assert lines[2].split()[:4] == ["0.2", "1", "2.0000", "2.0000"]
    assert "failed" in lines[3]
    assert "the disk is full" in lines[3]
    assert lines[4].split()[:6] == ["★", "0.1", "1", "3.0000", "3.2500", "±0.3536"]
    assert lines[-1] == "★ best so far: lr=0.1, mean 3.2500 ± 0.3536 over 2 seeds"


def test_the_same_as_json_and_csv(run_cli, group: Path) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(run_cli("sweep", "status", "g", "--json", "--runs-dir", group).out)
    assert [s["mean"] for s in found["settings"]] == [2.0, 3.25, None]
    assert [s["best"] for s in found["settings"]] == [False, True, False]
    text = run_cli("sweep", "status", "g", "--csv", "--runs-dir", group).out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rank"] for row in rows] == ["1", "1", "2", "2", "3"]
    assert [row["val_loss"] for row in rows] == ["2.0", "", "3.0", "3.5", ""]
    assert rows[-1]["optim.learning_rate"] == "'=cmd|x", "no formula, no escape sequence"
    both = run_cli("sweep", "status", "g", "--csv", "--json", "--runs-dir", group)
    assert both.code == 2


def test_groups_are_listed_and_an_unknown_one_refused(run_cli, group: Path) -> None:  # type: ignore[no-untyped-def]
    listed = run_cli("sweep", "status", "--runs-dir", group)
    assert listed.out.splitlines()[1].split()[:3] == ["g", "5", "3"]
    for command in ("status", "retry", "stop"):
        output = run_cli("sweep", command, "gg", "--runs-dir", group)
        assert output.code == 2
        assert "There is no group 'gg'" in output.err
        assert "did you mean g?" in output.err
    missing = run_cli("sweep", "status", "g", "--runs-dir", group / "missing")
    assert missing.code == 2
    assert "is not a folder" in missing.err


def test_without_validation_training_losses_are_compared(run_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for rate, loss in ((0.1, 2.0), (0.2, float("nan")), (0.3, 1.0)):
        member(tmp_path, rate, 1, status="completed", current_loss=loss)
    output = run_cli("sweep", "status", "g", "--runs-dir", tmp_path).out
    assert "training losses are compared" in output
    assert [line.split()[:2] for line in output.splitlines()[3:6]] == [
        ["★", "0.3"],
        ["0.1", "1"],
        ["0.2", "1"],
    ]
    assert "nan" in output


def test_queued_runs_of_a_stopped_group_are_cancelled_and_queued_again(
    run_cli, tiny, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    place = ("--runs-dir", tmp_path)
    assert run_cli("sweep", *tiny, *RATES, "--max-steps", 3, "--group", "g", *place).code == 0
    stopped = run_cli("sweep", "stop", "g", *place)
    assert stopped.code == 0, stopped.err
    runs = discover_runs(tmp_path)
    assert [state_of(run).status for run in runs] == ["cancelled"] * 2
    left = run_cli("sweep", "retry", "g", *place)
    assert "2 stopped runs not queued; --stopped queues them too" in left.out
    again = run_cli("sweep", "retry", "g", "--stopped", *place)
    assert again.code == 0, again.err
    states = [state_of(run) for run in runs]
    assert [(s.status, s.group, bool(s.swept)) for s in states] == [("queued", "g", True)] * 2
