"""Runs with predicted steps: records, exact resume, and predictions that are taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.trainer.loop.conftest import Train, Trained, resume
from trainer.config.resolve import resolve
from trainer.config.schema import HybridConfig
from trainer.distributed.device import Compute
from trainer.hybrid.predictors import PREDICTORS
from trainer.loop.hooks import Hooks
from trainer.loop.memory_plan import estimated_memory

HYBRID: dict[str, Any] = {
    "hybrid__predictor": "outer_nesterov",
    "hybrid__every": 4,
    "hybrid__correct": 2,
    "hybrid__begin": 0.1,
    "hybrid__band": 100,
    "train__max_steps": 20,
    "optim__schedule": "constant",
}


@pytest.fixture(scope="module")
def whole(trained: Train) -> Trained:
    return trained("whole", "--deterministic", **HYBRID)


def records(done: Trained) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.run.metrics_path.read_text().splitlines()]


def test_phases_and_counts_are_recorded(whole: Trained) -> None:
    assert whole.code == 0
    steps = [r for r in records(whole) if "learning_rate" in r]
    predicted = [r["step"] for r in steps if r["was_predicted"]]
    assert predicted == [9, 14]  # one at 19 could not be judged any more
    assert [r["step"] for r in steps] == list(range(1, 21))
    assert whole.state.total_backward == 20 - len(predicted)
    phases = {r["step"]: r["phase"] for r in steps}
    assert [phases[step] for step in (8, 9, 10, 11, 12)] == [
        "full", "predict", "correct", "correct", "full"
    ]  # fmt: skip
    judged = [r for r in steps if r.get("prediction_error") is not None]
    assert [r["step"] for r in judged] == [11, 16]
    assert all(r["prediction_error"] > 0 and 0 < r["prediction_confidence"] < 1 for r in judged)


@pytest.mark.parametrize("predictor", ["outer_nesterov", "regression"])
@pytest.mark.parametrize("step", [7, 9, 10, 12])
def test_a_run_resumes_in_any_phase(
    train: Train, trained: Train, predictor: str, step: int
) -> None:
    settings = {**HYBRID, "hybrid__predictor": predictor, "train__max_steps": 15}

    def stop(training: Any) -> None:
        if training.session.progress.step == step:
            raise KeyboardInterrupt

    at_once = trained(predictor, "--deterministic", **settings)
    every = {**settings, "checkpoint__interval": 1}
    part = train("part", "--deterministic", hooks=Hooks(before_step=stop), **every)
    assert part.code != 0
    done = resume(part.run)
    assert done.code == 0
    assert done.hashes("final")[0] == at_once.hashes("final")[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lion"])
def test_a_prediction_that_hurts_is_taken_back_bit_by_bit(train: Train, optimizer: str) -> None:
    """The loss after it is made to rise."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def look(training: Any) -> None:
        session = training.session
        tensors = {**session.model.state_dict(), **session.optimizer.tensors()}
        seen[session.progress.step] = {
            name: value.clone() for name, value in tensors.items() if "kept_" not in name
        }

    def hurt(session: Any, parts: list[Any]) -> None:
        if session.progress.step == 10:  # the step after a prediction and one real step
            parts[0].loss.mul_(100)

    settings = {
        **HYBRID,
        "hybrid__band": 3,
        "optim__name": optimizer,
        "optim__ema_decay": 0.9,
        "hybrid__rollbacks": 1,
    }
    done = train("hurt", hooks=Hooks(before_step=look, after_backward=hurt), **settings)
    assert done.code == 0
    (event,) = [e for e in done.events if e["event"] == "prediction_rolled_back"]
    assert event["off"]
    before, after = seen[8], seen[11]
    assert before.keys() == after.keys()
    for name, value in before.items():
        if not name.startswith("rng."):
            assert torch.equal(value, after[name]), name
    assert sum(bool(r.get("was_predicted")) for r in records(done)) == 1


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_the_estimate_counts_what_is_kept(predictor: str) -> None:
    """AdamW and an average keep three numbers per weight, and all of them are copied."""
    plain = resolve({"model.vocab_size": 97, "optim.ema_decay": 0.9})
    cpu = Compute(torch.device("cpu"), bf16=False, compile=False)
    hybrid = plain.model_copy(update={"hybrid": HybridConfig(predictor=predictor)})  # type: ignore[arg-type]
    one, other = (estimated_memory(config, cpu) for config in (plain, hybrid))
    kept = 1 + len(PREDICTORS[predictor].keeps) + 1 + 3
    assert other.optimizer - one.optimizer == pytest.approx(kept * one.weights, rel=0.01)


