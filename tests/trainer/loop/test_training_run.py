"""What a run leaves behind, and how it answers signals and requests."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import link_target, list_checkpoints, newest_sound
from shared.checkpoints.manifest import verify_folder
from shared.control.requests import submit
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.trainer.loop.conftest import TINY, Train, as_flags, find, resume, start_process, wait_for
from tests.waiting import SECONDS
from trainer.checkpoint.disk import Disk
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.loop.signals import StopSignals
from trainer.loop.training import Training

GUIDE_LINE = re.compile(r"\[INFO\] step (\d+) \| loss: \d+\.\d{3} \| lr: \d\.\d{6} \| time: \d+ms")


def test_records_of_a_run(train: Train) -> None:
    done = train("records")
    assert done.code == 0
    state = done.state
    assert (state.status, state.current_step, state.max_steps) == ("completed", 12, 12)
    assert state.exit is not None
    assert state.exit.code == 0
    assert state.total_forward == state.total_backward == 12
    assert state.tokens_total == 12 * 4 * 16
    assert state.model["parameters"] > 0
    assert [t.to for t in state.phase_transitions] == ["warmup", "full"]
    assert [t.step for t in state.phase_transitions] == [1, 5]
    table = done.metrics
    for key in ("loss", "gradient_norm", "step_time_ms", "learning_rate", "tokens_per_second"):
        assert table.series(key).steps.tolist() == list(range(1, 13)), key
    val = table.series("val_loss")
    assert val.steps.tolist() == [4, 8, 12]
    assert state.best_loss == val.values.min()
    assert state.best_metric == "val_loss"
    perplexity = table.series("val_perplexity").values
    assert perplexity == pytest.approx([math.exp(v) for v in val.values])
    # Characters are bytes, but every document also ends in one more token.
    bits = table.series("val_bits_per_byte").values
    assert bits == pytest.approx([v / math.log(2) for v in val.values], rel=1e-3)
    rates = table.series("learning_rate").values
    assert rates[0] == pytest.approx(6e-4 / 4)
    assert rates[-1] == pytest.approx(6e-5)
    assert state.best_checkpoint == link_target(done.run.checkpoints, "best")
    assert not verify_folder(done.run.checkpoints / "final")


def test_first_loss_is_near_the_uniform_one(train: Train) -> None:
    log = train("first", log__interval=5).log
    first = re.search(r"Loss before training: (\d+\.\d+) ", log)
    assert first
    assert "lr: 0.000000" not in log
    assert float(first.group(1)) == pytest.approx(math.log(258), rel=0.03)
    assert "[WARN]" not in log


def test_console_lines_of_the_guides(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    done = train("console", log__interval=3)
    shown = capsys.readouterr().out
    assert shown == done.log, "train.log is what the console shows"
    steps = [int(m.group(1)) for m in GUIDE_LINE.finditer(done.log)]
    assert steps == [1, 3, 6, 9, 12], "the first step is where the records begin"
    assert "PHASE warmup" in done.log
    assert re.search(r"\[INFO\] Saving checkpoint to .*step_4.*\.safetensors", done.log)
    losses = [line.split("=")[1] for line in done.log.splitlines() if "loss=" in line]
    assert len(losses) == 5, "`grep loss= | sort -t= -k2 -n` finds every step line"
    assert all(float(x) > 0 for x in losses)


def test_learning_from_text_and_samples(train: Train) -> None:
    done = train(
        "learn",
        train__max_steps=150,
        optim__learning_rate=1e-2,
        eval__interval=50,
        eval__sample_interval=50,
        eval__sample_tokens=20,
        checkpoint__interval=50,
    )
    loss = done.metrics.series("loss").values
    assert loss[-10:].mean() < loss[0] - 1.5
    assert sorted(p.name for p in done.run.samples.iterdir()) == [
        "step_100.txt",
        "step_150.txt",
        "step_50.txt",
    ]
    assert next(e["file"] for e in done.events if e["event"] == "sample") == "samples/step_50.txt"


def test_synthetic_data(train: Train) -> None:
    done = train("synthetic", synthetic=True, data__n_samples=200)
    assert done.code == 0
    assert done.metrics.series("val_loss").steps.tolist() == [4, 8, 12]


def test_epochs_decide_the_steps(train: Train) -> None:
    done = train(
        "epochs", "--epochs", "2", synthetic=True, data__n_samples=20, train__max_steps="null"
    )
    assert done.state.max_steps == 10


def test_accumulation_equals_the_big_batch(train: Train) -> None:
    """The same 8 samples per step, as one batch and as four: the same losses but for rounding."""
    shape = {"train__dtype": "fp32", "train__max_steps": 6}
    one = train("one", train__batch_size=8, **shape).metrics.series("loss").values
    four = train("four", train__batch_size=2, train__accumulation_steps=4, **shape)
    assert four.metrics.series("loss").values == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(("keep_last", "top_k"), [(1, 0), (2, 0), (1, 2), (3, 1)])
def test_retention(train: Train, keep_last: int, top_k: int) -> None:
    done = train(
        "keep",
        train__max_steps=12,
        checkpoint__interval=2,
        checkpoint__keep_last=keep_last,
        checkpoint__save_top_k=top_k,
    )
    names = [c.name for c in list_checkpoints(done.run.checkpoints) if c.name != "final"]
    newest = [f"step_{s}" for s in range(14 - 2 * keep_last, 13, 2)]
    val = dict(zip(*(x.tolist() for x in _val(done.metrics)), strict=True))
    best = sorted((s for s in val if s % 2 == 0), key=val.__getitem__)[: max(top_k, 1)]
    assert set(names) == {*newest, *(f"step_{s}" for s in best)}
    assert link_target(done.run.checkpoints, "latest") == "step_12"
    assert link_target(done.run.checkpoints, "best") == f"step_{best[0]}"


def _val(table) -> tuple:  # type: ignore[no-untyped-def]
    series = table.series("val_loss")
    return series.steps, series.values


def test_no_more_than_keep_last_after_any_save(train: Train) -> None:
    counts: list[int] = []

    def count(training: Training) -> None:
        training.keeper.wait()
        counts.append(len(list_checkpoints(training.keeper.folder)))

    train(
        "count",
        hooks=Hooks(before_step=count),
        synthetic=True,
        checkpoint__interval=1,
        checkpoint__keep_last=2,
        checkpoint__save_top_k=0,
        eval__interval=100,
    )
    assert 2 <= max(counts) <= 3  # the two last ones, and best


def test_only_improvements_are_saved_when_asked(train: Train) -> None:
    done = train("better", checkpoint__always_save=False, checkpoint__interval=1, eval__interval=1)
    val = done.metrics.series("val_loss").values
    improved = [i + 1 for i in range(12) if val[i] == min(val[: i + 1])]
    saved = [
        int(e["name"][5:])
        for e in done.events
        if e["event"] == "checkpoint_saved" and e["name"] != "final"
    ]
    assert saved == sorted({*improved, 12})


def test_a_failed_save_keeps_training(train: Train) -> None:
    written: list[Path] = []

    def full_once(path: Path) -> None:
        written.append(path)
        if len(written) == 1:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    done = train("full", "--deterministic", hooks=Hooks(disk=Disk(written=full_once)))
    assert done.code == 0
    assert any(e["event"] == "checkpoint_failed" for e in done.events)
    assert [c.name for c in list_checkpoints(done.run.checkpoints)] == [
        "step_8",
        "step_12",
        "final",
    ]
    assert not list(done.run.checkpoints.glob(".tmp-*"))


def test_one_bad_step_changes_no_weight(train: Train) -> None:
    """A NaN gradient is skipped: the run goes on, and every checkpoint is finite."""
    from safetensors.torch import load_file

    def after_backward(session: Session, _parts: object) -> None:
        if session.progress.step == 5:
            session.model.lm_head.weight.grad.mul_(math.nan)

    done = train("bad-step", hooks=Hooks(after_backward=after_backward))
    assert done.code == 0
    assert sum(e["event"] == "nonfinite" for e in done.events) == 1
    assert not math.isfinite(done.metrics.series("gradient_norm").values[5])
    assert all(map(math.isfinite, done.metrics.series("loss").values))
    for tensor in load_file(done.run.checkpoints / "final" / "model.safetensors").values():
        assert tensor.isfinite().all()


def answer_of(run: RunDirectory, request: str):  # type: ignore[no-untyped-def]
    from shared.run.record_lines import read_records

    def find_answer():  # type: ignore[no-untyped-def]
        return next((e for e in read_records(run.events_path) if e.get("request") == request), None)

    return wait_for(find_answer, "an answer")


def test_requests_and_signals_of_a_process(tmp_path: Path, text_data: Path) -> None:
    """Pause, checkpoint, an unknown action, continue, then SIGINT: one real process."""
    where = tmp_path / "runs"
    settings = {**TINY, "train.max_steps": 1_000_000, "checkpoint.interval": 1_000_000}
    settings |= {"eval.interval": 1_000_000, "log.interval": 1000}
    flags = ["--runs-dir", str(where), "--data-path", str(text_data), *as_flags(settings)]
    process = start_process("train", "--name", "live", *flags)
    try:
        run = wait_for(lambda: _running(where), "the run")
        assert answer_of(run, submit(run.control, "pause"))["ok"]
        assert run.read_state().status == "paused"
        step = run.read_state().current_step
        saved = answer_of(run, submit(run.control, "checkpoint"))
        assert saved["ok"]
        assert saved["message"] == f"saved step_{step}"
        odd = answer_of(run, submit(run.control, "explode\x1b[2J"))
        assert not odd["ok"]
        assert "\x1b" not in odd["message"]
        assert run.read_state().current_step == step, "a paused run makes no step"
        assert answer_of(run, submit(run.control, "resume"))["ok"]
        wait_for(lambda: run.read_state().current_step > step, "a step after continuing")
        assert not list(run.control.iterdir()), "answered requests are taken away"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 75, output
    finally:
        process.kill()
    state = run.read_state()
    assert state.status == "preempted"
    assert "SIGINT" in state.exit.reason
    newest, problems = newest_sound(run.checkpoints)
    assert not problems
    assert newest is not None
    assert newest.step == state.current_step


def _running(where: Path) -> RunDirectory | None:
    if not where.is_dir() or not any(where.glob("live_*/run_state.json")):
        return None
    run = find(where, "live")
    state = run.read_state()
    return run if state and state.status == "running" and state.current_step > 0 else None


def test_a_second_signal_leaves_at_once() -> None:
    codes: list[int] = []
    with StopSignals(leave=codes.append) as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == "SIGTERM"
        assert not codes
        signal.raise_signal(signal.SIGTERM)
    assert codes == [128 + signal.SIGTERM]


def ask_at(step: int, *actions: str) -> Hooks:
    """Requests that are all there when `step` begins."""

    def before_step(training: Training) -> None:
        writer = training.writer
        if training.session.progress.step + 1 == step and writer.state.attempt == 1:
            for action in actions:
                submit(writer.run.control, action)
            wait_for(lambda: writer.waiting_requests == len(actions), "the requests to be seen")

    return Hooks(before_step=before_step)


def test_a_stop_request_ends_cleanly(train: Train) -> None:
    done = train("stopped", hooks=ask_at(3, "stop"))
    assert done.code == 0
    assert done.state.status == "cancelled"
    assert done.state.current_step == 3
    assert [c.name for c in list_checkpoints(done.run.checkpoints)] == ["step_3"]
    assert resume(done.run).state.status == "completed"


def test_two_trainers_on_one_run(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    first = train("twice", train__max_steps=4)
    holder = RunWriter(run=first.run)
    try:
        assert resume(first.run, "--max-steps", "8").code == 2
        assert "already being trained by process" in capsys.readouterr().err
    finally:
        holder.finish("completed")


def test_an_unexpected_error_is_recorded(train: Train, tmp_path: Path) -> None:
    def explode(_training: Training) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        train("boom", hooks=Hooks(before_step=explode))
    run = find(tmp_path / "runs", "boom")
    state = run.read_state()
    assert state.status == "failed"
    assert state.exit.reason == "RuntimeError: boom"
    assert "RuntimeError: boom" in state.exit.last_log_lines[-1]


def test_moved_run_directory_resumes(train: Train, tmp_path: Path) -> None:
    first = train("moved", train__max_steps=4)
    moved = tmp_path / "elsewhere" / first.run.run_id
    moved.parent.mkdir()
    shutil.move(first.run.path, moved)
    again = resume(RunDirectory(moved), "--max-steps", "8")
    assert again.code == 0
    assert again.state.current_step == 8


def test_a_save_that_reads_back_wrong_is_discarded(train: Train) -> None:
    def rot(path: Path) -> None:
        """A bit of step 8 turns after its checksum was taken, always."""
        if path.name == "manifest.json" and "step_8" in path.parent.name:
            weights = path.with_name("model.safetensors")
            data = bytearray(weights.read_bytes())
            data[-1] ^= 1
            weights.write_bytes(data)

    hooks = Hooks(disk=Disk(written=rot))
    done = train("rot", hooks=hooks, checkpoint__keep_last=1, checkpoint__save_top_k=0)
    assert done.code == 0
    failed = [e for e in done.events if e["event"] == "checkpoint_failed"]
    assert "reads back wrong" in failed[0]["message"]
    assert "step_4" not in [
        e["name"] for e in done.events[: done.events.index(failed[0])] if "removed" in e["event"]
    ], "the older one stays until a newer one is sound"


def test_bests_of_lost_steps_are_lost(train: Train) -> None:
    first = train("best", eval__interval=1, train__max_steps=12)
    best = first.state.best_loss
    again = resume(first.run, "--from", "step_4", "--set", "optim.learning_rate=1e-9")
    assert again.code == 0
    assert again.state.best_loss > best
    assert again.state.best_step <= 12


def test_a_lost_checkpoint_folder_is_told(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "disk"
    first = train("lost", "--checkpoint-dir", str(out))
    out.rename(tmp_path / "unmounted")
    assert resume(first.run, "--max-steps", "20").code == 1
    assert "is its disk mounted?" in capsys.readouterr().err
    assert first.state.status == "completed"
    assert not out.exists()


def test_a_checkpoint_folder_has_one_owner(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shared"
    first = train("one", "--checkpoint-dir", str(out))
    for extra in ([], ["--detach"]):
        assert train("one", "--checkpoint-dir", str(out), *extra).code == 2
        assert "already holds checkpoints" in capsys.readouterr().err
    shutil.rmtree(first.run.path / "checkpoints", ignore_errors=True)
    for folder in [p for p in out.iterdir() if p.name != ".owner"]:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    assert train("one", "--checkpoint-dir", str(out)).code == 2
    assert "belongs to the run one_" in capsys.readouterr().err


def test_a_run_begun_from_a_foreign_checkpoint_has_its_own_at_once(
    train: Train, tmp_path: Path
) -> None:
    first = train("source")
    copy = tmp_path / "copy" / "step_12"
    shutil.copytree(first.run.checkpoints / "step_12", copy)
    shutil.rmtree(first.run.path)

    def stop(_training: Training) -> None:
        raise KeyboardInterrupt

    hooks = Hooks(before_step=stop)
    begun = train("begun", "--resume", str(copy), hooks=hooks, train__max_steps=20)
    assert begun.run != first.run
    assert [c.name for c in list_checkpoints(begun.run.checkpoints)] == ["step_12"]


def test_requests_that_come_together_are_all_served(train: Train) -> None:
    done = train("together", hooks=ask_at(3, "pause", "checkpoint", "stop"))
    assert done.state.status == "cancelled"
    assert [e["action"] for e in done.events if e["event"] == "answer"] == [
        "pause",
        "checkpoint",
        "stop",
    ]


def test_other_data_order_is_told(train: Train) -> None:
    first = train("seeded")
    again = resume(first.run, "--max-steps", "14", "--set", "train.seed=7")
    assert "[WARN] The data has changed since the checkpoint: the seed of the order" in again.log


def test_a_jump_of_the_learning_rate_is_told_with_both_rates(train: Train) -> None:
    first = train("short", optim__min_lr=1e-6, optim__warmup_steps=0)
    again = resume(first.run, "--max-steps", "40")
    assert "[WARN] The learning rate jumps from 1e-06 to" in again.log
    assert "The data has changed" not in again.log


def test_epochs_count_what_was_used(train: Train) -> None:
    flags = {"synthetic": True, "data__n_samples": 40, "train__max_steps": "null"}
    first = train("passes", "--epochs", "1", **flags)
    assert first.state.max_steps == 10
    again = resume(first.run, "--set", "train.epochs=2", "--batch-size", "8")
    assert again.state.max_steps == 15, "the second pass in steps of twice the size"


def test_a_filesystem_without_links_ends_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "symlink", refuse)
    done = train("no-links", checkpoint__keep_last=1, checkpoint__save_top_k=0)
    assert done.code == 0
    assert "Operation not supported" in done.log
    assert [c.name for c in list_checkpoints(done.run.checkpoints)] == ["step_12", "final"]


def test_hours_end_a_run(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of so many hours ends whole, with a final checkpoint, and can be given more."""
    done = train("hours", train__max_steps=10**6, train__max_hours=1e-4, checkpoint__interval=10**6)
    assert done.code == 0
    assert done.state.status == "completed"
    assert 1 <= done.state.current_step < 10**6
    assert "in 0.0001 hours" in done.state.exit.reason
    seconds = done.metrics.series("step_time_ms").values / 1000
    assert seconds.sum() > 0.36 - 1e-6, "not before the time is up"
    assert seconds[:-1].sum() < 0.36, "but in the step in which it is"
    assert not verify_folder(done.run.checkpoints / "final")
    assert resume(done.run).code == 2
    assert "has used up its 0.0001 hours" in capsys.readouterr().err
    more = resume(done.run, "--set", "train.max_hours=0.0002")
    assert more.code == 0
    assert more.state.current_step > done.metrics.series("loss").steps[-1] - 1
