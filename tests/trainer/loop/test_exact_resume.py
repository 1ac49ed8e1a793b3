"""An interrupted run ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import list_checkpoints
from tests.trainer.loop.conftest import GPT2, Train, resume
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session

VARIANTS = {
    "llama-fp32": {"train.dtype": "fp32"},
    "llama-bf16-lion": {"train.dtype": "bf16", "optim.name": "lion"},
    "qwen3-documents-accumulation-dropout-muon": {
        "model.qk_norm": True,
        "train.document_mask": True,
        "train.accumulation_steps": 3,
        "model.dropout": 0.1,
        "optim.name": "muon",
    },
    "gpt2-dropout-fp32": {**GPT2, "train.dtype": "fp32"},
    "gpt2-dropout-bf16-accumulation-muon+lion": {
        **GPT2,
        "optim.name": "muon+lion",
        "train.dtype": "bf16",
        "train.accumulation_steps": 2,
    },
}


def underscored(settings: dict[str, object]) -> dict[str, object]:
    return {k.replace(".", "__"): v for k, v in settings.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_and_resumed_equals_uninterrupted(train: Train, variant: str) -> None:
    changes = underscored(VARIANTS[variant])
    whole = train("whole", "--deterministic", **changes)
    assert whole.code == 0
    # Stop wherever the schedule of evaluations and checkpoints does not, twice.
    hooks = stop_at(5, 7)
    parts = train("parts", "--deterministic", hooks=hooks, checkpoint__keep_last=1, **changes)
    assert parts.code == 75
    assert parts.state.status == "preempted"
    assert resume(parts.run, hooks=hooks).code == 75
    assert [c.name for c in list_checkpoints(parts.run.checkpoints)][-1] == "step_7"
    random.seed(0)  # other generators' states must come from the checkpoint
    last = resume(parts.run)
    assert last.code == 0
    assert last.hashes("final") == whole.hashes("final")
    assert last.hashes("step_12") == whole.hashes("step_12")
    assert last.state.attempt == 3
    assert last.state.best_loss == whole.state.best_loss
    assert last.state.best_step == whole.state.best_step
    assert last.state.total_backward == whole.state.total_backward
    assert last.state.tokens_total == whole.state.tokens_total
    for key in ("loss", "val_loss", "gradient_norm", "learning_rate"):
        ours, theirs = last.metrics.series(key), whole.metrics.series(key)
        assert ours.steps.tolist() == theirs.steps.tolist()
        assert ours.values.tolist() == theirs.values.tolist()


def stop_at(*steps: int) -> Hooks:
    """Let a SIGTERM arrive in the middle of these steps."""

    def after_backward(session: Session, _parts: object) -> None:
        if session.progress.step + 1 in steps:
            signal.raise_signal(signal.SIGTERM)

    return Hooks(after_backward=after_backward)


def test_compiled_runs_resume_exactly(train: Train) -> None:
    whole = train("whole", "--deterministic", "--compile", train__max_steps=6)
    stopping = {"hooks": stop_at(3), "train__max_steps": 6}
    parts = train("parts", "--deterministic", "--compile", **stopping)
    assert parts.code == 75
    assert resume(parts.run).hashes("final") == whole.hashes("final")


def test_resume_from_an_older_checkpoint_sets_newer_ones_aside(train: Train) -> None:
    first = train("old", "--deterministic")
    whole = first.hashes("final")
    again = resume(first.run, "--from", "step_4")
    assert again.code == 0
    assert again.hashes("final") == whole
    assert (first.run.checkpoints / "superseded_2_step_12").is_dir()
    assert any(e["event"] == "checkpoint_superseded" for e in again.events)


def test_extending_max_steps(train: Train) -> None:
    first = train("longer")
    assert resume(first.run).code == 2  # nothing left to do is told
    assert first.state.status == "completed"
    more = resume(first.run, "--max-steps", "16")
    assert more.code == 0
    assert more.state.current_step == 16
    assert more.state.max_steps == 16
    assert more.metrics.series("loss").steps.tolist() == list(range(1, 17))
    assert "max_steps: 16" in more.run.config_path.read_text()


def test_another_shape_is_refused_with_both_named(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train("shape")
    before = first.hashes("final")
    assert resume(first.run, "--max-steps", "20", "--set", "model.hidden_size=64").code == 2
    assert "hidden_size is 32 there and 64 in the configuration" in capsys.readouterr().err
    assert first.hashes("final") == before
    assert first.state.status == "completed"


def test_resume_latest_and_guide_file_names(train: Train, tmp_path: Path) -> None:
    """`--resume latest`, and `--resume-from out_dir/ckpt_latest.safetensors` as in the guide."""
    out = tmp_path / "checkpoints"
    first = train("guide", "--checkpoint-dir", str(out))
    assert (out / "ckpt_latest.safetensors").resolve() == (out / "step_12/model.safetensors")
    assert (out / "ckpt_best.safetensors").is_file()
    assert (out / "ckpt_step_12.safetensors").is_file()
    latest = str(out / "ckpt_latest.safetensors")
    second = train("guide", "--resume-from", latest, train__max_steps=14)
    assert second.run == first.run
    assert second.state.current_step == 14
    third = train("guide", "--resume", "latest", train__max_steps=15)
    assert third.run == first.run
    assert third.state.current_step == 15


def test_a_damaged_newest_checkpoint_falls_back(train: Train) -> None:
    first = train("damaged", "--deterministic")
    whole = first.hashes("final")
    for name in ("final", "step_12"):
        weights = first.run.checkpoints / name / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-100] ^= 1
        weights.unlink()
        weights.write_bytes(data)
    again = resume(first.run)
    assert again.code == 0
    assert again.hashes("final") == whole
    assert "using an older checkpoint" in again.log
    corrupt = [e for e in again.events if e["event"] == "checkpoint_corrupt"]
    assert [(e["name"], e["moved_to"]) for e in corrupt] == [
        ("step_12", "step_12.corrupt"),
        ("final", "final.corrupt"),
    ]
    assert all("does not match its checksum" in e["message"] for e in corrupt)
    assert (first.run.checkpoints / "step_12.corrupt" / "model.safetensors").is_file()
    assert [c.name for c in list_checkpoints(first.run.checkpoints) if not c.whole] == []
