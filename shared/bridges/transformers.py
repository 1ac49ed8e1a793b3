"""transformers' Trainer writes our run directory: `Trainer(…, callbacks=[RunCallback("runs")])`."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bridges.configuration import config_of
from shared.bridges.guard import Guard
from shared.bridges.steering import NOTHING, Steering, Wish
from shared.json_text import Json, is_number
from shared.run_writer import RunWriter

if TYPE_CHECKING:
    RunCallback: Any

#: Keys of the Trainer that our readers know by another name.
_NAMES = {
    "grad_norm": "gradient_norm",
    "eval_loss": "val_loss",
    "num_input_tokens_seen": "tokens_total",
    "train_tokens_per_second": "tokens_per_second",
}
_SUMMARY = "train_runtime"  # a key of the last record, which sums up the training
_RANKS_EVERY = 8  # steps between two looks for requests where several ranks must agree
_TURN = 5.0  # seconds of a pause after which the ranks agree again: a collective has a timeout


class TrainerRun:
    """What `RunCallback` does. Only rank 0 writes; every rank obeys.

    `name` is that of the run: `TrainingArguments.run_name` by default, or else the name of the
    output folder.
    """

    def __init__(self, runs_dir: str | Path = "runs", name: str = "") -> None:
        self._runs_dir = runs_dir
        self._name = name
        self._run: _OpenRun | None = None
        self._paused = False

    @property
    def writer(self) -> RunWriter | None:
        """The run, while it is open on this rank."""
        return self._run.writer if self._run else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Open the run on rank 0."""
        if state.is_world_process_zero and self._run is None:
            name = self._name or args.run_name or Path(args.output_dir).name or "transformers"
            self._run = _OpenRun(RunWriter(self._runs_dir, name, **_facts(args, state, more)))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Record the step, and do what was asked."""
        if self._run:
            self._run.step(state)
        if args.world_size == 1 or state.global_step % _RANKS_EVERY == 0 or self._paused:
            return self._obey(args, state, control)
        return control

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Record what the Trainer logs."""
        if self._run and logs:
            self._run.log(state.global_step, logs)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """An evaluation makes progress too."""
        if self._run:
            self._run.writer.progress()

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Record an evaluation."""
        if self._run:
            numbers = {_NAMES.get(k, k): v for k, v in (metrics or {}).items() if is_number(v)}
            numbers.pop("epoch", None)
            self._run.writer.event("evaluated", **numbers)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Record a checkpoint; a paused run waits on."""
        if self._run:
            self._run.saved(state.global_step)
        return self._obey(args, state, control) if self._paused else control

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Record the end."""
        if self._run:
            self._run.finish()
        self._run = None

    def _obey(self, args: Any, state: Any, control: Any) -> Any:
        step = state.global_step
        if args.world_size == 1:
            wish = self._run.steering.look(step) if self._run else NOTHING
        else:
            wish = self._agree(step)
        self._paused = wish.paused
        control.should_save = control.should_save or wish.save
        control.should_training_stop = control.should_training_stop or wish.stop
        return control

    def _agree(self, step: int) -> Wish:
        """What rank 0 was asked, on every rank."""
        from accelerate.utils import broadcast_object_list

        while True:
            wishes = [self._run.steering.look(step, _TURN) if self._run else NOTHING]
            broadcast_object_list(wishes)
            wish = wishes[0]
            if wish.save or wish.stop or not wish.paused:
                return wish


class _OpenRun:
    """The run of one training."""

    def __init__(self, writer: RunWriter) -> None:
        self.writer = writer
        self.steering = Steering(writer)
        self._guard = Guard(writer)
        self._last = time.perf_counter()
        writer.set_status("running")

    def step(self, state: Any) -> None:
        now = time.perf_counter()
        self.writer.log(state.global_step, step_time_ms=(now - self._last) * 1000)
        self._last = now

    def log(self, step: int, logs: Mapping[str, Any]) -> None:
        numbers = {_NAMES.get(k, k): v for k, v in logs.items() if is_number(v)}
        if _SUMMARY in logs:
            self.writer.event("summary", **numbers)
        else:
            self.writer.log(step, **numbers)
        self._last = time.perf_counter()

    def saved(self, step: int) -> None:
        name = f"checkpoint-{step}"
        self.writer.progress()
        self.writer.event("checkpoint_saved", name=name)
        self.steering.saved(step, name)
        self._last = time.perf_counter()

    def finish(self) -> None:
        self.steering.not_saved("the training ended without another checkpoint")
        self.steering.close()
        self._guard.release()
        reason = self.steering.stop_reason
        self.writer.finish("cancelled" if reason else "completed", 0, reason)


def _facts(args: Any, state: Any, more: Mapping[str, Any]) -> Json:
    """What a run is told at its start, as arguments of `RunWriter`."""
    model = more.get("model")
    settings: Any = getattr(model, "config", None)
    described = settings.to_dict() if hasattr(settings, "to_dict") else {}
    counted = sum(p.numel() for p in model.parameters()) if model is not None else None
    return {
        "config": config_of("transformers", training=args.to_dict(), model=described),
        "max_steps": state.max_steps,
        "model": {"name": type(model).__name__, "parameters": counted},
        "device": str(args.device),
        "ranks": args.world_size,
    }


@functools.cache
def _callback() -> type:
    from transformers import TrainerCallback

    doc = TrainerRun.__doc__
    return type("RunCallback", (TrainerRun, TrainerCallback), {"__doc__": doc})


def __getattr__(name: str) -> Any:
    """`RunCallback`, whose base class is in transformers."""
    if name == "RunCallback":
        return _callback()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
