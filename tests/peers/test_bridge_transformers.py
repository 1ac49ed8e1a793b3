"""transformers' own Trainer writes a run of ours and obeys our keys."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.checkpoints.catalogue import list_checkpoints, newest_sound
from shared.checkpoints.prune import Rule, plan_prune, prune
from shared.checkpoints.resumable import why_no_trainer_resumes
from shared.control.client import ask
from shared.control.waiting import Patience
from shared.errors import UserError
from shared.hub.source import Source
from shared.hub.staging import names_to_send
from shared.ownership.health import observe
from shared.ownership.lock import lock_is_held
from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_log import MetricsReader
from shared.run.record_lines import read_records
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)

STEPS = 6


def make_trainer(place: Path, *callbacks: Any, **settings: Any) -> Any:
    """A Trainer of a tiny GPT-2."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from shared.bridges.transformers import RunCallback

    torch.set_num_threads(1)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    )
    rows = [{"input_ids": torch.arange(8) + i, "labels": torch.arange(8) + i} for i in range(16)]
    arguments = {
        "output_dir": str(place / "out"),
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "logging_steps": 2,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "run_name": "tuned",
        **settings,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=rows,
        eval_dataset=rows[:4],
        callbacks=[RunCallback(place / "runs"), *callbacks],
    )


def the_run(place: Path) -> RunDirectory:
    (run,) = discover_runs(place / "runs")
    return run


def events(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_records(run.events_path) if e["event"] == kind]


def test_a_training_is_a_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, eval_strategy="steps", eval_steps=3)
    trainer.train()
    run = the_run(tmp_path)
    state = run.read_state()
    assert state is not None
    assert (state.status, state.run_name, state.current_step) == ("completed", "tuned", STEPS)
    assert (state.max_steps, state.best_metric) == (STEPS, "val_loss")
    table = MetricsReader(run.metrics_path).read_all()
    logged = {r["step"]: r["loss"] for r in trainer.state.log_history if "loss" in r}
    assert list(table.series("loss").steps) == list(logged) == [2, 4, 6]
    assert list(table.series("loss").values) == pytest.approx(list(logged.values()))
    assert list(table.series("val_loss").steps) == [3, 6]
    assert len(table.series("step_time_ms").steps) == STEPS
    assert list(table.series("gradient_norm").steps) == [2, 4, 6]
    config = yaml.safe_load(run.config_path.read_text())
    assert next(iter(config)) == "trained_by" and config["model"]["n_embd"] == 16
    assert len(events(run, "evaluated")) == 2
    assert not lock_is_held(run.lock_path)
    trainer.evaluate()  # after the end nothing is written, and nothing fails


def during(act: Callable[[RunDirectory], None], place: Path) -> threading.Thread:
    """`act` in a thread, once the run trains."""

    def work() -> None:
        def running() -> RunDirectory | None:
            for run in discover_runs(place / "runs") if (place / "runs").is_dir() else []:
                state = run.read_state()
                if state is not None and state.status == "running" and state.current_step > 1:
                    return run
            return None

        act(until(running))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_pause_save_and_stop_work_on_it(tmp_path: Path) -> None:
    answers: list[tuple[bool, str]] = []

    def act(run: RunDirectory) -> None:
        patience = Patience(look=0.02)
        for action in ("pause", "pause", "checkpoint", "checkpoint", "resume", "nonsense", "stop"):
            answer = ask(run, action, patience=patience).wait()
            assert answer is not None
            answers.append((answer.ok, answer.message))
            if action == "pause":
                state = run.read_state()
                assert state is not None and state.status == "paused"
                assert observe(run, state).alive

    person = during(act, tmp_path)
    trainer = make_trainer(tmp_path, max_steps=1_000_000)
    trainer.train()
    person.join()
    assert [ok for ok, _ in answers] == [True, False, True, True, True, False, True], answers
    (step,) = {int(message.rpartition(" ")[2]) for _, message in answers[:1]}
    assert answers[2][1] == f"saved checkpoint-{step}"
    assert (tmp_path / "out" / f"checkpoint-{step}" / "model.safetensors").is_file()
    run = the_run(tmp_path)
    state = run.read_state()
    assert state is not None and state.status == "cancelled"
    assert state.exit is not None and state.exit.reason.startswith("stopped at step ")
    # A stop saves, as with our own trainer.
    assert (tmp_path / "out" / f"checkpoint-{state.current_step}").is_dir()
    assert state.current_step == trainer.state.global_step < 1_000_000
    with pytest.raises(UserError, match=r"ended|answer"):
        ask(run, "stop", patience=Patience(timeout=0.1, look=0.02)).wait(withdraw=True)


def test_its_checkpoints_are_the_runs(tmp_path: Path) -> None:
    saving: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "save_total_limit": 4,
    }
    (tmp_path / "out" / "checkpoint-99").mkdir(parents=True)  # of a training without the callback
    make_trainer(tmp_path, **saving).train()
    run = the_run(tmp_path)
    listed = list_checkpoints(run.checkpoints)
    assert [(c.name, c.step, c.whole) for c in listed] == [
        (f"checkpoint-{step}", step, True) for step in (2, 4, 6)
    ]
    assert listed[-1].is_latest and [c.is_best for c in listed].count(True) == 1
    assert all(c.val_loss is not None and c.bytes > 10_000 for c in listed)
    assert min(listed, key=lambda c: c.val_loss or 0.0).is_best
    assert [newest_sound(run.checkpoints)[1]] == [[]]
    assert "trained by" in why_no_trainer_resumes(run)
    # Pruned with the same care: the newest and the best stay, what goes can be restored.
    plan = plan_prune(run.checkpoints, Rule(remove=("2",)))
    prune(plan)
    assert [c.name for c in list_checkpoints(run.checkpoints)] == ["checkpoint-4", "checkpoint-6"]
    with pytest.raises(UserError, match="cannot be removed"):
        plan_prune(run.checkpoints, Rule(remove=("checkpoint-6",)))
    # What the Hub gets is the model alone: no pickles, nothing of the training.
    names = names_to_send(Source(run.checkpoints.resolve() / "checkpoint-6", run), False)
    assert set(names) == {"config.json", "generation_config.json", "model.safetensors"}
    # The Trainer resumes what is left, and the run goes on.
    trainer = make_trainer(tmp_path, **{**saving, "max_steps": 8})
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    assert the_run(tmp_path).path == run.path
    state = run.read_state()
    assert state is not None
    assert (state.status, state.attempt, state.current_step) == ("completed", 2, 8)
    assert [e["checkpoint"] for e in events(run, "resumed")] == ["checkpoint-6"]
    assert list_checkpoints(run.checkpoints)[-1].name == "checkpoint-8"
    # Another training into the same folder takes it over.
    make_trainer(tmp_path).train()
    assert list_checkpoints(run.checkpoints) == []
    assert len(discover_runs(tmp_path / "runs")) == 2
