"""Training that ends when the validation loss no longer improves, also across a resume."""

from __future__ import annotations

import pytest

from tests.conftest import RunCli
from tests.trainer.loop.conftest import Train, Trained, resume
from tests.trainer.loop.test_exact_resume import stop_at

#: Evaluates every second step at a rate so high that only the first evaluations improve.
RESTLESS = {
    "train__patience": 3,
    "train__max_steps": 60,
    "optim__learning_rate": 0.3,
    "optim__warmup_steps": 1,
    "optim__schedule": "constant",
    "eval__interval": 2,
    "checkpoint__interval": 100,
    "log__interval": 100,
}


def losses(done: Trained) -> list[float]:
    return list(done.metrics.series("val_loss").values)


def test_it_stops_after_so_many_evaluations_without_a_lower_loss(
    train: Train, run_cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    done = train("early", "--deterministic", **RESTLESS)
    state = done.state
    assert (done.code, state.status) == (0, "completed")
    assert min(losses(done)) == losses(done)[-4]
    assert state.current_step == 2 * len(losses(done)) < 60
    [told] = [e for e in done.events if e["event"] == "stopped_early"]
    assert told["evaluations"] == 3
    assert state.exit is not None
    assert state.exit.reason == told["message"]
    assert f"of step {state.best_step}" in told["message"]
    assert (done.run.checkpoints / "final").is_dir()
    assert (state.patience, state.evaluations_without_improvement) == (3, 3)
    assert "stopped early at step" in run_cli("status", "--runs-dir", done.run.path.parent).out

    # The count is part of the position: a run that was stopped and resumed ends at the same step.
    last = state.current_step
    parts = train("parts", "--deterministic", hooks=stop_at(last - 4, last - 1), **RESTLESS)
    assert parts.code == 75
    assert resume(parts.run, hooks=stop_at(last - 1)).code == 75
    again = resume(parts.run)
    assert again.code == 0
    assert again.hashes("final") == done.hashes("final")

    capsys.readouterr()
    assert resume(done.run).code == 2
    assert "--patience with more than 3" in capsys.readouterr().err
    assert resume(done.run, "--patience", "4").state.current_step > last


def test_patience_without_validation_data_is_refused(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError):
        train("none", train__patience=3, train__seq_len=30000, model__max_seq_len=30000)
    err = capsys.readouterr().err
    assert "train.patience is 3, but nothing is evaluated" in err


def test_a_resume_with_other_data_and_length_is_told_and_recorded(
    train: Train, token_data: object
) -> None:
    first = train("moved", train__max_steps=4, checkpoint__interval=2)
    flags = ("--data-path", str(token_data), "--seq-len", "8", "--max-steps", "6")
    again = resume(first.run, *flags)
    assert again.code == 0
    [told] = [e for e in again.events if e["event"] == "warning"]
    for what in ("the number of training tokens", "the sequence length was 16 and is 8"):
        assert what in told["message"]
    assert f"path: {token_data}" in again.run.config_path.read_text()
    assert again.state.tokens_total == 4 * 4 * 16 + 2 * 4 * 8


def test_epochs_count_tokens_when_a_resume_changes_the_length(train: Train) -> None:
    flags = {"synthetic": True, "data__n_samples": 40, "train__max_steps": "null"}
    first = train("shorter", "--epochs", "1", **flags)
    assert first.state.max_steps == 10
    again = resume(first.run, "--set", "train.epochs=3", "--seq-len", "8")
    assert again.state.max_steps == 20, "40 sequences of 16 were two passes of 8"


def test_losses_on_other_validation_data_are_not_compared(train: Train) -> None:
    """Neither by patience and `best`, nor by what is kept: other windows are another measure."""
    settings = {
        **RESTLESS,
        "train__patience": 50,
        "train__max_steps": 8,
        "checkpoint__interval": 2,
    }
    run = train("windows", **settings).run
    kept = ("--set", "checkpoint.keep_last=1", "--set", "checkpoint.save_top_k=1")
    done = resume(run, "--max-steps", "12", "--set", "eval.batches=1", *kept)
    assert done.code == 0
    told = done.run.log_path.read_text()
    assert "The validation data has changed: the best loss is sought anew" in told
    assert "the number of validation sequences was 8 and is 4" in told
    new = losses(done)[-2:]
    best = 10 if new[0] < new[1] else 12
    assert (done.state.best_step, done.state.best_loss) == (best, pytest.approx(min(new)))
    present = {path.name for path in done.run.checkpoints.glob("step_*")}
    assert present == {"step_12", f"step_{best}"}
