"""Memory runs out: the micro-batch is halved, the step is the same, the run ends the same."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence

import pytest
import torch

from shared.text import plural
from tests.trainer.loop.conftest import GPT2, Train, Trained, resume
from trainer.loop.figures import Part
from trainer.loop.hooks import Hooks, Purpose
from trainer.loop.session import Session

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"


def run_out(error: Exception, *, above: int, at_step: int = 5) -> tuple[Hooks, list[int]]:
    """From `at_step` on, more than `above` sequences at once raise; also the sizes tried.

    The error comes after the backward pass: what it has added to the gradients must not count.
    """
    tried: list[int] = []

    def after_backward(session: Session, parts: Sequence[Part]) -> None:
        if session.progress.step + 1 >= at_step:
            tried.append(parts[0].sequences)
            if tried[-1] > above:
                raise error

    return Hooks(after_backward=after_backward), tried


def no_room(purpose: Purpose, above: int) -> Hooks:
    """More than `above` sequences at once do not fit, for `purpose` alone."""

    def before_forward(what: Purpose, sequences: int) -> None:
        if what == purpose and sequences > above:
            raise MemoryError

    return Hooks(before_forward=before_forward)


ERRORS: dict[str, Callable[[], Exception]] = {
    "python": MemoryError,
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError(ALLOCATOR),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_the_loss_is_that_of_the_run_without_the_fault(
    train: Train, trained: Train, kind: str
) -> None:
    shape = {"train__dtype": "fp32", "train__batch_size": 8}
    whole = trained("whole", **shape)
    hooks, tried = run_out(ERRORS[kind](), above=2)
    done = train("faulted", hooks=hooks, **shape)
    assert done.code == 0
    assert tried[:3] == [8, 4, 2]
    assert set(tried[3:]) == {2}, "the size that worked is kept"
    for key in ("loss", "val_loss", "gradient_norm"):
        expected = whole.metrics.series(key).values
        assert done.metrics.series(key).values == pytest.approx(expected, abs=1e-5), key
    assert done.metrics.series("tokens_total").values.tolist() == (
        whole.metrics.series("tokens_total").values.tolist()
    )
    told = [e for e in done.events if e["event"] == "out_of_memory"]
    assert [(e["micro_batch"], e["retry_with"]) for e in told] == [(8, 4), (4, 2)]
    assert done.state.micro_batch == 2


def test_dropout_draws_the_same_again(train: Train) -> None:
    """A retry that fails nothing else must not move the generators."""
    shape = {**{k.replace(".", "__"): v for k, v in GPT2.items()}, "train__dtype": "fp32"}
    small = train("small", train__micro_batch=2, **shape)
    hooks, _ = run_out(MemoryError(), above=2, at_step=1)
    done = train("faulted", hooks=hooks, **shape)
    assert done.hashes("final") == small.hashes("final")


def test_the_size_that_worked_is_remembered(train: Train) -> None:
    hooks, _ = run_out(MemoryError(), above=1, at_step=3)
    first = train("remember", hooks=hooks)
    assert first.state.micro_batch == 1
    hooks, tried = run_out(MemoryError(), above=1, at_step=1)
    again = resume(first.run, "--max-steps", "15", hooks=hooks)
    assert again.code == 0
    assert set(tried) == {1}
    larger = resume(first.run, "--max-steps", "16", "--micro-batch", "2", hooks=hooks)
    assert larger.code == 0
    assert tried[-2:] == [2, 1], "another size that is asked for is tried"


def test_one_sequence_too_many_is_said(train: Train) -> None:
    hooks, _ = run_out(MemoryError("no more"), above=0)
    done = train("none", hooks=hooks)
    assert done.code == 1
    assert done.state.status == "failed"
    assert "a single sequence at a time (no more)" in done.state.exit.reason
    assert not done.state.exit.final, "there may be more memory another time"
    assert done.state.latest_checkpoint == "step_4"


def test_other_errors_are_not_taken_for_it(train: Train) -> None:
    hooks, _ = run_out(RuntimeError("shapes do not match"), above=2)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train("other", hooks=hooks)


def test_evaluation_shrinks_by_itself(train: Train, trained: Train) -> None:
    whole = trained("whole", train__dtype="fp32")
    done = train("evaluated", hooks=no_room("evaluate", above=1), train__dtype="fp32")
    assert done.code == 0
    expected = whole.metrics.series("val_loss").values
    assert done.metrics.series("val_loss").values == pytest.approx(expected, abs=1e-5)
    assert done.state.micro_batch is None, "training itself had room"


@pytest.mark.parametrize("room", [8, 3, 1])
def test_auto_finds_what_fits(train: Train, trained: Train, room: int) -> None:
    shape = {"train__dtype": "fp32", "train__batch_size": 4, "train__accumulation_steps": 2}
    whole = trained("whole", **shape)
    done = train("auto", hooks=no_room("probe", above=room), train__micro_batch="auto", **shape)
    size = {8: 8, 3: 2, 1: 1}[room]
    assert done.state.micro_batch == size
    assert (
        f"{plural(size, 'sequence')} at once: {plural(8 // size, 'micro-batch', 'es')} per step"
        in done.log
    )
    assert done.state.total_forward == 12 * 8 // size
    expected = whole.metrics.series("loss").values
    assert done.metrics.series("loss").values == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_real_limit_on_memory(train: Train, tmp_path: object) -> None:
    """A process whose address space ends (RLIMIT_AS): the allocator really refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    shape = {
        "train__batch_size": 256,
        "train__dtype": "fp32",
        "train__max_steps": 1,
        "model__max_seq_len": 256,
        "train__seq_len": 256,
        "model__hidden_size": 64,
    }
    train("warm", train__max_steps=1)  # torch's own buffers and threads are there by now
    used = int(next(x for x in open("/proc/self/status") if x.startswith("VmSize")).split()[1])  # noqa: SIM115, PTH123
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + (600 << 20), hard))
        done: Trained = train("limited", **shape)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert done.code == 0
    assert done.state.micro_batch is not None
    assert done.state.micro_batch < 256
    assert done.metrics.series("loss").steps.tolist() == [1]