def test_figures_that_are_read_late_change_nothing(train: Train) -> None:
    def hurt(session: Any, parts: list[Any]) -> None:
        if session.progress.step == 15:
            parts[0].loss.mul_(100)

    settings = {**HYBRID, "hybrid__band": 3, "train__max_steps": 40}
    found = [
        train(name, "--deterministic", hooks=Hooks(after_backward=hurt, late=late), **settings)
        for name, late in (("once", False), ("late", True))
    ]
    told = [[(r["step"], r["phase"], r.get("loss")) for r in records(done)] for done in found]
    assert told[0] == told[1]
    assert found[0].hashes("final")[0] == found[1].hashes("final")[0]
    assert all("prediction_rolled_back" in [e["event"] for e in done.events] for done in found)


@pytest.mark.parametrize("predictor", [None, "regression", "ema_nesterov"])
def test_another_predictor_begins_anew(train: Train, whole: Trained, predictor: str | None) -> None:
    """From a checkpoint that kept tensors for outer_nesterov, in the middle of its cycle."""
    kept: list[frozenset[str]] = []

    def look(training: Any) -> None:
        kept.append(training.session.optimizer.kept.names)

    other = train(
        "other",
        *("--begin-from", str(whole.run.checkpoints / "step_12"), "--begin-with", "state"),
        hooks=Hooks(before_step=look),
        **{**HYBRID, "hybrid__predictor": predictor or "null", "train__max_steps": 28},
    )
    assert other.code == 0
    assert kept[0] == frozenset()
    assert any(kept) == bool(predictor)


@pytest.mark.parametrize(
    "change",
    [
        {"model__ternary": True},
        {"model__ternary": True, "model__ternary_from": 0.5},
        {"train__accumulation_steps": 2, "train__batch_size": 2},
        {"model__mtp_heads": 1, "model__hyper_streams": 2},
        {"train__patience": 1, "eval__interval": 1, "optim__learning_rate": 1e-12},
    ],
    ids=",".join,
)
def test_predictions_work_with(train: Train, change: dict[str, Any]) -> None:
    """Every trained tensor moves, real steps judge it, and patience ends the run as ever."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def look(training: Any) -> None:
        parameters = training.session.parameters
        seen[training.session.progress.step] = {
            n: p.detach().clone() for n, p in parameters.items()
        }

    done = train("with", hooks=Hooks(before_step=look), **{**HYBRID, "hybrid__begin": 0, **change})
    assert done.code == 0
    if "train__patience" in change:
        assert done.state.current_step < 20 and "Stopped early" in done.log
        return
    predicted = [r["step"] for r in records(done) if r.get("was_predicted")]
    judged = [r for r in records(done) if r.get("prediction_confidence") is not None]
    assert predicted and len(judged) == len(predicted)
    for name, before in seen[predicted[0] - 1].items():
        moved = not torch.equal(before, seen[4][name])  # since the anchor
        assert torch.equal(before, seen[predicted[0]][name]) != moved, name


def test_predictions_train_adapters(train: Train, whole: Trained) -> None:
    """The base stays as it is, and adapters have no averages of it."""
    base = whole.run.checkpoints / "final"
    done = train("lora", "--begin-from", str(base), "--lora", "r=2", **HYBRID)
    assert done.code == 0
    assert sum(bool(r.get("was_predicted")) for r in records(done)) == 2


def test_a_model_that_grows_predicts_in_every_stage(train: Train, trained: Train) -> None:
    """No prediction is open where it grows, and a run resumes on both sides of it."""
    grows = {
        **HYBRID,
        "growth__stages": '[{"until": 0.5, "num_layers": 1}]',
        "hybrid__begin": 0,
        "train__max_steps": 36,
    }

    def stop(training: Any) -> None:
        if training.session.progress.step in (17, 24):
            raise KeyboardInterrupt

    at_once = trained("grows", "--deterministic", **grows)
    assert at_once.code == 0
    steps = [r["step"] for r in records(at_once) if r.get("was_predicted")]
    judged = [r["step"] for r in records(at_once) if r.get("prediction_confidence") is not None]
    assert [e["step"] for e in at_once.events if e["event"] == "grown"] == [18]
    assert steps[:2] == [9, 14] and len(steps) > 3
    assert all(not first <= 18 < last for first, last in zip(steps, judged, strict=True))
    part = train("part", "--deterministic", hooks=Hooks(before_step=stop), **grows)
    assert part.code != 0
    resume(part.run, hooks=Hooks(before_step=stop))  # stopped again, behind the growth
    done = resume(part.run)
    assert done.code == 0
    assert done.hashes("final") == at_once.hashes("final")


def test_what_does_not_go_together_is_refused(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, words in (
        ({"hybrid__correct": 4}, "must be less than hybrid.every"),
        ({"hybrid__predictor": "oracle"}, "hybrid.predictor"),
    ):
        with pytest.raises(FileNotFoundError):  # there is no run
            train("wrong", **{**HYBRID, **change})
        assert words in capsys.readouterr().err
