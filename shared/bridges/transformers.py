"""transformers' Trainer writes our run directory: `Trainer(…, callbacks=[RunCallback("runs")])`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.bridges.configuration import config_of
from shared.bridges.open_run import OpenRun, numbers_of
from shared.bridges.ranks import RANKS_EVERY, TURN, agree, through_accelerate
from shared.bridges.steering import NOTHING, Wish
from shared.bridges.trainer_checkpoints import TrainerCheckpoints, adopt_folder
from shared.checkpoints.owner import owner_of
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


class TrainerRun:
    """What `RunCallback` does. Only rank 0 writes; every rank obeys.

    `name` is that of the run: `TrainingArguments.run_name` by default, or else the name of the
    output folder.
    """

    def __init__(self, runs_dir: str | Path = "runs", name: str = "") -> None:
        self._runs_dir = Path(runs_dir).absolute()
        self._name = name
        self._run: OpenRun | None = None
        self._paused = False
        self._checkpoints: TrainerCheckpoints | None = None

    @property
    def writer(self) -> RunWriter | None:
        """The run, while it is open on this rank."""
        return self._run.writer if self._run else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Open the run on rank 0."""
        if state.is_world_process_zero and self._run is None:
            self._open(args, state, _facts(args, state, more))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Record the step, and do what was asked."""
        if self._run:
            self._run.step(state.global_step)
            self._wait(control.should_save)
        if args.world_size == 1 or state.global_step % RANKS_EVERY == 0 or self._paused:
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
            numbers = numbers_of(logs, _NAMES)
            if _SUMMARY in logs:
                self._run.writer.event("summary", **numbers)
            else:
                self._run.log(state.global_step, numbers)

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
            numbers = numbers_of(metrics, _NAMES)
            numbers.pop("epoch", None)
            self._run.writer.event("evaluated", **numbers)
            self._run.worked()
            self._wait(True)  # with save_strategy="best", it may be saved now

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint may be saved now, and older ones removed."""
        self._wait(control.should_save)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Record a checkpoint; a paused run waits on."""
        if self._run:
            step, name = state.global_step, f"checkpoint-{state.global_step}"
            if self._checkpoints:
                best = Path(state.best_model_checkpoint or "").name
                self._checkpoints.saved(name, step, _losses(state), best)
            else:
                self._run.writer.event("checkpoint_saved", name=name)
            self._run.saved(step, name)
        return self._obey(args, state, control) if self._paused else control

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Record the end."""
        if self._run:
            self._wait(True)
            self._run.finish()
        self._run = None

    def _open(self, args: Any, state: Any, facts: Json) -> None:
        """Open the run: a new one, or that of the checkpoint which the Trainer resumes from."""
        name = self._name or args.run_name or Path(args.output_dir).name or "transformers"
        folder = Path(args.output_dir)
        earlier = owner_of(folder.resolve()) if state.global_step else None
        if earlier is not None and earlier.path.parent.resolve() == self._runs_dir.resolve():
            writer = RunWriter(run=earlier, **facts)
            writer.event("resumed", checkpoint=f"checkpoint-{state.global_step}")
        else:
            writer = RunWriter(self._runs_dir, name, **facts)
        problem = ""
        if args.push_to_hub:
            problem = "push_to_hub uploads the whole output folder"
        else:
            try:
                problem = adopt_folder(folder, writer.run)
            except OSError as error:
                problem = f"{folder} cannot be used: {error.strerror}"
        if problem:
            writer.say(f"[WARN] The run does not list its checkpoints: {problem}")
        self._checkpoints = None if problem else TrainerCheckpoints(writer, folder)
        waits = self._checkpoints.wait if self._checkpoints else tuple
        self._run = OpenRun(writer, before_prune=waits)

    def _wait(self, needed: bool) -> None:
        if self._checkpoints and needed:
            self._checkpoints.wait()

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
        run = self._run
        return agree(lambda: run.steering.look(step, TURN) if run else NOTHING, through_accelerate)


def _losses(state: Any) -> Json:
    """What the newest records say of the step: the training loss, and a validation of it."""
    found: Json = {}
    for record in reversed(state.log_history[-4:]):
        for key, name in (("loss", "loss"), ("eval_loss", "val_loss")):
            if record.get("step") == state.global_step and is_number(record.get(key)):
                found.setdefault(name, record[key])
    return found


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
