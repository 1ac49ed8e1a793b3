"""Losses and gradients that are no numbers, and losses that leap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.trainer.loop.conftest import Train, Trained, resume
from trainer.config.schema import StabilityConfig
from trainer.loop.figures import Part
from trainer.loop.hooks import Hooks, nothing
from trainer.loop.session import Session
from trainer.loop.stability import MIN_LOSSES, SpikeWindow
from trainer.loop.step import StepResult

Poison = Callable[[Session], bool]


def poison(wanted: Poison, value: float = math.nan) -> Hooks:
    """Where `wanted`, the gradient of one layer in the middle is `value`."""

    def after_backward(session: Session, _parts: Sequence[Part]) -> None:
        if wanted(session):
            weight = session.model.get_parameter("model.layers.0.mlp.down_proj.weight")
            assert weight.grad is not None
            weight.grad[0, 0] = value

    return Hooks(after_backward=after_backward)


def in_data(first: int, last: int) -> Poison:
    """Samples `first` to `last` are poison, whichever step reads them."""
    return lambda session: first <= session.progress.samples < last


def all_finite(done: Trained) -> bool:
    return all(
        tensor.isfinite().all()
        for folder in done.run.checkpoints.iterdir()
        if not folder.is_symlink()
        for tensor in load_file(folder / "model.safetensors").values()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_data_is_passed_over(train: Train, value: float) -> None:
    shape = {"train__max_steps": 40, "eval__interval": 40, "checkpoint__interval": 8}
    clean = train("clean", **shape)
    # Steps 11, 12 and 13.
    done = train("poisoned", hooks=poison(in_data(10 * 4, 13 * 4), value), **shape)
    assert done.code == 0
    back = [e for e in done.events if e["event"] == "rolled_back"]
    assert [(e["from_step"], e["to_step"], e["checkpoint"]) for e in back] == [(13, 8, "step_8")]
    assert back[0]["skipped_samples"] == 5 * 4
    assert "down_proj" in back[0]["message"]
    assert sum(e["event"] == "nonfinite" for e in done.events) == 3
    assert done.metrics.series("loss").steps.tolist() == list(range(1, 41))
    assert all(map(math.isfinite, done.metrics.series("gradient_norm").values))
    assert done.metrics.series("val_loss").values == pytest.approx(
        clean.metrics.series("val_loss").values, rel=0.01
    )
    assert done.state.tokens_total == clean.state.tokens_total
    assert all_finite(done)


def test_two_bad_steps_are_only_skipped(train: Train) -> None:
    done = train("two", hooks=poison(in_data(5 * 4, 7 * 4)))
    assert done.code == 0
    assert sum(e["event"] == "nonfinite" for e in done.events) == 2
    assert not any(e["event"] == "rolled_back" for e in done.events)


def test_after_a_rollback_into_warmup_full_comes_again(train: Train) -> None:
    shape = {"train__max_steps": 14, "optim__warmup_steps": 6}
    intervals = {"checkpoint__interval": 4, "eval__interval": 4}
    done = train("early", hooks=poison(in_data(6 * 4, 9 * 4)), **shape, **intervals)
    back = next(e for e in done.events if e["event"] == "rolled_back")
    assert back["to_step"] == 4 < back["from_step"]
    assert done.state.current_phase == "full"


def test_without_a_checkpoint_it_goes_back_to_the_start(train: Train) -> None:
    done = train("start", "--deterministic", hooks=poison(in_data(0, 3 * 4)))
    assert done.code == 0
    back = next(e for e in done.events if e["event"] == "rolled_back")
    assert (back["to_step"], back["checkpoint"], back["skipped_samples"]) == (0, "", 12)
    assert done.metrics.series("loss").steps.tolist() == list(range(1, 13))
    assert done.state.current_step == 12


def test_after_three_rollbacks_it_stops_with_a_diagnosis(train: Train) -> None:
    done = train("diverged", hooks=poison(lambda session: session.progress.step >= 5))
    assert done.code == 1
    assert [e["to_step"] for e in done.events if e["event"] == "rolled_back"] == [4, 4, 4]
    told = next(e for e in done.events if e["event"] == "diverged")
    assert told["first_bad_step"] == 6
    assert told["layer"] == "model.layers.0.mlp.down_proj.weight"
    assert told["learning_rate"] > 0
    state = done.state
    assert state.status == "failed"
    assert state.exit.final, "a supervisor that starts it again would only see the same"
    for word in ("3 rollbacks did not help", "first bad step 6", "down_proj", "learning rate"):
        assert word in state.exit.reason
    assert state.latest_checkpoint == "step_4"
    assert all_finite(done)


def test_rollbacks_that_help_are_not_counted_together(train: Train) -> None:
    """Four bad places, each with a checkpoint in between, are no divergence."""
    bad = [in_data(n * 4, (n + 3) * 4) for n in (5, 17, 29, 41)]
    anywhere = poison(lambda session: any(is_in(session) for is_in in bad))
    done = train("often", hooks=anywhere, train__max_steps=40)
    assert done.code == 0
    assert sum(e["event"] == "rolled_back" for e in done.events) == 4


def test_weights_too_large_for_any_loss(train: Train) -> None:
    """Nothing is injected here: the learning rate alone does it."""
    done = train(
        "nan",
        optim__learning_rate=1e30,
        optim__warmup_steps=0,
        optim__grad_clip=0,
        eval__interval=3,
        eval__sample_interval=4,
    )
    assert math.isfinite(done.metrics.series("loss").values[0])
    assert done.code == 1
    assert "did not help" in done.state.exit.reason
    assert not any(p.name.startswith("step_") for p in done.run.checkpoints.iterdir())


def test_what_was_passed_over_is_known_after_a_resume(train: Train) -> None:
    """A resume goes on behind the skipped data, and epochs still mean as many steps."""
    whole = train("whole", "--deterministic", "--epochs", "0.05", train__max_steps="null")
    steps = whole.state.max_steps
    assert steps > 20
    hooks = poison(in_data(5 * 4, 8 * 4))
    shape = {"train__max_steps": "null", "train__epochs": 0.05}
    done = train("skipping", "--deterministic", hooks=hooks, **shape)
    assert done.state.max_steps == steps
    one = done.hashes("final")
    again = resume(done.run, "--from", "step_12", hooks=hooks)
    assert again.state.max_steps == steps
    assert again.hashes("final") == one


# -- spikes ------------------------------------------------------------------------------


def leap(
    at_step: int, factor: float, after_step: Callable[[Session, StepResult], None] = nothing
) -> Hooks:
    """At one step the loss is `factor` times as large, and so is its gradient."""

    def after_backward(session: Session, parts: Sequence[Part]) -> None:
        if session.progress.step + 1 == at_step:
            for parameter in session.model.parameters():
                parameter.grad.mul_(factor)  # type: ignore[union-attr]
            for part in parts:
                part.loss.mul_(factor)

    return Hooks(after_backward=after_backward, after_step=after_step)


@pytest.mark.parametrize("skip", [False, True])
def test_a_spike_is_recorded_and_skipped_if_asked(train: Train, skip: bool) -> None:
    skipped: list[int] = []

    def after_step(session: Session, result: StepResult) -> None:
        if not result.updated:
            skipped.append(session.progress.step)

    hooks = leap(25, 3.0, after_step)
    done = train("spike", hooks=hooks, train__max_steps=30, stability__skip_spikes=skip)
    assert done.code == 0
    spikes = [e for e in done.events if e["event"] == "spike"]
    assert [(e["step"], e["skipped"]) for e in spikes] == [(25, skip)]
    assert spikes[0]["zscore"] > 6
    assert spikes[0]["loss"] == done.metrics.series("loss").values[24]
    assert skipped == ([25] if skip else [])


def test_the_window_survives_a_resume(train: Train) -> None:
    """With spikes skipped, what counts as one must be the same after a resume."""
    hooks = leap(25, 3.0)
    shape = {"train__max_steps": 30, "stability__skip_spikes": True, "checkpoint__interval": 20}
    whole = train("whole", "--deterministic", hooks=hooks, **shape)
    one = whole.hashes("final")
    again = resume(whole.run, "--from", "step_20", hooks=hooks)
    assert again.hashes("final") == one
    assert sum(e["event"] == "spike" for e in again.events) == 2


@given(
    st.lists(st.floats(-10, 10) | st.sampled_from([1e300, -1e17, 1e9, math.inf]), max_size=60),
    st.floats(0.5, 8.0),
)
def test_a_spike_is_what_lies_above_the_threshold(losses: list[float], zscore: float) -> None:
    """Whatever large losses have gone through the window."""
    window = SpikeWindow(StabilityConfig(spike_window=20, spike_zscore=zscore))
    for loss in losses:
        assert window.has(loss) == (loss > window.threshold())
        window.add(loss)


def test_spike_window() -> None:
    window = SpikeWindow(StabilityConfig(spike_window=32, spike_zscore=3.0))
    assert window.threshold() == math.inf
    for i in range(MIN_LOSSES):
        window.add(2.0 + 0.1 * (-1) ** i)
    window.add(math.nan)
    assert window.threshold() == pytest.approx(2.0 + 3 * 0.1)
    assert window.zscore(2.5) == pytest.approx(5.0)
    for _ in range(40):
        window.add(9.0)
    assert window.losses == [9.0] * 32
    assert window.threshold() == pytest.approx(9.0 * 1.03), "a flat curve's ripple is no spike"
